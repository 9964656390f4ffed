/** Frame rates and time bases as token files write them: `25` or `30000/1001`, in lowest terms. */
import { InputError } from './errors.js'

const MOST = 2n ** 31n // what video libraries can hold, not included
const MAX_DENOMINATOR = 10n ** 6n // of a rate that was given as a number

/**
 * The text of a quotient of positive numbers, or null.
 * @param {string} text
 */
export function parseFraction(text) {
  const match = /^([0-9]{1,10})(?:\/([0-9]{1,10}))?$/.exec(text)
  if (!match) return null
  const [n, d] = [BigInt(match[1]), BigInt(match[2] ?? 1)]
  return n < 1n || d < 1n || n >= MOST || d >= MOST ? null : asText(n, d)
}

/**
 * The same of a number or of text; throws InputError.
 * @param {number | string} value
 */
export function toFraction(value) {
  const text = typeof value === 'string' ? parseFraction(value) : Number.isFinite(value) ? nearest(value) : null
  const checked = text === null ? null : parseFraction(text)
  if (checked === null) throw new InputError(`${value} is no rate; give a number like 29.97 or text like '30000/1001'`)
  return checked
}

/**
 * The nearest quotient with a denominator up to a million, by continued fractions.
 * @param {number} value
 */
function nearest(value) {
  let d = 1n
  while (!Number.isInteger(value)) [value, d] = [value * 2, d * 2n]
  const [n, whole] = [BigInt(value), d]
  if (d <= MAX_DENOMINATOR) return asText(n, d)
  let [p0, q0, p1, q1] = [0n, 1n, 1n, 0n]
  let rest = n
  for (;;) {
    const a = rest / d
    if (q0 + a * q1 > MAX_DENOMINATOR) break
    ;[p0, q0, p1, q1] = [p1, q1, p0 + a * p1, q0 + a * q1]
    ;[rest, d] = [d, rest - a * d]
  }
  const k = (MAX_DENOMINATOR - q0) / q1
  const [p2, q2] = [p0 + k * p1, q0 + k * q1]
  // Which of the two neighbours is nearer to n / whole.
  const off = (/** @type {bigint} */ p, /** @type {bigint} */ q) => abs(p * whole - n * q)
  return off(p1, q1) * q2 <= off(p2, q2) * q1 ? asText(p1, q1) : asText(p2, q2)
}

/** @param {bigint} n */
function abs(n) {
  return n < 0n ? -n : n
}

/**
 * @param {bigint} n
 * @param {bigint} d
 */
function asText(n, d) {
  let [a, b] = [n, d]
  while (b) [a, b] = [b, a % b]
  return d === a ? `${n / a}` : `${n / a}/${d / a}`
}
