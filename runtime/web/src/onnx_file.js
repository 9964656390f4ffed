/**
 * What must be known of an ONNX file before any engine opens it, found by walking its protobuf fields.
 *
 * Field numbers are those of onnx.proto3, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3.
 */
import { BundleError } from './errors.js'
import { FormError } from './json.js'
import { BYTES, EIGHT_BYTES, FOUR_BYTES, VARINT, fields, inside, text } from './protobuf.js'

/** @import { Message } from './protobuf.js' */

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
  if (!pairs.length && outside.length <= 1 && outside.every((value) => value === 0)) return null
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
