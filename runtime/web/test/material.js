/** Bundles, clips and a made-up engine for the tests. */
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { concat } from '../src/index.js'
import { slice } from '../src/items.js'

/** @import { Frames, Latents, Stream } from '../src/index.js' */

/** @param {string} path from the repository's root */
export function place(path) {
  return fileURLToPath(new URL(`../../../${path}`, import.meta.url))
}

export const FSQ = place('runtime/vidtok_runtime/bundles/tiny-fsq-32768')
export const KL = place('runtime/vidtok_runtime/bundles/tiny-kl-16chn')

/**
 * Moving stripes.
 * @param {number} frames
 * @param {number} height
 * @param {number} width
 * @returns {Frames & { data: Uint8Array }}
 */
export function clip(frames, height, width) {
  const data = new Uint8Array(frames * height * width * 3)
  for (let i = 0; i < data.length; i++) {
    const pixel = Math.floor(i / 3)
    const [x, row] = [pixel % width, Math.floor(pixel / width)]
    const [y, t] = [row % height, Math.floor(row / height)]
    data[i] = 127 + 120 * Math.sin((x + y * (1 + (i % 3)) + 2 * t) / 5)
  }
  return { data, frames, height, width }
}

/**
 * The largest difference.
 * @param {ArrayLike<number>} a
 * @param {ArrayLike<number>} b
 */
export function largestDifference(a, b) {
  let largest = a.length === b.length ? 0 : Infinity
  for (let i = 0; i < a.length; i++) largest = Math.max(largest, Math.abs(a[i] - b[i]))
  return largest
}

/**
 * What a stream gives of items pushed in pieces.
 * @template {Frames | Latents} In
 * @template {Frames | Latents} Out
 * @param {Stream<In, Out>} stream
 * @param {In} items
 * @param {number[]} sizes
 */
export async function streamed(stream, items, sizes) {
  /** @type {Out[]} */
  const out = []
  let done = 0
  for (const size of sizes) out.push(await stream.push(slice(items, done, (done += size))))
  return concat([...out, await stream.finish()])
}

/**
 * What reads a bundle's files, its manifest changed.
 * @param {string} folder
 * @param {(manifest: any) => void} change
 * @returns {(name: string) => Promise<Uint8Array>}
 */
export function changed(folder, change) {
  return async (name) => {
    const content = await readFile(`${folder}/${name}`)
    if (name !== 'manifest.json') return content
    const manifest = JSON.parse(content.toString())
    change(manifest)
    return Buffer.from(JSON.stringify(manifest))
  }
}
