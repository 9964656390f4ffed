/** Frames of a camera as they come, at most so many a second. */

import { fitted, Grabber, USUAL_FPS } from './clip.js'

/** @import { Clip, Wanted } from './clip.js' */

const LONGEST_WAIT = 5000 // milliseconds without a frame

export class CameraSource {
  label = 'camera: it records when you tokenize'
  name = 'camera'

  /** @param {HTMLVideoElement} video where it is shown */
  constructor(video) {
    this.video = video
    /** @type {MediaStream | null} */
    this.stream = null
    this.stopped = false
  }

  /** Ask for the camera; throws where there is none, or it is not given. */
  async open() {
    if (!navigator.mediaDevices || !('requestVideoFrameCallback' in this.video)) {
      throw new Error('this browser gives no camera here; open the page on this machine itself (localhost)')
    }
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ video: true, audio: false })
    } catch (error) {
      throw new Error(`the camera cannot be used: ${/** @type {Error} */ (error).message}`)
    }
    if (this.stopped) return this.stop()
    this.video.controls = false
    this.video.hidden = false
    this.video.srcObject = this.stream
    await this.video.play()
  }

  /**
   * @param {Wanted} wanted
   * @param {AbortSignal} signal
   * @param {(done: number, total: number) => void} progress
   * @returns {Promise<Clip>}
   */
  async capture({ short, frames, fps: asked }, signal, progress) {
    const { video } = this
    const fps = asked ?? USUAL_FPS
    const grabber = new Grabber(fitted(video.videoWidth, video.videoHeight, short), frames)
    /** @type {number[]} */
    const times = []
    let next = 0
    while (grabber.frames < frames) {
      const now = await shown(video, signal)
      if (now < next) continue
      grabber.add(video)
      times.push(now)
      next = Math.max(next + 1000 / fps, now)
      progress(grabber.frames, frames)
    }
    const measured = ((frames - 1) * 1000) / (times[frames - 1] - times[0])
    return grabber.clip(frames > 1 ? Math.round(measured * 100) / 100 : fps)
  }

  stop() {
    this.stopped = true
    for (const track of this.stream?.getTracks() ?? []) track.stop()
    if (this.video.srcObject !== this.stream) return // another is shown
    this.video.srcObject = null
    this.video.hidden = true
  }
}

/**
 * When the next frame is shown, in milliseconds.
 * @param {HTMLVideoElement} video
 * @param {AbortSignal} signal
 * @returns {Promise<number>}
 */
function shown(video, signal) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted()
    const late = setTimeout(() => reject(new Error('the camera gives no more pictures')), LONGEST_WAIT)
    video.requestVideoFrameCallback((now) => {
      clearTimeout(late)
      resolve(now)
    })
  })
}
