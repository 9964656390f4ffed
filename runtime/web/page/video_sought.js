/** Pictures of a video that the browser plays: one seek each, so that none is missed however slow the machine is. */

import { fitted, Grabber, USUAL_FPS } from './clip.js'

/** @import { Clip, Wanted } from './clip.js' */

export class SoughtVideo {
  /**
   * @param {HTMLVideoElement} video which has its file
   * @param {string} name for messages
   */
  constructor(video, name) {
    this.video = video
    this.name = name
  }

  /** Wait until size and duration are known; throws where the browser cannot play the file. */
  async open() {
    const { video } = this
    if (video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) await event(video, 'loadeddata', this.name)
    if (!Number.isFinite(video.duration)) await this.seek(1e7) // a recording that does not know its length
    if (!video.videoWidth) throw new Error(`${this.name} has no pictures, only sound`)
  }

  /** @param {number} time seconds */
  async seek(time) {
    const done = event(this.video, 'seeked', this.name)
    const shown = newPicture(this.video)
    this.video.currentTime = time
    await done
    await Promise.race([shown, samePicture()])
  }

  /**
   * @param {Wanted} wanted
   * @param {AbortSignal} signal
   * @param {(done: number, total: number) => void} progress
   * @returns {Promise<Clip>}
   */
  async capture({ short, frames, fps: asked, start }, signal, progress) {
    const { video } = this
    const fps = asked ?? USUAL_FPS
    if (start >= video.duration) throw new Error(`the clip ends at ${video.duration.toFixed(1)} s; begin before that`)
    const count = Math.min(frames, Math.max(1, Math.round((video.duration - start) * fps)))
    const grabber = new Grabber(fitted(video.videoWidth, video.videoHeight, short), count)
    video.pause()
    video.controls = false
    try {
      for (let i = 0; i < count; i++) {
        signal.throwIfAborted()
        await this.seek(Math.min(start + (i + 0.5) / fps, video.duration))
        grabber.add(video)
        progress(i + 1, count)
      }
    } finally {
      video.controls = true
    }
    return grabber.clip(fps)
  }
}

/**
 * A busy browser says that it has sought before the picture is there to be drawn.
 * @param {HTMLVideoElement} video
 * @returns {Promise<void>} never ends where the place sought has the picture that is shown already
 */
function newPicture(video) {
  return new Promise((resolve) => {
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(() => resolve())
    else resolve()
  })
}

/** @returns {Promise<void>} after three turns of the screen: a new picture would have been shown; a hidden page has none */
function samePicture() {
  return new Promise((resolve) => {
    setTimeout(resolve, 1000)
    const wait = (/** @type {number} */ turns) => (turns ? requestAnimationFrame(() => wait(turns - 1)) : resolve())
    wait(3)
  })
}

/**
 * @param {HTMLVideoElement} video
 * @param {string} name
 * @param {string} file for the message
 * @returns {Promise<void>}
 */
function event(video, name, file) {
  return new Promise((resolve, reject) => {
    const wrong = () => reject(new Error(`this browser cannot play ${file} (${video.error?.message || 'unknown format'})`))
    if (video.error) return wrong()
    const ended = new AbortController()
    const once = { once: true, signal: ended.signal }
    video.addEventListener(name, () => (ended.abort(), resolve()), once)
    video.addEventListener('error', () => (ended.abort(), wrong()), once)
  })
}
