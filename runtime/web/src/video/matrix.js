/** Luma and chroma to RGB and back. */

/** Red's and blue's share of luma, by the names of WebCodecs. */
const SHARES = /** @type {const} */ ({
  bt709: [0.2126, 0.0722],
  smpte170m: [0.299, 0.114],
  bt470bg: [0.299, 0.114],
  'bt2020-ncl': [0.2627, 0.0593],
})

/** @typedef {keyof typeof SHARES} Matrix */

/**
 * The matrix that is named; where none is, BT.709 from 1280 pixels wide or above 576 high, else BT.601.
 * @param {string | null | undefined} name
 * @param {{ height: number, width: number }} size of the pictures as they are stored
 * @returns {Matrix}
 */
export function matrixFor(name, { height, width }) {
  if (name && Object.hasOwn(SHARES, name)) return /** @type {Matrix} */ (name)
  return width >= 1280 || height > 576 ? 'bt709' : 'smpte170m'
}

/**
 * What brings luma and chroma of 8 bits to RGB of 0..255: `luma` is subtracted from luma, which is then multiplied with
 * `gain`; the rest multiplies chroma less 128.
 * @param {Matrix} matrix
 * @param {boolean} fullRange
 */
export function toRgb(matrix, fullRange) {
  const [red, blue] = SHARES[matrix]
  const green = 1 - red - blue
  const chroma = fullRange ? 1 : 255 / 224
  return {
    luma: fullRange ? 0 : 16,
    gain: fullRange ? 1 : 255 / 219,
    redOfV: 2 * (1 - red) * chroma,
    greenOfU: (-2 * blue * (1 - blue) * chroma) / green,
    greenOfV: (-2 * red * (1 - red) * chroma) / green,
    blueOfU: 2 * (1 - blue) * chroma,
  }
}

/**
 * Shares of RGB of 0..255 in luma, and what blue and red less luma are multiplied with to give chroma of limited range.
 * @param {Matrix} matrix
 */
export function fromRgb(matrix) {
  const [red, blue] = SHARES[matrix]
  const chroma = (/** @type {number} */ share) => 224 / 255 / (2 * (1 - share))
  return { red, green: 1 - red - blue, blue, ofBlue: chroma(blue), ofRed: chroma(red) }
}
