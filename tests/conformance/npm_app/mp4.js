import { VideoReader, VideoWriter } from 'vidtok-onnx-web/video'

/** The frames of a file as a new MP4, and what it holds. */
export async function written(file) {
  const reader = await VideoReader.open(file) // of an <input type="file">, or any Blob
  const writer = await VideoWriter.open({ height: 32, width: 48, fps: reader.fps, timeBase: reader.timeBase })
  for await (const frame of reader.frames({ height: 32, width: 48 })) {
    await writer.push(frame, BigInt64Array.of(frame.pts)) // or to an encoder, and here what a decoder gives
  }
  const mp4 = await writer.finish()
  const again = await VideoReader.open(new Blob([mp4]))
  const pts = []
  for await (const frame of again.frames()) pts.push(Number(frame.pts))
  return { codec: writer.codec, size: [again.height, again.width], timeBase: again.timeBase, pts }
}
