/** How the frames of a stream fall into latents, and both into groups that stand on their own. */

/**
 * Frames a latent, copies of the first frame in front of each group, frames a decoder looks ahead. group: latents after
 * which the state starts anew; null: the stream is one group. windows: a group is a window of a non-causal variant,
 * whose frames need all of its latents.
 */
export class Timing {
  /**
   * @param {number} timeFactor
   * @param {number} frontFrames
   * @param {number} lookAhead
   * @param {number | null} group
   * @param {boolean} windows
   */
  constructor(timeFactor, frontFrames, lookAhead, group, windows) {
    this.timeFactor = timeFactor
    this.frontFrames = frontFrames
    this.lookAhead = lookAhead
    this.group = group
    this.windows = windows
  }

  /** Frames that the latents of a whole group hold. */
  get groupFrames() {
    return this.group === null ? Infinity : this.group * this.timeFactor - this.frontFrames
  }

  /**
   * Latents that so many frames from the start of a group fill or begin.
   * @param {number} frames
   */
  latents(frames) {
    const { groups, rest } = this.#split(frames)
    return groups * (this.group ?? 0) + (rest ? Math.ceil((this.frontFrames + rest) / this.timeFactor) : 0)
  }

  /**
   * Latents that a decoder needs to give as many frames from the start of a group, if there are that many.
   * @param {number} frames
   */
  latentsToDecode(frames) {
    if (this.group === null) return this.latents(frames + this.lookAhead)
    const { groups, rest } = this.#split(frames)
    const needed = this.windows ? this.group : this.latents(rest + this.lookAhead)
    return groups * this.group + (rest ? Math.min(this.group, needed) : 0)
  }

  /** @param {number} frames */
  #split(frames) {
    const groups = this.group === null ? 0 : Math.floor(frames / this.groupFrames)
    return { groups, rest: groups ? frames - groups * this.groupFrames : frames }
  }
}
