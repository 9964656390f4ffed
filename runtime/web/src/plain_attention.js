/**
 * Attention in plain operators, for some queries at a time.
 *
 * Bundles hold attention as one operator, which ONNX Runtime runs in blocks on CPUs. Its WASM and its WebGPU hold the
 * scores of all pixels with all pixels instead, which fail or do not fit beyond small frames.
 */
import { BundleError } from './errors.js'
import { field, fields, inside, joined, text } from './protobuf.js'

/** @import { Field, Message } from './protobuf.js' */

const QUERIES = 1024 // whose scores are held at once
// Fields of onnx.proto3: of a model; a graph; a node; an attribute; a port.
const GRAPH = 7
const [NODE, GRAPH_NAME, INPUT, OUTPUT] = [1, 2, 11, 12]
const [TAKES, GIVES, OPERATOR, ATTRIBUTE, DOMAIN] = [1, 2, 4, 5, 7]
const [NAME, NUMBER, INT, BODY, INTS, KIND] = [1, 2, 3, 6, 8, 20]
const [PORT_NAME, TYPE, TENSOR, ELEMENTS, SHAPE] = [1, 2, 1, 1, 2]
/** @type {Record<number, number>} */
const KINDS = { [INT]: 2, [BODY]: 5, [INTS]: 7 } // of attributes
const [FLOAT, INT64, BOOL] = [1, 7, 9] // elements of tensors

/**
 * The bytes of an ONNX model without the operator. Throws BundleError where the operator computes something else.
 * @param {Uint8Array} bytes those of a model as `checkOnnxFile` lets pass
 * @param {string} name for messages
 */
export function plainAttention(bytes, name) {
  const model = { first: 0, last: bytes.length }
  const [graph] = inside(bytes, model, GRAPH)
  const attentions = inside(bytes, graph, NODE).filter((node) => isAttention(bytes, node))
  if (!attentions.length) return bytes
  if (!attentions.every((node) => isKnown(bytes, node))) {
    throw new BundleError(
      `${name} has attention that is not of three inputs with num_heads 1 and a scale, as vidtok-export writes it; ` +
        'choose provider cpu, or export the bundle again',
    )
  }
  const nodes = changed(bytes, graph, (part) =>
    part.number === NODE && isAttention(bytes, part) ? plainNodes(bytes, part) : null,
  )
  return joined(changed(bytes, model, ({ number }) => (number === GRAPH ? field(GRAPH, nodes) : null)))
}

/**
 * @param {Uint8Array} bytes
 * @param {Message} node
 */
function isAttention(bytes, node) {
  const [operator, domain] = [OPERATOR, DOMAIN].map((number) => texts(bytes, node, number)[0])
  return operator === 'MultiHeadAttention' && domain === 'com.microsoft'
}

/**
 * Whether it computes what `plainNodes` do: further inputs, outputs and attributes are biases, masks and states.
 * @param {Uint8Array} bytes
 * @param {Message} attention
 */
function isKnown(bytes, attention) {
  const [takes, gives, attributes] = [TAKES, GIVES, ATTRIBUTE].map((number) => inside(bytes, attention, number))
  if (takes.length !== 3 || gives.length !== 1 || attributes.length !== 2) return false
  const value = (/** @type {string} */ name, /** @type {number} */ kind) => {
    const found = attributes.filter((attribute) => texts(bytes, attribute, NAME)[0] === name)
    const values = found.flatMap((attribute) => inside(bytes, attribute, kind))
    return values.length === 1 ? bytes.subarray(values[0].first, values[0].last) : null
  }
  const [heads, scale] = [value('num_heads', INT), value('scale', NUMBER)]
  // A scale of 0 stands for one that follows from the size of a head.
  return heads?.[0] === 1 && scale !== null && scale.some((byte) => byte !== 0)
}

/**
 * @param {Uint8Array} bytes
 * @param {Message} message
 * @param {number} number
 */
function texts(bytes, message, number) {
  return inside(bytes, message, number).map((found) => text(bytes, found))
}

/**
 * A message, some of whose fields are others now, in pieces.
 * @param {Uint8Array} bytes
 * @param {Message} message
 * @param {(part: Field) => Uint8Array[] | null} change null: it stays
 */
function changed(bytes, message, change) {
  const pieces = []
  let start = message.first
  for (const part of fields(bytes, message.first, message.last)) {
    pieces.push(...(change(part) ?? [bytes.subarray(start, part.last)]))
    start = part.last
  }
  return pieces
}

/**
 * Nodes that compute `y = softmax(q k^T scale) v`, with q, k, v and y `B L C`, in blocks of B times `block` queries.
 * @param {Uint8Array} bytes
 * @param {Message} attention
 */
function plainNodes(bytes, attention) {
  const [q, k, v] = texts(bytes, attention, TAKES)
  const [y] = texts(bytes, attention, GIVES)
  const [scale] = inside(bytes, attention, ATTRIBUTE).filter((a) => texts(bytes, a, NAME)[0] === 'scale')
  const factor = changed(bytes, scale, ({ number }) => (number === NAME ? field(NAME, 'value_float') : null))
  /** @type {Record<string, string>} */
  const outer = { q, k, v, y, '': '' }
  const name = (/** @type {string} */ own) => outer[own] ?? `${y}.plain.${own}`

  /**
   * @param {string} operator
   * @param {string} takes names of values
   * @param {string} gives
   * @param {Uint8Array[][]} attributes
   */
  const node = (operator, takes, gives, ...attributes) =>
    field(NODE, [
      ...(takes ? takes.split(' ') : []).flatMap((own) => field(TAKES, name(own))),
      ...gives.split(' ').flatMap((own) => field(GIVES, name(own))),
      ...field(OPERATOR, operator),
      ...attributes.flatMap((attribute) => field(ATTRIBUTE, attribute)),
    ])
  const constant = (/** @type {string} */ own, /** @type {number} */ value) =>
    node('Constant', '', own, list('value_ints', [value]))
  const port = (/** @type {number} */ place, /** @type {string} */ own, /** @type {Uint8Array[]} */ tensor) =>
    field(place, [...field(PORT_NAME, name(own)), ...field(TYPE, field(TENSOR, tensor))])
  const scalar = (/** @type {number} */ elements) => [...field(ELEMENTS, elements), ...field(SHAPE, [])]

  const body = [
    ...node('Mul', 'i block', 'from'),
    ...node('Add', 'from block', 'to'),
    ...node('Slice', 'filled from to one', 'queries'),
    ...node('MatMul', 'queries keys', 'scores'),
    ...node('Softmax', 'scores', 'shares', whole('axis', -1)),
    ...node('MatMul', 'shares v', 'part'),
    ...node('Identity', 'on', 'further'),
    ...field(GRAPH_NAME, name('body')),
    ...port(INPUT, 'i', scalar(INT64)),
    ...port(INPUT, 'on', scalar(BOOL)),
    ...port(OUTPUT, 'further', scalar(BOOL)),
    ...port(OUTPUT, 'part', field(ELEMENTS, FLOAT)),
  ]
  return [
    ...constant('zero', 0),
    ...constant('one', 1),
    ...constant('rest', -1),
    ...constant('most', QUERIES),
    ...node('Shape', 'q', 'batch', whole('start', 0), whole('end', 1)),
    ...node('Shape', 'q', 'length', whole('start', 1), whole('end', 2)),
    ...node('Shape', 'v', 'width', whole('start', 2), whole('end', 3)),
    // blocks = ceil(batch * length / most), block = ceil(length / blocks)
    ...node('Mul', 'batch length', 'rows'),
    ...node('Add', 'rows most', 'above'),
    ...node('Sub', 'above one', 'below'),
    ...node('Div', 'below most', 'blocks'),
    ...node('Add', 'length blocks', 'over'),
    ...node('Sub', 'over one', 'under'),
    ...node('Div', 'under blocks', 'block'),
    ...node('Mul', 'blocks block', 'longer'),
    ...node('Sub', 'longer length', 'missing'),
    ...node('Concat', 'zero missing', 'pads', whole('axis', 0)),
    ...node('Constant', '', 'factor', factor),
    ...node('Mul', 'q factor', 'scaled'),
    ...node('Pad', 'scaled pads  one', 'filled'), // with zeros, at the end of L
    ...node('Transpose', 'k', 'keys', list('perm', [0, 2, 1])),
    ...node('Squeeze', 'blocks', 'count'),
    ...node('Loop', 'count ', 'parts', attributeOf('body', BODY, field(BODY, body))),
    ...node('Transpose', 'parts', 'ordered', list('perm', [1, 0, 2, 3])),
    ...node('Concat', 'batch rest width', 'shape', whole('axis', 0)),
    ...node('Reshape', 'ordered shape', 'joined'),
    ...node('Slice', 'joined zero length one', 'y'),
  ]
}

/**
 * @param {string} name
 * @param {number} kind
 * @param {Uint8Array[]} content
 */
function attributeOf(name, kind, content) {
  return [...field(NAME, name), ...content, ...field(KIND, KINDS[kind])]
}

/**
 * @param {string} name
 * @param {number} value
 */
function whole(name, value) {
  return attributeOf(name, INT, field(INT, value))
}

/**
 * @param {string} name
 * @param {number[]} values
 */
function list(name, values) {
  return attributeOf(name, INTS, values.flatMap((value) => field(INTS, value)))
}
