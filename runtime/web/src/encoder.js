/** Encoding as a stream: any number of frames a push, constant memory. */
import { Calls } from './calls.js'
import { InputError } from './errors.js'
import { checkFrames, paddedSize, toNetwork } from './geometry.js'
import { concat, sizeOf } from './items.js'
import { StreamQueue } from './queue.js'
import { normalize } from './scale.js'
import { callSize } from './stream_spec.js'
import { paddedLength } from './timing.js'

/** @import { Frames, Latents, StreamSpec } from './index.js' */
/** @import { StatefulChain } from './chain.js' */
/** @import { Chunk } from './chunk.js' */

/**
 * Frames in, latents or indices out. The first frame is repeated in front and, by `finish`, the last one behind, as the
 * manifest says.
 */
export class EncoderStream {
  #queue = new StreamQueue()
  #numFrames = 0
  #finished = false
  /** @type {Chunk | null} the last frame */
  #last = null

  /**
   * @param {StreamSpec} spec
   * @param {StatefulChain} chain
   * @param {{ height?: number, width?: number, normalized?: boolean }} options
   */
  constructor(spec, chain, { height, width, normalized = false }) {
    this.spec = spec
    this.chain = chain
    this.calls = new Calls(chain, spec.encoder, 0)
    this.height = height
    this.width = width
    this.normalized = normalized
  }

  /** Frames taken so far. */
  get numFrames() {
    return this.#numFrames
  }

  /** Frames that a call takes at most. */
  get callSize() {
    return callSize(this.spec, 'encoder')
  }

  /**
   * Take any number of frames; gives every latent that is complete. Throws InputError.
   * @param {Frames} frames
   * @returns {Promise<Latents>}
   */
  push(frames) {
    return this.#queue.runChecked(
      () => {
        if (this.#finished) throw new InputError('this encoder is finished; ask the tokenizer for a new one')
        this.check(frames)
      },
      () => this.#push(frames),
    )
  }

  /**
   * Repeat the last frame up to a length that the model takes; gives what is left, the second time nothing.
   * @returns {Promise<Latents>}
   */
  finish() {
    return this.#queue.runChecked(() => {}, () => this.#finish())
  }

  /**
   * Give up the stream and what the engine keeps for it; `finish` does it, too. A push that is not done fails.
   * @returns {Promise<void>}
   */
  dispose() {
    this.#finished = true
    // In its turn: a call that is running goes on with the states.
    return this.#queue.run(async () => this.chain.dispose())
  }

  /**
   * Refuse what no push takes; changes nothing. Throws InputError.
   * @param {Frames} frames
   */
  check(frames) {
    checkFrames(frames)
    const [height, width] = [this.height ?? frames.height, this.width ?? frames.width]
    if (frames.height !== height || frames.width !== width) {
      throw new InputError(`frames of one stream are all ${width}x${height}, got ${sizeOf(frames)}`)
    }
  }

  /** @param {Frames} frames */
  async #push(frames) {
    const { spec, calls } = this
    this.height ??= frames.height
    this.width ??= frames.width
    const out = []
    // Piece by piece, so that a long push costs no more float memory than a short one.
    for (let start = 0; start < frames.frames; start += this.callSize) {
      const piece = toNetwork(frames, start, Math.min(start + this.callSize, frames.frames), spec)
      if (this.#numFrames === 0) out.push(...(await calls.push(piece.repeat(0, spec.frontFrames))))
      this.#numFrames += piece.length
      this.#last = piece.repeat(piece.length - 1, 1)
      out.push(...(await calls.push(piece)))
      if (this.#finished) throw new InputError('this encoder was given up during a push; ask the tokenizer for a new one')
    }
    return this.#join(out)
  }

  async #finish() {
    if (this.#finished) return this.#join([])
    this.#finished = true
    if (!this.#last) return this.#join([])
    const { frontFrames, length } = this.spec
    const taken = frontFrames + this.#numFrames
    const out = await this.calls.push(this.#last.repeat(0, paddedLength(length, taken) - taken))
    out.push(...(await this.calls.finish()))
    this.chain.dispose()
    return this.#join(out)
  }

  /**
   * Results of calls, `[1, C, t, h, w]` or `[1, t, h, w]`, with time outermost.
   * @param {Chunk[]} results
   * @returns {Latents}
   */
  #join(results) {
    const { codebookSize, latentChannels, spatialMultiple } = this.spec
    const channels = codebookSize === null ? latentChannels : 1
    const [h, w] = paddedSize(this.spec, this.height ?? 0, this.width ?? 0).map((n) => n / spatialMultiple)
    const data = codebookSize === null ? new Float32Array(0) : new Int32Array(0)
    const parts = results.map((r) => ({ data: swapped(r.data, channels, r.length), length: r.length, channels, h, w }))
    const all = concat([{ data, length: 0, channels, h, w }, ...parts])
    return this.normalized ? normalize(all, this.spec) : all
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
