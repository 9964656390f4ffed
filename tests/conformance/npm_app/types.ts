import { InputError, Tokenizer, type Frames, type Tokens } from 'vidtok-onnx-web'

export async function length(video: Frames): Promise<number> {
  const tok = await Tokenizer.load('bundle', { provider: 'wasm', threads: 1 })
  const tokens: Tokens = await tok.encode(video, { fps: '30000/1001' })
  if (!tokens.length) throw new InputError('no tokens')
  // @ts-expect-error: there is no such option
  await Tokenizer.load('bundle', { thread: 1 })
  return tokens.info.numFrames
}
