/** A clip of RGB frames, and how pictures of any size get into one. */

/**
 * data: `T H W 3`, 0..255; fps: frames a second, on average where they have times of their own.
 * @typedef {{ data: Uint8Array, frames: number, height: number, width: number, fps: number } & Partial<Times>} Clip
 */

/**
 * Times of frames, and how long the last is shown, in units of the time base, which is in seconds.
 * @typedef {{ timeBase: string, pts: BigInt64Array, lastDuration: number | null }} Times
 */

/**
 * What the page asks for: pixels of the shorter side, most frames, frames a second, seconds into the source. fps: null
 * stands for every frame of a video, and for the usual rate of anything else.
 * @typedef {{ short: number, frames: number, fps: number | null, start: number }} Wanted
 */

export const USUAL_FPS = 24

/**
 * Size of the same shape whose shorter side has so many pixels.
 * @param {number} width
 * @param {number} height
 * @param {number} short
 */
export function fitted(width, height, short) {
  const scale = short / Math.min(width, height)
  if (!(scale > 0) || Math.max(width, height) > 4 * Math.min(width, height)) {
    throw new Error(`a picture of ${width} x ${height} pixels cannot be used; its sides must be within 4 to 1`)
  }
  return { width: Math.round(width * scale), height: Math.round(height * scale) }
}

/** Draws pictures at one size and keeps their RGB. */
export class Grabber {
  /**
   * @param {{ width: number, height: number }} size
   * @param {number} frames most that will come
   */
  constructor({ width, height }, frames) {
    const canvas = new OffscreenCanvas(width, height)
    this.context = /** @type {OffscreenCanvasRenderingContext2D} */ (
      canvas.getContext('2d', { alpha: false, willReadFrequently: true })
    )
    this.context.imageSmoothingQuality = 'high'
    this.size = { width, height }
    this.data = new Uint8Array(frames * height * width * 3)
    this.frames = 0
  }

  /** @param {CanvasImageSource} picture */
  add(picture) {
    const { width, height } = this.size
    this.context.drawImage(picture, 0, 0, width, height)
    const rgba = this.context.getImageData(0, 0, width, height).data
    let at = this.frames * height * width * 3
    for (let i = 0; i < rgba.length; i += 4) {
      this.data[at++] = rgba[i]
      this.data[at++] = rgba[i + 1]
      this.data[at++] = rgba[i + 2]
    }
    this.frames++
  }

  /**
   * What was drawn so far.
   * @param {number} fps
   * @returns {Clip}
   */
  clip(fps) {
    const { width, height } = this.size
    return { data: this.data.slice(0, this.frames * height * width * 3), frames: this.frames, height, width, fps }
  }
}
