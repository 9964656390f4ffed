/**
 * What must be known of an ONNX file before any engine opens it, found by walking its protobuf fields.
 *
 * Field numbers are those of onnx.proto3, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3.
 */
import { BundleError } from './errors.js'
import { FormError } from './json.js'

/** Operators beyond ONNX's own that vidtok-export writes: `domain name`. */
const OPERATORS = ['com.microsoft MultiHeadAttention']
const OWN = ['', 'ai.onnx'] // the two names of ONNX's own domain
/**
 * What each field of a message is, by its number; a dot is a field that vidtok-export does not write. Parsers pass over
 * fields that they do not know, each in its own way, and something may hide there: so they are refused.
 * @type {Record<string, string>}
 */
const MESSAGES = {
  M: '.vbbbvbGb.....b', // model
  G: '.Nb..T....bbbbbSb', // graph
  N: '.bbbbAbbbb', // node
  A: '.bfvbTGxibTG.bbb....vbSS', // attribute
  T: '.iv.xibibbdibEL.b', // tensor
  S: '.TTi', // sparse tensor
  E: '.bb', // name and value of where a tensor's data are in another file
}
const [VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES] = [0, 1, 2, 5] // wire types
/**
 * The wire types of each kind of field; lists of numbers come one by one or packed into bytes.
 * @type {Record<string, number[]>}
 */
const WIRES = {
  v: [VARINT],
  L: [VARINT], // where a tensor's data are
  b: [BYTES],
  f: [FOUR_BYTES],
  i: [VARINT, BYTES],
  x: [FOUR_BYTES, BYTES],
  d: [EIGHT_BYTES, BYTES],
  '.': [],
}
const [GRAPH, OPERATOR, DOMAIN] = [7, 4, 7] // fields of a model, and of a node
const [EXTERNAL, LOCATION] = [13, 14] // of a tensor
const DEEPEST = 64
/** Bytes 4 to 8 of models of other kinds, which engines tell by them: ONNX Runtime's own format and TensorFlow Lite's. */
const OTHER_KINDS = ['ORTM', 'TFL3']

/** @typedef {{ first: number, last: number }} Message where it starts and ends */

/**
 * Names of the files that a model keeps weights in, of those in `weights`, which have so many bytes. Throws BundleError
 * unless it is one ONNX model of known operators whose other weights are inside.
 * @param {Uint8Array} bytes
 * @param {string} name
 * @param {Map<string, number>} [weights]
 */
export function checkOnnxFile(bytes, name, weights = new Map()) {
  /** @type {Set<string>} */
  const named = new Set()
  try {
    if (OTHER_KINDS.includes(text(bytes, { first: 4, last: 8 }))) throw new FormError('it is a model of another kind')
    const model = { first: 0, last: bytes.length }
    for (const tensor of tensors(bytes, model, 'M', 0)) {
      const file = fileOf(bytes, tensor, weights)
      if (file !== null) named.add(file)
    }
    const graphs = inside(bytes, model, GRAPH).length
    if (graphs !== 1) throw new FormError(`it has ${graphs} graphs`)
  } catch (error) {
    if (!(error instanceof FormError)) throw error
    throw new BundleError(`${name} is no ONNX file that can be used: ${error.message}; export the bundle again`)
  }
  return named
}

/**
 * All tensors in a message, each of whose fields is checked on the way.
 * @param {Uint8Array} bytes
 * @param {Message} place
 * @param {string} message
 * @param {number} depth
 * @returns {Generator<Message>}
 */
function* tensors(bytes, { first: start, last: end }, message, depth) {
  if (depth > DEEPEST) throw new FormError('it is nested too deeply')
  for (const { number, wire, first, last } of fields(bytes, start, end)) {
    const kind = MESSAGES[message][number] ?? '.'
    if (kind in MESSAGES ? wire !== BYTES : !WIRES[kind].includes(wire)) {
      throw new FormError(`it has a field ${number} of wire type ${wire} where exporters write none`)
    }
    if (kind in MESSAGES) yield* tensors(bytes, { first, last }, kind, depth + 1)
  }
  if (message === 'N') checkOperator(bytes, { first: start, last: end })
  if (message === 'T') yield { first: start, last: end }
}

/**
 * The file that a tensor's data are in; null: they are in the tensor.
 * @param {Uint8Array} bytes
 * @param {Message} tensor
 * @param {Map<string, number>} weights
 */
function fileOf(bytes, tensor, weights) {
  const outside = inside(bytes, tensor, LOCATION).map(({ first }) => bytes[first])
  const pairs = inside(bytes, tensor, EXTERNAL).map((pair) => {
    const [keys, values] = [1, 2].map((number) => inside(bytes, pair, number))
    if (keys.length !== 1 || values.length !== 1) throw new FormError('the place of a tensor is no name and value')
    return [text(bytes, keys[0]), text(bytes, values[0])]
  })
  if (!pairs.length && outside.every((value) => value === 0)) return null
  const isOutside = outside.length === 1 && outside[0] === 1
  if (!isOutside || pairs.length !== 3 || String(pairs.map(([key]) => key).sort()) !== 'length,location,offset') {
    throw new FormError('a tensor in another file does not say exactly where: location, offset, length')
  }
  const { location, offset, length } = Object.fromEntries(pairs)
  const size = weights.get(location)
  if (size === undefined) {
    throw new FormError(`it keeps weights in '${location.slice(0, 60)}', which is no file of the manifest's weights_files`)
  }
  if (![offset, length].every((n) => /^[0-9]{1,16}$/.test(n)) || Number(offset) + Number(length) > size) {
    throw new FormError(`a tensor is no part of ${location}`)
  }
  return location
}

/**
 * @param {Uint8Array} bytes
 * @param {Message} node
 */
function checkOperator(bytes, node) {
  const [operators, domains] = [OPERATOR, DOMAIN].map((number) => inside(bytes, node, number))
  if (operators.length > 1 || domains.length > 1) throw new FormError('a node names its operator twice')
  const [operator, domain] = [operators, domains].map((found) => found.map((field) => text(bytes, field)).join(''))
  if (!OWN.includes(domain) && !OPERATORS.includes(`${domain} ${operator}`)) {
    throw new FormError('it has an operator that is none of those that vidtok-export writes')
  }
}

/**
 * The fields of a number in a message.
 * @param {Uint8Array} bytes
 * @param {Message} message
 * @param {number} wanted
 */
function inside(bytes, { first, last }, wanted) {
  return [...fields(bytes, first, last)].filter(({ number }) => number === wanted)
}

/**
 * @param {Uint8Array} bytes
 * @param {Message} field
 */
function text(bytes, { first, last }) {
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes.subarray(first, last))
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
