/**
 * node stream.mjs ADDRESS BUNDLE PROVIDER CLIP SIDE FOLDER: a clip of raw frames of SIDE x SIDE pixels, frame by frame.
 * Writes its tokens, tokens.safetensors, and the frames decoded of them latent by latent, frames.rgb, into FOLDER.
 * Prints the calls of all graphs in their order (see watch.mjs), and the bytes of the page after a quarter and at the
 * end of the encoding.
 */

import { writeFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { addTake, give } from './files.mjs'
import { SOFTWARE_GPU, onPage } from './launch.mjs'
import { watchEngines } from './watch.mjs'

const [address, bundle, provider, clip, side, folder] = process.argv.slice(2)

/** @param {{ bundle: string, provider: string, clip: string, side: number }} job */
async function inPage({ bundle, provider, clip, side }) {
  const load = (/** @type {string} */ path) => import(String(new URL(path, location.href)))
  const { Tokenizer, concat, saveTokens } = await load('/src/index.js')
  const { calls, take, watched } = /** @type {any} */ (globalThis)
  const ort = watched(await load(`/npm/ort.${provider}.min.mjs`))
  const tok = await Tokenizer.load(`/bundles/${bundle}`, { ort, provider, threads: 1 })
  const video = new Uint8Array(await (await fetch(`/given/${clip}`)).arrayBuffer())
  const size = side * side * 3
  const numFrames = video.length / size
  const memory = async () => (await /** @type {any} */ (performance).measureUserAgentSpecificMemory()).bytes

  const encoder = tok.encoder(side, side)
  const outs = []
  const bytes = []
  for (let i = 0; i < numFrames; i++) {
    outs.push(await encoder.push({ data: video.subarray(i * size, (i + 1) * size), frames: 1, height: side, width: side }))
    if (i + 1 === numFrames >> 2 || i + 1 === numFrames) bytes.push(await memory())
  }
  outs.push(await encoder.finish())
  const tokens = concat(outs)
  const info = tok.describe({ numFrames, height: side, width: side, fps: 24 })

  const decoder = tok.decoder({ numFrames, height: side, width: side })
  const one = tokens.data.length / tokens.length
  const frames = []
  for (let i = 0; i < tokens.length; i++) {
    const { data } = await decoder.push({ ...tokens, data: tokens.data.slice(i * one, (i + 1) * one), length: 1 })
    frames.push(data)
  }
  frames.push((await decoder.finish()).data)
  await tok.dispose()
  const file = await take(new Blob([await saveTokens({ ...tokens, info })]))
  return { file, frames: await take(new Blob(frames)), found: { calls, bytes } }
}

/** @param {import('playwright-core').Page} page */
async function stream(page) {
  await watchEngines(page)
  await give(page, [clip])
  await addTake(page)
  const { file, frames, found } = await page.evaluate(inPage, { bundle, provider, clip: basename(clip), side: Number(side) })
  await writeFile(`${folder}/tokens.safetensors`, Buffer.from(file, 'base64'))
  await writeFile(`${folder}/frames.rgb`, Buffer.from(frames, 'base64'))
  return found
}

await onPage(address, {}, stream, provider === 'webgpu' ? SOFTWARE_GPU : undefined)
