/** Frames of a video file as its decoder gives them, each once. */

import { fitted } from './clip.js'

/** @import { VideoReader } from '../src/video/index.js' */
/** @import { Clip, Wanted } from './clip.js' */

export class DecodedVideo {
  /** @param {VideoReader} reader */
  constructor(reader) {
    this.reader = reader
  }

  /**
   * @param {Wanted} wanted
   * @param {AbortSignal} signal
   * @param {(done: number, total: number) => void} progress
   * @returns {Promise<Clip>}
   */
  async capture({ short, frames, fps, start }, signal, progress) {
    const { reader } = this
    const { height, width } = fitted(reader.width, reader.height, short)
    const rest = reader.duration - start
    const end = `the clip ends at ${reader.duration.toFixed(1)} s; begin before that`
    if (!(rest > 0)) throw new Error(end)
    const total = Math.min(frames, Math.max(1, Math.round(rest * (fps ?? reader.fps))))
    const data = new Uint8Array(frames * height * width * 3)
    /** @type {bigint[]} */
    const pts = []
    let last = null
    for await (const frame of reader.frames({ height, width, start: start || undefined, fps: fps ?? undefined })) {
      signal.throwIfAborted()
      data.set(frame.data, pts.length * frame.data.length)
      pts.push(frame.pts)
      last = frame.duration
      progress(pts.length, Math.max(total, pts.length))
      if (pts.length === frames) break
    }
    // The last frame begins some time before the clip ends.
    if (!pts.length) throw new Error(`no frame begins at ${start} s or later: ${end}`)
    const clip = { data: data.slice(0, pts.length * height * width * 3), frames: pts.length, height, width }
    if (fps !== null) return { ...clip, fps }
    const lastDuration = last === null ? null : Number(last)
    return { ...clip, fps: reader.fps, timeBase: reader.timeBase, pts: BigInt64Array.from(pts), lastDuration }
  }
}
