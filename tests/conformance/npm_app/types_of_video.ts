import type { Frames } from 'vidtok-onnx-web'
import { VideoReader } from 'vidtok-onnx-web/video'

export async function* pictures(file: Blob): AsyncGenerator<Frames> {
  const reader = await VideoReader.open(file)
  for await (const frame of reader.frames({ start: 1.5 })) yield { ...frame, frames: Number(frame.pts >= 0n) }
}
