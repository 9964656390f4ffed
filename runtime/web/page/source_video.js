/** Frames of a video file: one seek a frame, so that none is missed however slow the machine is. */

import { fitted, Grabber } from './clip.js'

/** @import { Clip, Wanted } from './clip.js' */

export class VideoSource {
  /**
   * @param {File} file
   * @param {HTMLVideoElement} video where it is shown
   */
  constructor(file, video) {
    this.label = file.name
    this.name = file.name.replace(/\.[^.]*$/, '')
    this.video = video
    this.address = URL.createObjectURL(file)
    video.controls = true
    video.hidden = false
    video.src = this.address
  }

  /** Size and duration; throws where the browser cannot play the file. */
  async open() {
    const { video } = this
    if (video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) await event(video, 'loadeddata', this.label)
    if (!Number.isFinite(video.duration)) await this.seek(1e7) // a recording that does not know its length
    if (!video.videoWidth) throw new Error(`${this.label} has no pictures, only sound`)
    this.label = `${this.label}: ${video.videoWidth} x ${video.videoHeight}, ${video.duration.toFixed(1)} s`
  }

  /** @param {number} time seconds */
  async seek(time) {
    const done = event(this.video, 'seeked', this.label)
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
  async capture({ short, frames, fps, start }, signal, progress) {
    const { video } = this
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

  stop() {
    this.video.hidden = true
    this.video.removeAttribute('src')
    this.video.load()
    URL.revokeObjectURL(this.address)
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
    const ended = new AbortController()
    const once = { once: true, signal: ended.signal }
    video.addEventListener(name, () => (ended.abort(), resolve()), once)
    video.addEventListener('error', () => (ended.abort(), wrong()), once)
  })
}
