/** Messages of protobuf: their fields read and written one by one. */
import { FormError } from './json.js'

export const [VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES] = [0, 1, 2, 5] // wire types

/** @typedef {{ first: number, last: number }} Message where it starts and ends */
/** @typedef {Message & { number: number, wire: number }} Field */

/**
 * The fields of a number in a message.
 * @param {Uint8Array} bytes
 * @param {Message} message
 * @param {number} wanted
 */
export function inside(bytes, { first, last }, wanted) {
  return [...fields(bytes, first, last)].filter(({ number }) => number === wanted)
}

/**
 * @param {Uint8Array} bytes
 * @param {Message} field
 */
export function text(bytes, { first, last }) {
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes.subarray(first, last))
}

/**
 * Number, wire type, and where the value starts and ends, of every field of the message at `start..end`.
 * @param {Uint8Array} bytes
 * @param {number} start
 * @param {number} end
 * @returns {Generator<Field>}
 */
export function* fields(bytes, start, end) {
  while (start < end) {
    const key = varint(bytes, start, end)
    const [number, wire] = [Math.floor(key.value / 8), key.value % 8]
    let [first, last] = [key.end, key.end]
    if (wire === VARINT) {
      last = varint(bytes, first, end).end
    } else if (wire === BYTES) {
      const length = varint(bytes, first, end)
      first = length.end
      last = first + length.value
    } else if (wire === EIGHT_BYTES || wire === FOUR_BYTES) {
      last = first + (wire === EIGHT_BYTES ? 8 : 4)
    } else {
      throw new FormError(`it has a field of wire type ${wire}`)
    }
    if (last > end) throw new FormError('a field is longer than what holds it')
    yield { number, wire, first, last }
    start = last
  }
}

/**
 * A number of 64 bits, 7 bits a byte in as few bytes as it needs, and where it ends. Above 2^53 only that it is large
 * counts.
 * @param {Uint8Array} bytes
 * @param {number} start
 * @param {number} end
 */
function varint(bytes, start, end) {
  let value = 0
  for (let i = 0; i < 10; i++) {
    if (start + i >= end) throw new FormError('it ends inside a number')
    const byte = bytes[start + i]
    if ((i === 9 && byte > 1) || (i && byte === 0)) throw new FormError('a number is longer than it needs to be')
    value += (byte & 0x7f) * 2 ** (7 * i)
    if (byte < 0x80) return { value, end: start + i + 1 }
  }
  throw new FormError('a number has more than 10 bytes')
}

/**
 * A field of a message as its bytes.
 * @param {number} number
 * @param {number | string | Uint8Array[]} value bytes in pieces, which follow each other
 * @returns {Uint8Array[]}
 */
export function field(number, value) {
  if (typeof value === 'number') return [numeral(number * 8 + VARINT), numeral(value)]
  const content = typeof value === 'string' ? [new TextEncoder().encode(value)] : value
  const length = content.reduce((sum, piece) => sum + piece.length, 0)
  return [numeral(number * 8 + BYTES), numeral(length), ...content]
}

/** @param {number} value whole, up to 2^53; those below 0 as numbers of 64 bits */
function numeral(value) {
  const bytes = []
  for (let rest = BigInt.asUintN(64, BigInt(value)); ; rest >>= 7n) {
    if (rest < 128n) return Uint8Array.from([...bytes, Number(rest)])
    bytes.push(Number(rest & 127n) | 128)
  }
}

/** @param {Uint8Array[]} pieces */
export function joined(pieces) {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0))
  let at = 0
  for (const piece of pieces) {
    whole.set(piece, at)
    at += piece.length
  }
  return whole
}
