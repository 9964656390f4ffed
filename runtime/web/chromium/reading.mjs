/**
 * node reading.mjs ADDRESS SHORT ROUNDS FILE...: how fast the page reads video files, decoded and by seeking, in turns.
 * SHORT: pixels of the shorter side. Prints frames a second of every round, and the quotient of the medians.
 */

import { basename } from 'node:path'
import { give } from './files.mjs'
import { onPage } from './launch.mjs'

const [address, short, rounds, ...paths] = process.argv.slice(2)

/** @param {{ name: string, short: number, rounds: number }} job */
async function inPage({ name, short, rounds }) {
  const load = (/** @type {string} */ path) => import(String(new URL(path, location.href)))
  const [{ VideoReader }, { DecodedVideo }, { SoughtVideo }, mediabunny] = await Promise.all(
    ['/src/video/index.js', '/page/video_decoded.js', '/page/video_sought.js', '/npm/mediabunny.min.mjs'].map(load),
  )
  const file = new File([await (await fetch(`/given/${name}`)).blob()], name)
  const reader = await VideoReader.open(file, { mediabunny })
  const video = /** @type {HTMLVideoElement} */ (document.getElementById('preview'))
  Object.assign(video, { src: URL.createObjectURL(file), hidden: false })
  const sought = new SoughtVideo(video, name)
  await sought.open()
  /** @type {Record<string, number[]>} */
  const rates = { decoded: [], sought: [] }
  const ways = { decoded: new DecodedVideo(reader), sought }
  let frames = 0
  for (let i = 0; i < rounds; i++) {
    for (const [way, source] of Object.entries(ways)) {
      const since = performance.now()
      const wanted = { short, frames: 300, fps: reader.fps, start: 0 }
      const clip = await source.capture(wanted, new AbortController().signal, () => {})
      rates[way].push((1000 * clip.frames) / (performance.now() - since))
      frames ||= clip.frames
      if (clip.frames !== frames) throw new Error(`${way} gave ${clip.frames} frames, not ${frames}`)
    }
  }
  const median = (/** @type {number[]} */ values) => [...values].sort((a, b) => a - b)[values.length >> 1]
  const { height, width, codec } = reader
  return { frames, height, width, codec, ...rates, times: median(rates.decoded) / median(rates.sought) }
}

await onPage(address, {}, async (page) => {
  await give(page, paths)
  /** @type {Record<string, object>} */
  const found = {}
  for (const name of paths.map((path) => basename(path))) {
    found[name] = await page.evaluate(inPage, { name, short: Number(short), rounds: Number(rounds) })
  }
  return found
})
