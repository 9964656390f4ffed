/**
 * Does an ONNX file keep tensors in other files? Found by walking its protobuf fields, before any engine opens it.
 *
 * Field numbers are those of onnx.proto3, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3.
 */
import { BundleError } from './errors.js'
import { FormError } from './fields.js'

/**
 * Message -> number of a field -> message inside it; whatever is not on a way to a tensor is passed over.
 * @type {Record<string, Record<number, string>>}
 */
const INSIDE = {
  model: { 7: 'graph', 20: 'training', 25: 'function' },
  training: { 1: 'graph', 2: 'graph' },
  function: { 7: 'node', 11: 'attribute' },
  graph: { 1: 'node', 5: 'tensor', 15: 'sparse' },
  node: { 5: 'attribute' },
  attribute: { 5: 'tensor', 6: 'graph', 10: 'tensor', 11: 'graph', 22: 'sparse', 23: 'sparse' },
  sparse: { 1: 'tensor', 2: 'tensor' },
  tensor: {},
}
const [EXTERNAL_DATA, DATA_LOCATION] = [13, 14] // fields of a tensor
const [VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES] = [0, 1, 2, 5] // wire types
const DEEPEST = 64

/**
 * Throw BundleError unless the bytes are an ONNX model all of whose weights are inside it.
 * @param {Uint8Array} bytes
 * @param {string} name
 */
export function refuseExternalData(bytes, name) {
  let external
  try {
    if (![...fields(bytes, 0, bytes.length)].some(({ number }) => INSIDE.model[number] === 'graph')) {
      throw new FormError('it has no graph')
    }
    external = isExternal(bytes, 0, bytes.length, 'model', 0)
  } catch (error) {
    if (!(error instanceof FormError)) throw error
    throw new BundleError(`${name} is no sound ONNX file: ${error.message}; export the bundle again`)
  }
  if (external) {
    throw new BundleError(
      `${name} keeps weights in other files, which a bundle may not; export it with the weights inside`,
    )
  }
}

/**
 * @param {Uint8Array} bytes
 * @param {number} start
 * @param {number} end
 * @param {string} message
 * @param {number} depth
 * @returns {boolean}
 */
function isExternal(bytes, start, end, message, depth) {
  if (depth > DEEPEST) throw new FormError('it is nested too deeply')
  for (const { number, wire, first, last } of fields(bytes, start, end)) {
    const inside = wire === BYTES ? INSIDE[message][number] : undefined
    if (inside && isExternal(bytes, first, last, inside, depth + 1)) return true
    if (message === 'tensor' && number === EXTERNAL_DATA) return true
    if (message === 'tensor' && number === DATA_LOCATION && wire === VARINT && varint(bytes, first, last).value) {
      return true
    }
  }
  return false
}

/**
 * Number, wire type, and where the value starts and ends, of every field of the message at `start..end`.
 * @param {Uint8Array} bytes
 * @param {number} start
 * @param {number} end
 */
function* fields(bytes, start, end) {
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
      throw new FormError(`a field of wire type ${wire}`)
    }
    if (last > end) throw new FormError('a field is longer than what holds it')
    yield { number, wire, first, last }
    start = last
  }
}

/**
 * A number, 7 bits a byte, and where it ends. Above 2^53 only that it is large counts.
 * @param {Uint8Array} bytes
 * @param {number} start
 * @param {number} end
 */
function varint(bytes, start, end) {
  let value = 0
  for (let i = 0; i < 10; i++) {
    if (start + i >= end) throw new FormError('it ends inside a number')
    const byte = bytes[start + i]
    value += (byte & 0x7f) * 2 ** (7 * i)
    if (byte < 0x80) return { value, end: start + i + 1 }
  }
  throw new FormError('a number has more than 10 bytes')
}
