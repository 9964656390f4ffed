/** Decoding as a stream: any number of latents a push, constant memory. */
import { Calls } from './calls.js'
import { Chunk } from './chunk.js'
import { swapped } from './encoder.js'
import { InputError } from './errors.js'
import { blank, fromNetwork, paddedSize } from './geometry.js'
import { concat, slice } from './items.js'
import { StreamQueue } from './queue.js'
import { denormalize } from './scale.js'
import { SURPLUS, callSize } from './stream_spec.js'
import { isFinite } from './tensors.js'
import { framesOf, latentsOf, paddedLength } from './timing.js'

/** @import { DecoderOptions, Frames, Latents, StreamSpec } from './index.js' */
/** @import { StatefulChain } from './chain.js' */

/**
 * Latents or indices in, frames out. The frames of the front padding never come out; with `numFrames`, `height` and
 * `width` the tail and the edge padding are cut off, too. Where the manifest names a look-ahead, as many frames wait
 * for the next latent or for `finish`; where it drops a surplus, all wait, since only the end tells how much that is.
 */
export class DecoderStream {
  #queue = new StreamQueue()
  #finished = false
  /** @type {Calls | null} null: until it is known what is dropped */
  #calls
  /** @type {Latents[]} */
  #waiting = []
  /** @type {number | undefined} frames that are still to come */
  #left
  /** @type {{ h: number, w: number } | null} */
  #size = null

  /**
   * @param {StreamSpec} spec
   * @param {StatefulChain} chain
   * @param {DecoderOptions & { normalized?: boolean }} options
   */
  constructor(spec, chain, { numFrames, height, width, dtype = 'uint8', normalized = false }) {
    if (dtype !== 'uint8' && dtype !== 'float32') throw new InputError(`frames are uint8 or float32, got '${dtype}'`)
    const { drop } = spec.decoder
    this.spec = spec
    this.chain = chain
    this.height = height
    this.width = width
    this.dtype = dtype
    this.normalized = normalized
    this.#calls = drop === SURPLUS ? null : new Calls(chain, spec.decoder, drop)
    this.#left = numFrames
  }

  /** Latents that a call takes at most. */
  get callSize() {
    return callSize(this.spec, 'decoder')
  }

  /**
   * Take any number of latents; gives every frame they complete. Throws InputError.
   * @param {Latents} latents
   * @returns {Promise<Frames>}
   */
  push(latents) {
    return this.#queue.runChecked(
      () => {
        if (this.#finished) throw new InputError('this decoder is finished; ask the tokenizer for a new one')
        this.check(latents)
      },
      () => this.#push(latents),
    )
  }

  /**
   * End the stream and give what waited; throws InputError when fewer frames came out than were promised.
   * @returns {Promise<Frames>}
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

  /** @param {Latents} latents */
  async #push(latents) {
    if (latents.length) this.#size = { h: latents.h, w: latents.w }
    if (this.#calls) return this.#run(this.#calls, latents)
    // A copy, since what waits must not change with the caller's array.
    this.#waiting.push({ ...latents, data: latents.data.slice() })
    return this.#nothing()
  }

  /**
   * @param {Calls} calls
   * @param {Latents} latents
   */
  async #run(calls, latents) {
    const out = [this.#nothing()]
    for (let start = 0; start < latents.length; start += this.callSize) {
      const piece = slice(latents, start, start + this.callSize)
      const { data, length, channels, h, w } = this.normalized ? denormalize(piece, this.spec) : piece
      const dims = this.spec.codebookSize === null ? [1, channels, length, h, w] : [1, length, h, w]
      const x = new Chunk(swapped(data, length, channels).slice(), dims) // a copy
      for (const video of await calls.push(x)) out.push(this.#deliver(video))
      if (this.#finished) throw new InputError('this decoder was given up while it ran; ask the tokenizer for a new one')
    }
    return concat(out)
  }

  async #finish() {
    const out = [this.#nothing()]
    if (this.#left !== 0 && !this.#finished) {
      if (this.#waiting.length) {
        const latents = concat(this.#waiting)
        this.#calls = new Calls(this.chain, this.spec.decoder, this.#surplus(latents.length))
        out.push(await this.#run(this.#calls, latents))
      }
      for (const video of (await this.#calls?.finish()) ?? []) out.push(this.#deliver(video))
    }
    this.#finished = true
    this.chain.dispose()
    if (this.#left) throw new InputError(`the tokens end ${this.#left} frames too early; the stream is incomplete`)
    return concat(out)
  }

  /**
   * What the calls of a stream of so many latents give beyond its frames and those behind them.
   * @param {number} latents
   */
  #surplus(latents) {
    const { spec } = this
    const told = this.#left !== undefined && latentsOf(spec, this.#left) === latents ? this.#left : undefined
    const frames = told ?? framesOf(spec, latents)
    const given = latents * spec.timeFactor + spec.lookAhead
    return Math.max(0, given - (paddedLength(spec.length, spec.frontFrames + frames) - spec.frontFrames))
  }

  /** @param {Chunk} video */
  #deliver(video) {
    const [, , , high, wide] = video.dims
    let frames = fromNetwork(video, this.height ?? high, this.width ?? wide, this.dtype, this.spec)
    if (this.#left !== undefined) {
      frames = slice(frames, 0, this.#left)
      this.#left -= frames.frames
    }
    return frames
  }

  /**
   * Refuse what no push takes; changes nothing. Throws InputError.
   * @param {Latents} latents
   */
  check({ data, length, channels, h, w }) {
    const { codebookSize, latentChannels, spatialMultiple } = this.spec
    const shape = `[${length}, ${channels}, ${h}, ${w}]`
    const expected = codebookSize === null ? latentChannels : 1
    const Numbers = codebookSize === null ? Float32Array : Int32Array
    if (!(data instanceof Numbers) || channels !== expected || data.length !== length * channels * h * w) {
      throw new InputError(
        `latents must be a ${Numbers.name} [t, ${expected}, h, w], got a ${data?.constructor?.name} of ` +
          `${data?.length} numbers as ${shape}`,
      )
    }
    if (data instanceof Float32Array) {
      if (!isFinite(data)) throw new InputError('latents hold NaN or infinite values')
    } else {
      checkCodes(data, codebookSize ?? 0)
    }
    if (length === 0) return
    if (this.#size && (h !== this.#size.h || w !== this.#size.w)) {
      throw new InputError(`latents of one stream have one size, got ${h}x${w} after ${this.#size.h}x${this.#size.w}`)
    }
    // What is not given may be as large as the latents say.
    const size = [this.height ?? h * spatialMultiple, this.width ?? w * spatialMultiple]
    const needed = paddedSize(this.spec, size[0], size[1]).map((pixels) => pixels / spatialMultiple)
    for (const [i, cells] of [h, w].entries()) {
      if (cells === needed[i]) continue
      const what = ['height', 'width'][i]
      throw new InputError(`a ${what} of ${size[i]} pixels needs ${needed[i]} latents, got ${cells}`)
    }
  }

  #nothing() {
    const { h, w } = this.#size ?? { h: 0, w: 0 }
    const multiple = this.spec.spatialMultiple
    return blank(0, this.height ?? h * multiple, this.width ?? w * multiple, this.dtype)
  }
}

/**
 * Throw InputError unless all tokens are codes.
 * @param {Int32Array} data
 * @param {number} codes
 */
export function checkCodes(data, codes) {
  const wrong = data.find((token) => token < 0 || token >= codes)
  if (wrong !== undefined) throw new InputError(`tokens must lie in 0..${codes - 1}, got ${wrong}`)
}
