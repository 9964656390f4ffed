/** Tokens from a worker on two threads, and from the page itself on WebGPU where the address asks for it. */
import { Tokenizer } from 'vidtok-onnx-web'
import { video } from './clip.js'
import { written } from './mp4.js'

const worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module' })
worker.onmessage = async ({ data }) => {
  const found = { 'wasm in a worker': data, video: await written(await (await fetch('/clip.mkv')).blob()) }
  if (location.search === '?webgpu') {
    const tok = await Tokenizer.load('tiny-fsq-32768', { provider: 'webgpu', threads: 1 })
    found.webgpu = Array.from((await tok.encode(video)).data)
  }
  document.getElementById('found').textContent = JSON.stringify(found)
}
worker.postMessage(video)
