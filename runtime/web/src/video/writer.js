/** Frames to an MP4, by the browser's own encoders. */
import { InputError, VideoError, firstLine } from '../errors.js'
import { toFraction } from '../fraction.js'
import { CODECS, openLibrary } from './library.js'
import { fromRgb } from './matrix.js'

/** @import { BufferTarget, Mp4OutputFormat, Output, VideoCodec, VideoSampleSource } from 'mediabunny' */
/** @import { Frames } from '../index.js' */
/** @import { WriteOptions } from './index.js' */
/** @import { Mediabunny } from './library.js' */

/** @typedef {Output<Mp4OutputFormat, BufferTarget>} Mp4 */

/** In the order in which they are tried. Every player reads the first, which browsers write at even sizes only. */
const WRITTEN = /** @type {const} @satisfies {readonly VideoCodec[]} */ (['avc', 'vp9', 'av1'])
const FINEST = 10 ** 6 // units a second; browsers count microseconds
/** Chromium's VP9 says so whatever the pictures say. */
const COLOURS = /** @type {const} */ ({ matrix: 'bt709', primaries: 'bt709', transfer: 'bt709', fullRange: false })

/** Writes frames as an MP4. */
export class VideoWriter {
  #library
  #output
  #source
  /** @type {{ picture: Uint8Array<ArrayBuffer>, pts: bigint } | null} the last frame, whose end is not known yet */
  #last = null

  /**
   * @param {Mediabunny} library
   * @param {Mp4} output
   * @param {VideoSampleSource} source
   * @param {{ height: number, width: number, perFrame: number, unit: number, codec: string }} facts unit: in seconds
   */
  constructor(library, output, source, { height, width, perFrame, unit, codec }) {
    this.#library = library
    this.#output = output
    this.#source = source
    this.height = height
    this.width = width
    this.perFrame = perFrame
    this.unit = unit
    this.codec = codec
  }

  /**
   * Throws VideoError where this browser writes no MP4, InputError.
   * @param {WriteOptions} options
   */
  static async open({ height, width, fps, timeBase, mediabunny }) {
    const library = await openLibrary(mediabunny, 'VideoEncoder')
    const { BufferTarget, Mp4OutputFormat, Output, Quality, VideoSampleSource, getFirstEncodableVideoCodec } = library
    const rate = valueOf(toFraction(fps))
    const unit = timeBase === undefined ? 1 / rate : valueOf(toFraction(timeBase))
    const quality = new Quality('very-high')
    const codec = await getFirstEncodableVideoCodec([...WRITTEN], { width, height, quality })
    if (codec === null) throw new VideoError(`this browser writes no video of ${width}x${height} pixels`)
    const output = new Output({ format: new Mp4OutputFormat({ fastStart: 'in-memory' }), target: new BufferTarget() })
    const source = new VideoSampleSource({
      codec,
      quality,
      // Of the units that the track is given below, the encoder must not think that they are frames.
      onEncoderConfig: (config) => Object.assign(config, { framerate: rate }),
    })
    output.addVideoTrack(source, { frameRate: 1 / unit <= FINEST ? 1 / unit : undefined })
    await output.start()
    const perFrame = Math.max(1, Math.round(1 / rate / unit))
    return new VideoWriter(library, output, source, { height, width, perFrame, unit, codec: CODECS[codec] })
  }

  /**
   * Add frames, RGB bytes; pts: their times, rising; left out: they follow each other. Throws VideoError, InputError.
   * @param {Frames} frames
   * @param {BigInt64Array} [pts]
   */
  async push({ data, frames, height, width }, pts) {
    if (height !== this.height || width !== this.width || !(data instanceof Uint8Array)) {
      throw new InputError(`this file takes bytes of ${this.width}x${this.height}, got ${width}x${height}`)
    }
    const size = 3 * height * width
    for (let i = 0; i < frames; i++) {
      const time = pts ? pts[i] : this.#last === null ? 0n : this.#last.pts + BigInt(this.perFrame)
      if (this.#last !== null) {
        if (time <= this.#last.pts) throw new InputError(`the times of frames rise, got ${time} after ${this.#last.pts}`)
        await this.#write(this.#last, Number(time - this.#last.pts))
      }
      this.#last = { picture: data.slice(i * size, (i + 1) * size), pts: time }
    }
  }

  /**
   * The bytes of the file; lastDuration: how long the last frame is shown, in units of the time base; left out: as long
   * as others. Throws VideoError.
   * @param {number | null} [lastDuration]
   */
  async finish(lastDuration) {
    if (this.#last === null) throw new VideoError('a video has one frame or more')
    await this.#write(this.#last, lastDuration ?? this.perFrame)
    await this.#encoder(() => this.#output.finalize())
    return new Uint8Array(/** @type {ArrayBuffer} */ (this.#output.target.buffer))
  }

  /** Give up a file before `finish`. */
  async dispose() {
    if (this.#output.state === 'started') await this.#output.cancel()
  }

  /**
   * @param {{ picture: Uint8Array, pts: bigint }} frame
   * @param {number} duration
   */
  async #write({ picture, pts }, duration) {
    const { height, width, unit } = this
    const sample = new this.#library.VideoSample(toPlanes(picture, { height, width }), {
      format: 'I420',
      codedWidth: width,
      codedHeight: height,
      timestamp: Number(pts) * unit,
      duration: duration * unit,
      colorSpace: COLOURS,
    })
    try {
      await this.#encoder(() => this.#source.add(sample))
    } finally {
      sample.close()
    }
  }

  /** @param {() => Promise<void>} work */
  async #encoder(work) {
    try {
      await work()
    } catch (error) {
      throw new VideoError(`this browser's ${this.codec} encoder failed: ${firstLine(error)}`)
    }
  }
}

/**
 * RGB to luma, blue and red of the limited range, a value of chroma for each four pixels.
 * @param {Uint8Array} rgb
 * @param {{ height: number, width: number }} size
 */
function toPlanes(rgb, { height, width }) {
  const { red, green, blue, ofBlue, ofRed } = fromRgb(COLOURS.matrix)
  const [high, wide] = [Math.ceil(height / 2), Math.ceil(width / 2)]
  const out = new Uint8ClampedArray(height * width + 2 * high * wide) // rounds
  const [blues, reds] = [out.subarray(height * width), out.subarray(height * width + high * wide)]
  for (let i = 0; i < height * width; i++) {
    out[i] = 16 + (red * rgb[3 * i] + green * rgb[3 * i + 1] + blue * rgb[3 * i + 2]) * (219 / 255)
  }
  for (let y = 0, i = 0; y < high; y++) {
    for (let x = 0; x < wide; x++, i++) {
      let [r, g, b] = [0, 0, 0]
      for (let corner = 0; corner < 4; corner++) {
        const row = Math.min(2 * y + (corner >> 1), height - 1)
        const at = 3 * (row * width + Math.min(2 * x + (corner & 1), width - 1))
        r += rgb[at] / 4
        g += rgb[at + 1] / 4
        b += rgb[at + 2] / 4
      }
      const luma = red * r + green * g + blue * b
      blues[i] = 128 + ofBlue * (b - luma)
      reds[i] = 128 + ofRed * (r - luma)
    }
  }
  return new Uint8Array(out.buffer)
}

/** @param {string} fraction */
function valueOf(fraction) {
  const [n, d] = fraction.split('/').map(Number)
  return n / (d ?? 1)
}
