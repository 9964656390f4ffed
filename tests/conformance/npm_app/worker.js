import { Tokenizer } from 'vidtok-onnx-web'

onmessage = async ({ data: video }) => {
  const tok = await Tokenizer.load('/tiny-fsq-32768', { threads: 2 })
  postMessage(Array.from((await tok.encode(video)).data))
}
