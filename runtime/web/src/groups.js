/** Streams that start anew at every group of frames and latents, so that each group decodes on its own. */
import { InputError } from './errors.js'
import { concat, count, sizeOf, slice } from './items.js'
import { Queue } from './queue.js'

/** @import { Frames, Latents } from './index.js' */
/** @import { DecoderStream } from './decoder.js' */
/** @import { EncoderStream } from './encoder.js' */
/** @import { Timing } from './timing.js' */

/**
 * Cuts what is pushed at the ends of groups of `length` and runs each group through a stream of its own.
 * @template {Frames | Latents} In
 * @template {Frames | Latents} Out
 */
class Groups {
  #queue = new Queue()
  #finished = false
  /** @type {string | undefined} */
  #size

  /**
   * @param {() => { push(items: In): Promise<Out>, finish(): Promise<Out>, dispose(): void }} start
   * @param {number} length
   */
  constructor(start, length) {
    this.start = start
    this.stream = start()
    this.length = this.room = length
  }

  /**
   * As that of the stream of one group.
   * @param {In} items
   * @returns {Promise<Out>}
   */
  push(items) {
    return this.#queue.run(() => this.pushNext(items))
  }

  /**
   * As that of the stream of one group.
   * @returns {Promise<Out>}
   */
  finish() {
    return this.#queue.run(() => this.finishLast())
  }

  /** Give up the stream and what the engine keeps for it; `finish` does it, too. */
  dispose() {
    this.#finished = true
    this.stream.dispose()
  }

  /** @param {In} items */
  async pushNext(items) {
    if (this.#finished) throw new InputError('this stream is finished; ask the tokenizer for a new one')
    if (count(items)) {
      this.#size ??= sizeOf(items)
      if (sizeOf(items) !== this.#size) {
        throw new InputError(`one stream is all ${this.#size}, got ${sizeOf(items)}`)
      }
    }
    const out = []
    for (let done = 0; done < count(items); ) {
      if (this.room === 0) {
        this.stream = this.start()
        this.room = this.length
      }
      const piece = slice(items, done, done + this.room)
      done += count(piece)
      this.room -= count(piece)
      out.push(await this.stream.push(piece))
      if (this.room === 0) out.push(await this.stream.finish())
    }
    if (out.length) return concat(out)
    // Nothing, in the shape of what comes.
    return this.room ? this.stream.push(items) : this.stream.finish()
  }

  async finishLast() {
    this.#finished = true
    return this.stream.finish()
  }
}

/**
 * As EncoderStream, but the state starts anew every `timing.groupFrames` frames. Each group is a clip of its own: its
 * first frame is repeated in front of it.
 * @extends {Groups<Frames, Latents>}
 */
export class EncoderGroups extends Groups {
  /**
   * @param {() => EncoderStream} start
   * @param {Timing} timing
   */
  constructor(start, timing) {
    super(start, timing.groupFrames)
    this.numFrames = 0
  }

  /**
   * @override
   * @param {Frames} frames
   */
  async pushNext(frames) {
    const out = await super.pushNext(frames)
    this.numFrames += frames.frames
    return out
  }
}

/**
 * As DecoderStream for what EncoderGroups made: `start(n)` gives the stream of a group of n frames. skip: frames to throw
 * away at the start, before the `numFrames` that count.
 * @extends {Groups<Latents, Frames>}
 */
export class DecoderGroups extends Groups {
  /** @type {{ frames: number | undefined }} frames that no group has been started for; undefined: not known */
  #left
  #skip

  /**
   * @param {(frames: number | undefined) => DecoderStream} start
   * @param {Timing} timing
   * @param {number | undefined} numFrames
   * @param {number} skip
   */
  constructor(start, timing, numFrames, skip) {
    const left = { frames: numFrames === undefined ? undefined : skip + numFrames }
    super(() => {
      if (left.frames === undefined) return start(undefined)
      const frames = Math.min(timing.groupFrames, left.frames)
      left.frames -= frames
      return start(frames)
    }, timing.group ?? Infinity)
    this.#left = left
    this.#skip = skip
  }

  /**
   * @override
   * @param {Latents} latents
   */
  async pushNext(latents) {
    return this.#afterSkip(await super.pushNext(latents))
  }

  /** @override */
  async finishLast() {
    const out = this.#afterSkip(await super.finishLast())
    if (this.#left.frames) {
      throw new InputError(`the tokens end ${this.#left.frames} frames too early; the stream is incomplete`)
    }
    return out
  }

  /** @param {Frames} frames */
  #afterSkip(frames) {
    const skipped = Math.min(this.#skip, frames.frames)
    this.#skip -= skipped
    return slice(frames, skipped, frames.frames)
  }
}
