/** Does the work beside the page: loads engine and bundle, encodes, decodes, and reports each step. */

import { concat, saveTokens, Tokenizer } from '../src/index.js'
import { bitsOf, Psnr } from './measure.js'
import { VideoOutput } from './video_output.js'

/** @import { StreamSpec } from '../src/index.js' */
/** @import { Clip } from './clip.js' */
/** @import { Written } from './video_output.js' */

/**
 * What the page asks for; module, library: addresses of the engine and of mediabunny; maxTile: as that of
 * `Tokenizer.load`.
 * @typedef {object} Job
 * @property {string} bundle
 * @property {'wasm' | 'webgpu'} provider
 * @property {string} module
 * @property {string} library
 * @property {number} threads
 * @property {number | undefined} maxTile
 * @property {Clip} clip
 *
 * @typedef {{ data: Int32Array | Float32Array, length: number, channels: number, h: number, w: number }} Latents
 *
 * What it is told, in this order, `progress` and `frames` again and again; times in seconds, file: the token file.
 * @typedef {object} Reports
 * @property {(report: { stage: 'load' | 'encode' | 'decode' }) => void} stage
 * @property {(report: { done: number, total: number }) => void} progress
 * @property {(report: { tokens: Latents, file: Uint8Array, stream: StreamSpec }) => void} tokens
 * @property {(report: { data: Uint8Array, first: number, frames: number }) => void} frames
 * @property {(report: { written: Written }) => void} video
 * @property {(report: Figures) => void} done
 *
 * @typedef {{ loading: number, encoding: number, decoding: number, psnr: number, provider: string, bits: number }} Figures
 */

/** @type {Promise<Tokenizer> | undefined} */
let loaded

/** @param {Job} job */
async function load({ bundle, provider, module, threads, maxTile }) {
  const source = new URL(`../bundles/${encodeURIComponent(bundle)}`, import.meta.url).href
  return Tokenizer.load(source, { ort: await import(module), provider, threads, maxTile })
}

/** Seconds since it was asked last. */
class Watch {
  since = performance.now()

  lap() {
    const before = this.since
    this.since = performance.now()
    return (this.since - before) / 1000
  }
}

/**
 * @template {keyof Reports} Kind
 * @param {Kind} kind
 * @param {Parameters<Reports[Kind]>[0]} report
 */
const tell = (kind, report) => postMessage({ kind, ...report })

/**
 * @param {Tokenizer} tok
 * @param {Clip} clip
 */
async function encode(tok, clip) {
  const encoder = tok.encoder(clip.height, clip.width)
  const size = clip.height * clip.width * 3
  const outs = []
  for (let at = 0; at < clip.frames; ) {
    const frames = Math.min(encoder.callSize, clip.frames - at)
    outs.push(await encoder.push({ ...clip, data: clip.data.subarray(at * size, (at + frames) * size), frames }))
    at += frames
    tell('progress', { done: at, total: clip.frames })
  }
  outs.push(await encoder.finish())
  return concat(outs)
}

/**
 * The frames of each decoder call.
 * @param {Tokenizer} tok
 * @param {Latents} latents
 * @param {Clip} clip
 */
async function* decode(tok, latents, { frames, height, width }) {
  const decoder = tok.decoder({ numFrames: frames, height, width })
  const size = latents.data.length / latents.length
  for (let at = 0; at < latents.length; ) {
    const length = Math.min(decoder.callSize, latents.length - at)
    yield decoder.push({ ...latents, data: latents.data.subarray(at * size, (at + length) * size), length })
    at += length
  }
  yield decoder.finish()
}

/** @param {Job} job */
async function run(job) {
  const { clip } = job
  const watch = new Watch()
  tell('stage', { stage: 'load' })
  loaded ??= load(job)
  const tok = await loaded
  const loading = watch.lap()

  tell('stage', { stage: 'encode' })
  const tokens = await encode(tok, clip)
  const encoding = watch.lap()
  const { frames: numFrames, lastDuration = null, pts } = clip
  const info = { ...tok.describe({ ...clip, numFrames }), lastDuration }
  tell('tokens', { tokens, file: await saveTokens({ ...tokens, info, pts }), stream: tok.manifest.stream })

  tell('stage', { stage: 'decode' })
  const size = clip.height * clip.width * 3
  const psnr = new Psnr()
  const output = new VideoOutput(clip)
  await output.open(job.library)
  let decoding = 0
  watch.lap()
  for await (const { data, frames } of decode(tok, tokens, clip)) {
    if (!(data instanceof Uint8Array)) throw new TypeError('frames for the screen are bytes')
    decoding += watch.lap()
    const first = psnr.frames
    for (let i = 0; i < frames; i++) {
      psnr.add(clip.data.subarray((first + i) * size, (first + i + 1) * size), data.subarray(i * size, (i + 1) * size))
    }
    tell('frames', { data, first, frames })
    await output.push(data, frames)
    watch.lap()
  }
  tell('video', { written: await output.finish() })
  const bits = bitsOf(tokens.data.length, tok.manifest.stream.codebookSize)
  tell('done', { loading, encoding, decoding, psnr: psnr.mean, provider: tok.provider, bits })
}

onmessage = ({ data }) => {
  run(data).catch((error) => postMessage({ kind: 'error', text: error?.message ?? String(error) }))
}
