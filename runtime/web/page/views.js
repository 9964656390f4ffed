/** Draws one frame, the difference of two, and the tokens behind a frame. */

import { latentsOfClip } from '../src/timing.js'

/** @import { StreamSpec } from '../src/index.js' */
/** @import { Clip } from './clip.js' */

const GAIN = 4

/**
 * @param {HTMLCanvasElement} canvas
 * @param {number} width
 * @param {number} height
 * @param {(put: (i: number, r: number, g: number, b: number) => void) => void} paint colours of pixels, row by row
 */
function draw(canvas, width, height, paint) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height })
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d', { alpha: false }))
  const image = context.createImageData(width, height)
  paint((i, r, g, b) => {
    const at = i * 4
    image.data[at] = r
    image.data[at + 1] = g
    image.data[at + 2] = b
    image.data[at + 3] = 255
  })
  context.putImageData(image, 0, 0)
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {Clip} clip
 * @param {number} t
 */
export function drawFrame(canvas, { data, height, width }, t) {
  draw(canvas, width, height, (put) => {
    for (let i = 0, at = t * height * width * 3; i < height * width; i++, at += 3) {
      put(i, data[at], data[at + 1], data[at + 2])
    }
  })
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {Clip} a
 * @param {Clip} b
 * @param {number} t
 */
export function drawDifference(canvas, { data, height, width }, b, t) {
  draw(canvas, width, height, (put) => {
    for (let i = 0, at = t * height * width * 3; i < height * width; i++, at += 3) {
      const [red, green, blue] = [0, 1, 2].map((c) => GAIN * Math.abs(data[at + c] - b.data[at + c]))
      put(i, red, green, blue)
    }
  })
}

/** Tokens as the module gives them, and how the model that made them counts. */
export class TokenMap {
  /**
   * @param {{ data: Int32Array | Float32Array, length: number, channels: number, h: number, w: number }} tokens
   * @param {StreamSpec} stream
   */
  constructor(tokens, stream) {
    this.tokens = tokens
    this.stream = stream
    this.isIndex = stream.codebookSize !== null
    this.levels = stream.levels.length ? stream.levels : [stream.codebookSize ?? 1]
    this.ranges = this.isIndex ? [] : [0, 1, 2].map((c) => this.range(Math.min(c, tokens.channels - 1)))
  }

  get note() {
    const parts = this.isIndex ? 'one colour an index' : 'the first three channels as red, green, blue'
    return `Tokens, ${this.tokens.w} x ${this.tokens.h}: ${parts}`
  }

  /**
   * Least and greatest number of a channel.
   * @param {number} channel
   */
  range(channel) {
    const { data, length, channels, h, w } = this.tokens
    let [low, high] = [Infinity, -Infinity]
    for (let t = 0; t < length; t++) {
      const at = (t * channels + channel) * h * w
      for (let i = at; i < at + h * w; i++) {
        low = Math.min(low, data[i])
        high = Math.max(high, data[i])
      }
    }
    return { low, size: high - low || 1 }
  }

  /**
   * Red, green and blue of an index: its digits, which are the coordinates of its code, dealt out to the three.
   * @param {number} index
   */
  colour(index) {
    const [sums, sizes] = [[0, 0, 0], [1, 1, 1]]
    this.levels.forEach((levels, i) => {
      const digit = index % levels
      index = (index - digit) / levels
      sums[i % 3] = sums[i % 3] * levels + digit
      sizes[i % 3] *= levels
    })
    return sums.map((sum, c) => (sizes[c] > 1 ? (255 * sum) / (sizes[c] - 1) : 128))
  }

  /**
   * The latent that frame t is in.
   * @param {HTMLCanvasElement} canvas
   * @param {number} t
   */
  draw(canvas, t) {
    const { data, length, channels, h, w } = this.tokens
    const at = (Math.min(latentsOfClip(this.stream, t + 1), length) - 1) * channels * h * w
    draw(canvas, w, h, (put) => {
      for (let i = 0; i < h * w; i++) {
        const [r, g, b] = this.isIndex
          ? this.colour(data[at + i])
          : this.ranges.map(({ low, size }, c) => {
              const channel = Math.min(c, channels - 1)
              return (255 * (data[at + channel * h * w + i] - low)) / size
            })
        put(i, r, g, b)
      }
    })
  }
}
