/** Encoding as a stream: any number of frames a push, constant memory. */
import { Calls } from './calls.js'
import { InputError } from './errors.js'
import { checkFrames, roundUp, toNetwork } from './geometry.js'
import { concat, sizeOf } from './items.js'
import { Queue } from './queue.js'

/** @import { Frames, Latents } from './index.js' */
/** @import { Chunk } from './chunk.js' */
/** @import { CallRule, Manifest } from './manifest.js' */
/** @import { StatefulGraph } from './session.js' */

/**
 * Frames in, latents or indices out. The first frame is repeated in front and, by `finish`, the last one behind, as the
 * manifest says. A non-causal variant encodes windows on their own.
 */
export class EncoderStream {
  #queue = new Queue()
  #numFrames = 0
  #finished = false
  /** @type {Chunk | null} the last frame */
  #last = null

  /**
   * @param {Manifest} manifest
   * @param {StatefulGraph} graph
   * @param {CallRule} rule
   * @param {number} [height]
   * @param {number} [width]
   */
  constructor(manifest, graph, rule, height, width) {
    this.manifest = manifest
    this.graph = graph
    this.calls = new Calls(graph, rule)
    this.height = height
    this.width = width
  }

  /** Frames taken so far. */
  get numFrames() {
    return this.#numFrames
  }

  /**
   * Take any number of frames; gives every latent that is complete. Throws InputError.
   * @param {Frames} frames
   * @returns {Promise<Latents>}
   */
  push(frames) {
    return this.#queue.run(() => this.#push(frames))
  }

  /**
   * Repeat the last frame up to a whole latent; gives what is left, the second time nothing.
   * @returns {Promise<Latents>}
   */
  finish() {
    return this.#queue.run(() => this.#finish())
  }

  /** Give up the stream and what the engine keeps for it; `finish` does it, too. */
  dispose() {
    this.#finished = true
    this.graph.dispose()
  }

  /** @param {Frames} frames */
  async #push(frames) {
    if (this.#finished) throw new InputError('this encoder is finished; ask the tokenizer for a new one')
    checkFrames(frames)
    const { manifest, calls } = this
    this.height ??= frames.height
    this.width ??= frames.width
    if (frames.height !== this.height || frames.width !== this.width) {
      throw new InputError(`frames of one stream are all ${this.width}x${this.height}, got ${sizeOf(frames)}`)
    }
    const out = []
    // Piece by piece, so that a long push costs no more float memory than a short one.
    for (let start = 0; start < frames.frames; start += calls.rule.most) {
      const stop = Math.min(start + calls.rule.most, frames.frames)
      const piece = toNetwork(frames, start, stop, manifest.spatialMultiple)
      if (this.#numFrames === 0) out.push(...(await calls.push(piece.repeat(0, manifest.frontFrames))))
      this.#numFrames += piece.length
      this.#last = piece.repeat(piece.length - 1, 1)
      out.push(...(await calls.push(piece)))
    }
    return this.#join(out)
  }

  async #finish() {
    if (this.#finished) return this.#join([])
    this.#finished = true
    if (!this.#last) return this.#join([])
    const { frontFrames, timeFactor } = this.manifest
    const taken = frontFrames + this.#numFrames
    const out = await this.calls.push(this.#last.repeat(0, roundUp(taken, timeFactor) - taken))
    out.push(...(await this.calls.finish()))
    this.dispose()
    return this.#join(out)
  }

  /**
   * Results of calls, `[1, C, t, h, w]` or `[1, t, h, w]`, with time outermost.
   * @param {Chunk[]} results
   * @returns {Latents}
   */
  #join(results) {
    const { codebookSize, latentChannels, spatialMultiple } = this.manifest
    const channels = codebookSize === null ? latentChannels : 1
    const [h, w] = [this.height, this.width].map((n) => roundUp(n ?? 0, spatialMultiple) / spatialMultiple)
    const data = codebookSize === null ? new Float32Array(0) : new Int32Array(0)
    const parts = results.map((r) => ({ data: swapped(r.data, channels, r.length), length: r.length, channels, h, w }))
    return concat([{ data, length: 0, channels, h, w }, ...parts])
  }
}

/**
 * `[a, b, ...]` as `[b, a, ...]`.
 * @template {Float32Array | Int32Array} T
 * @param {T} data
 * @param {number} a
 * @param {number} b
 * @returns {T}
 */
export function swapped(data, a, b) {
  if (a === 1 || b === 1) return data
  const out = /** @type {T} */ (data.slice())
  const row = data.length / (a * b)
  for (let i = 0; i < a; i++) {
    for (let j = 0; j < b; j++) {
      const from = (i * b + j) * row
      out.set(data.subarray(from, from + row), (j * a + i) * row)
    }
  }
  return out
}
