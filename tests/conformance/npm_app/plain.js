/** Names from the import map, and then addresses in a worker, which has no import map. */
import { Tokenizer } from 'vidtok-onnx-web'
import { video } from './clip.js'
import { written } from './mp4.js'

const tok = await Tokenizer.load('public/tiny-fsq-32768', { threads: 1 })
const page = Array.from((await tok.encode(video)).data)
const worker = new Worker('plain_worker.js', { type: 'module' })
worker.onmessage = async ({ data }) => {
  const { pts } = await written(await (await fetch('public/clip.mkv')).blob())
  document.getElementById('found').textContent = JSON.stringify({ page, worker: data, pts })
}
worker.postMessage(video)
