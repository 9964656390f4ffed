/** Streams that start anew at every group of frames and latents, so that each group decodes on its own. */
import { InputError } from './errors.js'
import { concat, count, slice } from './items.js'
import { StreamQueue } from './queue.js'

/** @import { Frames, Groups as Lengths, Latents, Stream } from './index.js' */
/** @import { DecoderStream } from './decoder.js' */
/** @import { EncoderStream } from './encoder.js' */

/**
 * Lengths of a group of what goes in or comes out, and how many of them it has in common with the one before.
 * @typedef {{ length: number, shared: number }} Group
 */

/**
 * The stream of one group, and what refuses what its pushes do not take.
 * @template In
 * @template Out
 * @typedef {Stream<In, Out> & { check(items: In): void }} OfGroup
 */

/**
 * Cuts what is pushed at the ends of groups and runs each group through a stream of its own.
 * @template {Frames | Latents} In
 * @template {Frames | Latents} Out
 */
class Groups {
  #queue = new StreamQueue()
  #finished = false
  /** @type {In | null} the last items of this group, which the next one has, too */
  #shared = null
  #given = 0 // by the stream of this group
  #toDrop = 0 // of what it gives

  /**
   * @param {() => OfGroup<In, Out>} start
   * @param {Group} taken
   * @param {Group} given
   */
  constructor(start, taken, given) {
    this.start = start
    this.stream = start()
    this.taken = taken
    this.given = given
    this.room = taken.length
  }

  /** As that of the stream of one group. */
  get callSize() {
    return this.stream.callSize
  }

  /**
   * As that of the stream of one group.
   * @param {In} items
   * @returns {Promise<Out>}
   */
  push(items) {
    return this.#queue.runChecked(() => this.#check(items), () => this.pushNext(items))
  }

  /**
   * As that of the stream of one group.
   * @returns {Promise<Out>}
   */
  finish() {
    return this.#queue.runChecked(() => {}, () => this.finishLast())
  }

  /**
   * As that of the stream of one group.
   * @returns {Promise<void>}
   */
  dispose() {
    this.#finished = true
    return this.stream.dispose()
  }

  /**
   * Refuse all items or none, whichever groups they belong to.
   * @param {In} items
   */
  #check(items) {
    if (this.#finished) throw new InputError('this stream is finished; ask the tokenizer for a new one')
    this.stream.check(items)
  }

  /** @param {In} items */
  async pushNext(items) {
    const out = []
    for (let done = 0; done < count(items); ) {
      if (this.room === 0) {
        this.#startNext()
        if (this.#shared) out.push(this.#ofGroup(await this.stream.push(this.#shared)))
      }
      const piece = slice(items, done, done + this.room)
      done += count(piece)
      this.room -= count(piece)
      this.#keep(piece)
      out.push(this.#ofGroup(await this.stream.push(piece)))
      if (this.room === 0) out.push(this.#ofGroup(await this.stream.finish()))
      if (this.#finished) throw new InputError('this stream was given up during a push; ask the tokenizer for a new one')
    }
    if (out.length) return concat(out)
    // Nothing, in the shape of what comes.
    return this.room ? this.stream.push(items) : this.stream.finish()
  }

  async finishLast() {
    this.#finished = true
    return this.#ofGroup(await this.stream.finish())
  }

  #startNext() {
    this.stream = this.start()
    this.room = this.taken.length - this.taken.shared
    this.#given = 0
    this.#toDrop = this.given.shared
  }

  /**
   * Remember the last items for the next group.
   * @param {In} piece
   */
  #keep(piece) {
    const { shared } = this.taken
    if (!shared) return
    const last = (/** @type {In} */ items) => slice(items, Math.max(0, count(items) - shared), count(items))
    const kept = last(this.#shared ? concat([this.#shared, last(piece)]) : last(piece))
    // A copy, since what is kept must not change with the caller's array.
    this.#shared = { ...kept, data: kept.data.slice() }
  }

  /**
   * What counts of that which the stream of this group gives.
   * @param {Out} items
   */
  #ofGroup(items) {
    const room = this.given.length - this.#given
    this.#given += count(items)
    const dropped = Math.min(this.#toDrop, count(items))
    this.#toDrop -= dropped
    return slice(items, dropped, room)
  }
}

/**
 * As EncoderStream, but the state starts anew with every group, which is padded as a clip of its own.
 * @extends {Groups<Frames, Latents>}
 */
export class EncoderGroups extends Groups {
  /**
   * @param {() => EncoderStream} start
   * @param {Lengths} groups
   */
  constructor(start, groups) {
    super(start, ...lengths(groups))
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
 * As DecoderStream for what EncoderGroups made: `start(n)` gives the stream of a group of n frames. groups: null for one
 * that never ends. skip: frames to throw away at the start, before the `numFrames` that count.
 * @extends {Groups<Latents, Frames>}
 */
export class DecoderGroups extends Groups {
  /** @type {{ frames: number | undefined }} frames that no group has been started for; undefined: not known */
  #left
  #skip

  /**
   * @param {(frames: number | undefined) => DecoderStream} start
   * @param {Lengths | null} groups
   * @param {number | undefined} numFrames
   * @param {number} skip
   */
  constructor(start, groups, numFrames, skip) {
    const left = { frames: numFrames === undefined ? undefined : skip + numFrames }
    const [frames, latents] = lengths(groups)
    let shared = 0
    super(
      () => {
        if (left.frames === undefined) return start(undefined)
        const count = Math.min(frames.length, left.frames + shared)
        left.frames -= count - shared
        shared = frames.shared
        return start(count)
      },
      latents,
      frames,
    )
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

/**
 * Frames and latents of groups.
 * @param {Lengths | null} groups
 * @returns {[Group, Group]}
 */
function lengths(groups) {
  if (!groups) return [{ length: Infinity, shared: 0 }, { length: Infinity, shared: 0 }]
  const { frames, latents, sharedFrames, sharedLatents } = groups
  return [{ length: frames, shared: sharedFrames }, { length: latents, shared: sharedLatents }]
}
