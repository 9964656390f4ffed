import * as ort from '/node_modules/onnxruntime-web/dist/ort.wasm.min.mjs'
import { Tokenizer } from '/node_modules/vidtok-onnx-web/src/index.js'

onmessage = async ({ data: video }) => {
  const tok = await Tokenizer.load('public/tiny-fsq-32768', { ort, threads: 2 })
  postMessage(Array.from((await tok.encode(video)).data))
}
