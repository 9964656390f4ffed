/** Decoding as a stream: any number of latents a push, constant memory. */
import { Calls } from './calls.js'
import { Chunk } from './chunk.js'
import { swapped } from './encoder.js'
import { InputError } from './errors.js'
import { blank, fromNetwork } from './geometry.js'
import { concat, slice } from './items.js'
import { Queue } from './queue.js'
import { isFinite } from './session.js'

/** @import { DecoderOptions, Frames, Latents } from './index.js' */
/** @import { CallRule, Manifest } from './manifest.js' */
/** @import { StatefulGraph } from './session.js' */

/**
 * Latents or indices in, frames out. The frames of the front padding never come out; with `numFrames`, `height` and
 * `width` the tail and the edge padding are cut off, too. Where the manifest names a look-ahead, as many frames wait for
 * the next latent or for `finish`.
 */
export class DecoderStream {
  #queue = new Queue()
  #finished = false
  /** @type {number | undefined} frames that are still to come */
  #left
  /** @type {{ h: number, w: number } | null} */
  #size = null

  /**
   * @param {Manifest} manifest
   * @param {StatefulGraph} graph
   * @param {CallRule} rule
   * @param {DecoderOptions} options
   */
  constructor(manifest, graph, rule, { numFrames, height, width, dtype = 'uint8' }) {
    if (dtype !== 'uint8' && dtype !== 'float32') throw new InputError(`frames are uint8 or float32, got '${dtype}'`)
    this.manifest = manifest
    this.graph = graph
    this.calls = new Calls(graph, rule)
    this.height = height
    this.width = width
    this.dtype = dtype
    this.#left = numFrames
  }

  /**
   * Take any number of latents; gives every frame they complete. Throws InputError.
   * @param {Latents} latents
   * @returns {Promise<Frames>}
   */
  push(latents) {
    return this.#queue.run(() => this.#push(latents))
  }

  /**
   * End the stream and give what waited; throws InputError when fewer frames came out than were promised.
   * @returns {Promise<Frames>}
   */
  finish() {
    return this.#queue.run(() => this.#finish())
  }

  /** Give up the stream and what the engine keeps for it; `finish` does it, too. */
  dispose() {
    this.#finished = true
    this.graph.dispose()
  }

  /** @param {Latents} latents */
  async #push(latents) {
    if (this.#finished) throw new InputError('this decoder is finished; ask the tokenizer for a new one')
    this.#check(latents)
    const out = [this.#nothing()]
    const most = this.calls.rule.most
    for (let start = 0; start < latents.length; start += most) {
      const { data, length, channels, h, w } = slice(latents, start, start + most)
      const dims = this.manifest.codebookSize === null ? [1, channels, length, h, w] : [1, length, h, w]
      // A copy, since what waits must not change with the caller's array.
      const x = new Chunk(swapped(data, length, channels).slice(), dims)
      for (const video of await this.calls.push(x)) out.push(this.#deliver(video))
    }
    return concat(out)
  }

  async #finish() {
    const out = [this.#nothing()]
    if (this.#left !== 0 && !this.#finished) {
      for (const video of await this.calls.finish()) out.push(this.#deliver(video))
    }
    this.dispose()
    if (this.#left) throw new InputError(`the tokens end ${this.#left} frames too early; the stream is incomplete`)
    return concat(out)
  }

  /** @param {Chunk} video */
  #deliver(video) {
    const [, , , high, wide] = video.dims
    let frames = fromNetwork(video, this.height ?? high, this.width ?? wide, this.dtype)
    if (this.#left !== undefined) {
      frames = slice(frames, 0, this.#left)
      this.#left -= frames.frames
    }
    return frames
  }

  /** @param {Latents} latents */
  #check({ data, length, channels, h, w }) {
    const { codebookSize, latentChannels, spatialMultiple } = this.manifest
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
    for (const [what, pixels, cells] of /** @type {const} */ ([
      ['height', this.height, h],
      ['width', this.width, w],
    ])) {
      const needed = pixels === undefined ? cells : Math.ceil(pixels / spatialMultiple)
      if (cells !== needed) throw new InputError(`a ${what} of ${pixels} pixels needs ${needed} latents, got ${cells}`)
    }
    this.#size = { h, w }
  }

  #nothing() {
    const { h, w } = this.#size ?? { h: 0, w: 0 }
    const multiple = this.manifest.spatialMultiple
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
