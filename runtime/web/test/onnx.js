/** Small ONNX models, written byte by byte; field numbers are those of onnx.proto3. */
import { createHash } from 'node:crypto'

const [FLOAT, INT64, BOOL] = [1, 7, 9] // data types
const [INT, INTS] = [2, 7] // types of attributes

/** @param {number} value */
function varint(value) {
  const out = []
  for (let rest = BigInt.asUintN(64, BigInt(value)); ; rest >>= 7n) {
    if (rest < 128n) return Buffer.from([...out, Number(rest)])
    out.push(Number(rest & 127n) | 128)
  }
}

/**
 * A field of a message.
 * @param {number} number
 * @param {number | string | Uint8Array} value
 */
function field(number, value) {
  if (typeof value === 'number') return Buffer.concat([varint(number * 8), varint(value)])
  const content = Buffer.from(value)
  return Buffer.concat([varint(number * 8 + 2), varint(content.length), content])
}

/** @param {Buffer[]} fields */
const message = (...fields) => Buffer.concat(fields)

/**
 * An input or output; names of axes are symbols.
 * @param {string} name
 * @param {'float32' | 'bool'} dtype
 * @param {(number | string)[]} shape
 */
export function port(name, dtype, shape) {
  const axes = shape.map((axis) => field(1, typeof axis === 'number' ? field(1, axis) : field(2, axis)))
  const tensor = message(field(1, dtype === 'bool' ? BOOL : FLOAT), field(2, message(...axes)))
  return message(field(1, name), field(2, field(1, tensor)))
}

/**
 * An operator.
 * @param {string} type
 * @param {string[]} inputs
 * @param {string[]} outputs
 * @param {Record<string, number | number[]>} [attributes]
 */
export function node(type, inputs, outputs, attributes = {}) {
  const rows = Object.entries(attributes).map(([name, value]) => {
    const content = typeof value === 'number' ? [field(3, value)] : value.map((n) => field(8, n))
    return field(5, message(field(1, name), ...content, field(20, typeof value === 'number' ? INT : INTS)))
  })
  return message(...inputs.map((n) => field(1, n)), ...outputs.map((n) => field(2, n)), field(3, outputs[0]), field(4, type), ...rows)
}

/**
 * Whole numbers inside a model.
 * @param {string} name
 * @param {number[]} values
 */
export function whole(name, values) {
  const data = new BigInt64Array(values.map(BigInt))
  return message(field(1, values.length), field(2, INT64), field(8, name), field(9, new Uint8Array(data.buffer)))
}

/**
 * Floats inside a model.
 * @param {string} name
 * @param {number[]} shape
 * @param {number[]} values
 */
export function floats(name, shape, values) {
  return message(...shape.map((n) => field(1, n)), field(2, FLOAT), field(8, name), field(9, bytesOf(values)))
}

/**
 * Floats in a file beside it.
 * @param {string} name
 * @param {number[]} shape
 * @param {Record<string, string>} place
 */
export function outside(name, shape, place) {
  const pairs = Object.entries(place).map(([key, value]) => field(13, message(field(1, key), field(2, value))))
  return message(...shape.map((n) => field(1, n)), field(2, FLOAT), field(8, name), ...pairs, field(14, 1))
}

/** @param {number[]} values */
export function bytesOf(values) {
  return new Uint8Array(Float32Array.from(values).buffer)
}

/**
 * A model.
 * @param {{ inputs: Buffer[], outputs: Buffer[], nodes: Buffer[], tensors: Buffer[] }} graph
 */
export function model({ inputs, outputs, nodes, tensors }) {
  const content = message(
    ...nodes.map((n) => field(1, n)),
    field(2, 'g'),
    ...tensors.map((t) => field(5, t)),
    ...inputs.map((i) => field(11, i)),
    ...outputs.map((o) => field(12, o)),
  )
  return message(field(1, 10), field(7, content), field(8, message(field(1, ''), field(2, 20))))
}

/** @param {Uint8Array} bytes */
export function sha256(bytes) {
  return createHash('sha256').update(bytes).digest('hex')
}
