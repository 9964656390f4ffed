/** Decoded pictures to upright RGB of any size: pixels are the file's own, not those of a browser's colour management. */
import { matrixFor, toRgb } from './matrix.js'
import { resampled } from './plane.js'

/** @import { VideoSample } from 'mediabunny' */
/** @import { Plane } from './plane.js' */

/** @typedef {{ height: number, width: number }} Size */

/**
 * Where the three components of a pixel format lie: which plane, place and step in it, and pixels that each stands for.
 * @typedef {object} Layout
 * @property {number} bits
 * @property {boolean} isRgb
 * @property {{ plane: number, place: number, step: number, across: number, down: number }[]} parts luma, blue, red; or RGB
 */

/**
 * Null: a format that is none of these. Alpha is left out: the colour below it counts.
 * @param {string | null} format
 * @returns {Layout | null}
 */
function layoutOf(format) {
  const part = (/** @type {number} */ plane, place = 0, step = 1, across = 1, down = 1) => ({ plane, place, step, across, down })
  const planar = /^I4(20|22|44)A?(?:P(10|12))?$/.exec(format ?? '')
  if (planar) {
    const [across, down] = [planar[1] === '44' ? 1 : 2, planar[1] === '20' ? 2 : 1]
    const parts = [part(0), part(1, 0, 1, across, down), part(2, 0, 1, across, down)]
    return { bits: Number(planar[2] ?? 8), isRgb: false, parts }
  }
  if (format === 'NV12') return { bits: 8, isRgb: false, parts: [part(0), part(1, 0, 2, 2, 2), part(1, 1, 2, 2, 2)] }
  const packed = /^(RGB|BGR)[AX]$/.exec(format ?? '')
  if (!packed) return null
  const places = packed[1] === 'RGB' ? [0, 1, 2] : [2, 1, 0]
  return { bits: 8, isRgb: true, parts: places.map((place) => part(0, place, 4)) }
}

/** Turns decoded pictures of one video into RGB. */
export class PictureReader {
  #bytes = new Uint8Array(0)

  /**
   * @param {Size} to upright height and width in pixels
   * @param {{ matrix?: string | null, fullRange?: boolean | null }} said of the colours by the file
   * @param {boolean} isLeft whether chroma lies at the left of its pixels, not in their middle
   */
  constructor(to, said, isLeft) {
    this.to = to
    this.said = said
    this.isLeft = isLeft
  }

  /**
   * Upright RGB, bytes row by row.
   * @param {VideoSample} sample
   */
  async read(sample) {
    const { width, height } = sample.visibleRect
    const swapped = sample.rotation % 180 !== 0
    const to = swapped ? { height: this.to.width, width: this.to.height } : this.to
    const { planes, layout } = await this.#planes(sample)
    const parts = planes.map((plane) => resampled(plane, { height, width }, to))
    const rgb = layout.isRgb ? parts : this.#rgb(parts, layout.bits, sample)
    return upright(rgb, to, sample)
  }

  /**
   * @param {VideoSample} sample
   * @returns {Promise<{ planes: Plane[], layout: Layout }>}
   */
  async #planes(sample) {
    // A picture that lies in a graphics card in a format of its own is brought out as RGB.
    const own = layoutOf(sample.format)
    const layout = own ?? /** @type {Layout} */ (layoutOf('RGBX'))
    const options = own ? {} : { format: /** @type {const} */ ('RGBX') }
    const size = sample.allocationSize(options)
    if (this.#bytes.length < size) this.#bytes = new Uint8Array(size)
    const places = await sample.copyTo(this.#bytes, options)
    const each = layout.bits > 8 ? 2 : 1 // bytes a number
    const data = each === 2 ? new Uint16Array(this.#bytes.buffer, 0, this.#bytes.length >> 1) : this.#bytes
    const planes = layout.parts.map(({ plane, place, ...rest }) => {
      const { offset, stride } = places[plane]
      const shift = this.isLeft && rest.across > 1 ? 0.25 : 0
      return { data, offset: offset / each + place, stride: stride / each, shift, ...rest }
    })
    return { planes, layout }
  }

  /**
   * Luma and chroma to RGB, in place.
   * @param {Float32Array[]} parts
   * @param {number} bits
   * @param {VideoSample} sample
   */
  #rgb([luma, u, v], bits, { colorSpace, visibleRect }) {
    const { matrix, fullRange } = this.said
    if ((matrix ?? colorSpace.matrix) === 'rgb') return [v, luma, u]
    // Where a file says nothing, browsers say BT.709 of a picture of any size.
    const named = matrix ?? (colorSpace.matrix === 'bt709' ? null : colorSpace.matrix)
    const by = toRgb(matrixFor(named, visibleRect), fullRange ?? colorSpace.fullRange ?? false)
    const scale = 2 ** (8 - bits)
    for (let i = 0; i < luma.length; i++) {
      const [y, blue, red] = [by.gain * (luma[i] * scale - by.luma), u[i] * scale - 128, v[i] * scale - 128]
      luma[i] = y + by.redOfV * red
      u[i] = y + by.greenOfU * blue + by.greenOfV * red
      v[i] = y + by.blueOfU * blue
    }
    return [luma, u, v]
  }
}

/**
 * Rounded, as it is to be seen: turned clockwise, and then mirrored.
 * @param {Float32Array[]} rgb
 * @param {Size} size before it is turned
 * @param {{ rotation: number, flip: boolean }} turn
 */
function upright([red, green, blue], { height, width }, { rotation, flip }) {
  const out = new Uint8ClampedArray(3 * height * width) // rounds, and keeps to 0..255
  const wide = rotation % 180 ? height : width
  const high = rotation % 180 ? width : height
  // Where x and y of the stored picture lead, in pixels of the upright one.
  const [cos, sin] = /** @type {Record<number, number[]>} */ ({ 0: [1, 0], 90: [0, 1], 180: [-1, 0], 270: [0, -1] })[rotation]
  const across = flip ? -1 : 1
  const [alongX, alongY] = [across * cos + sin * wide, -across * sin + cos * wide]
  const left = (cos < 0 || sin > 0) !== flip ? wide - 1 : 0
  const top = cos < 0 || sin < 0 ? high - 1 : 0
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const at = 3 * (left + top * wide + x * alongX + y * alongY)
      out[at] = red[i]
      out[at + 1] = green[i]
      out[at + 2] = blue[i]
    }
  }
  return new Uint8Array(out.buffer)
}
