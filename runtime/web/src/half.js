/** float16 numbers as their bits. */

const view = new DataView(new ArrayBuffer(4))

/**
 * @param {number} bits
 */
export function fromHalf(bits) {
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023]
  const sign = bits & 0x8000 ? -1 : 1
  if (exponent === 31) return fraction ? NaN : sign * Infinity
  return sign * (exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24)
}

/**
 * The nearest float16, half to even; what is too large becomes infinite.
 * @param {number} value a float32
 */
export function toHalf(value) {
  view.setFloat32(0, value)
  const bits = view.getUint32(0)
  const sign = (bits >>> 16) & 0x8000
  const size = Math.abs(value)
  if (!(size < 65520)) return Number.isNaN(value) ? sign | 0x7e00 : sign | 0x7c00
  if (size < 2 ** -14) return sign | roundEven(size * 2 ** 24) // carries into the exponent as it should
  const exponent = ((bits >>> 23) & 255) - 127
  return sign | (((exponent + 15) << 10) + roundEven((size / 2 ** exponent - 1) * 1024))
}

/** @param {number} value */
function roundEven(value) {
  const below = Math.floor(value)
  const rest = value - below
  return rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? below + 1 : below
}
