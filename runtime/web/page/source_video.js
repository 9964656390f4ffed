/** A video file: every frame of it where this browser takes it apart, else pictures by seeking, which is said. */

import { VideoError, VideoReader } from '../src/video/index.js'
import { USUAL_FPS } from './clip.js'
import { DecodedVideo } from './video_decoded.js'
import { SoughtVideo } from './video_sought.js'

/** @import { Wanted } from './clip.js' */

export class VideoSource {
  /** @type {DecodedVideo | SoughtVideo | null} */
  way = null
  stopped = false

  /**
   * @param {File} file
   * @param {HTMLVideoElement} video where it is shown
   * @param {string} module address of mediabunny
   */
  constructor(file, video, module) {
    this.label = file.name
    this.name = file.name.replace(/\.[^.]*$/, '')
    this.file = file
    this.video = video
    this.module = module
    this.address = URL.createObjectURL(file)
    video.controls = true
    video.hidden = false
    video.src = this.address
  }

  /** Size and duration; throws where the browser can neither take the file apart nor play it. */
  async open() {
    const { video } = this
    try {
      const reader = await VideoReader.open(this.file, { mediabunny: await import(this.module) })
      if (this.stopped) return reader.dispose()
      this.way = new DecodedVideo(reader)
      this.label += `: ${reader.width} x ${reader.height}, ${reader.duration.toFixed(1)} s, ${reader.codec}`
    } catch (error) {
      if (!(error instanceof VideoError)) throw error
      const way = (this.way = new SoughtVideo(video, this.file.name))
      await way.open()
      this.label +=
        `: ${video.videoWidth} x ${video.videoHeight}, ${video.duration.toFixed(1)} s; ` +
        `only pictures by seeking, ${USUAL_FPS} a second unless you say otherwise: ${error.message}`
    }
  }

  /**
   * @param {Wanted} wanted
   * @param {AbortSignal} signal
   * @param {(done: number, total: number) => void} progress
   */
  capture(wanted, signal, progress) {
    if (!this.way) throw new Error('the video is not open')
    return this.way.capture(wanted, signal, progress)
  }

  stop() {
    this.stopped = true
    if (this.way instanceof DecodedVideo) this.way.reader.dispose()
    this.video.hidden = true
    this.video.removeAttribute('src')
    this.video.load()
    URL.revokeObjectURL(this.address)
  }
}
