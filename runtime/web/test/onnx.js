/** Small ONNX models, written byte by byte; field numbers are those of onnx.proto3. */
import { createHash } from 'node:crypto'

import { field as pieces } from '../src/protobuf.js'

const [FLOAT, INT64, BOOL] = [1, 7, 9] // data types
const [NUMBER, INT, INTS] = [1, 2, 7] // types of attributes

/**
 * A field of a message.
 * @param {number} number
 * @param {number | string | Uint8Array} value
 */
function field(number, value) {
  return Buffer.concat(pieces(number, value instanceof Uint8Array ? [value] : value))
}

/** @param {Uint8Array[]} fields */
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
 * @param {string} [domain]
 */
export function node(type, inputs, outputs, attributes = {}, domain = '') {
  const rows = Object.entries(attributes).map(([name, value]) => {
    const isWhole = Number.isInteger(value)
    const number = typeof value === 'number' && (isWhole ? field(3, value) : message(Buffer.from([2 * 8 + 5]), bytesOf([value])))
    const content = number ? [number] : /** @type {number[]} */ (value).map((n) => field(8, n))
    return field(5, message(field(1, name), ...content, field(20, isWhole ? INT : number ? NUMBER : INTS)))
  })
  const places = [...inputs.map((n) => field(1, n)), ...outputs.map((n) => field(2, n))]
  return message(...places, field(3, outputs[0]), field(4, type), ...rows, ...(domain ? [field(7, domain)] : []))
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
  const opsets = Object.entries({ '': 20, 'com.microsoft': 1 })
  const rows = opsets.map(([domain, version]) => field(8, message(field(1, domain), field(2, version))))
  return message(field(1, 10), field(7, content), ...rows)
}

/** @param {Uint8Array} bytes */
export function sha256(bytes) {
  return createHash('sha256').update(bytes).digest('hex')
}
