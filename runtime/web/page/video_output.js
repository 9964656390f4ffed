/** The MP4 of what comes back; where this browser cannot write one, why. */

import { VideoError, VideoWriter } from '../src/video/index.js'

/** @import { Clip } from './clip.js' */

/** @typedef {{ file: Uint8Array<ArrayBuffer>, codec: string } | { reason: string }} Written */

export class VideoOutput {
  /** @type {VideoWriter | null} */
  writer = null
  reason = ''
  done = 0 // frames

  /** @param {Clip} clip whose size and times count */
  constructor(clip) {
    this.clip = clip
  }

  /** @param {string} module address of mediabunny */
  open(module) {
    return this.#unlessRefused(async () => {
      this.writer = await VideoWriter.open({ ...this.clip, mediabunny: await import(module) })
    })
  }

  /**
   * @param {Uint8Array} data RGB
   * @param {number} frames
   */
  push(data, frames) {
    const pts = this.clip.pts?.subarray(this.done, this.done + frames)
    this.done += frames
    return this.#unlessRefused(() => this.writer?.push({ ...this.clip, data, frames }, pts))
  }

  /** @returns {Promise<Written>} */
  async finish() {
    /** @type {Written | null} */
    let written = null
    await this.#unlessRefused(async () => {
      if (!this.writer) return
      const file = await this.writer.finish(this.clip.lastDuration)
      written = { file, codec: this.writer.codec }
    })
    return written ?? { reason: this.reason }
  }

  /** @param {() => Promise<void> | undefined} work */
  async #unlessRefused(work) {
    try {
      await work()
    } catch (error) {
      if (!(error instanceof VideoError)) throw error
      this.reason = error.message
      await this.writer?.dispose()
      this.writer = null
    }
  }
}
