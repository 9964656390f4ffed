/** One graph of a bundle as the manifest tells of it: what it takes, gives and remembers. */
import { FormError } from './json.js'

/** @import { Fields } from './fields.js' */

export const FIRST_CALL = 'first call'
export const SECOND_CALL = 'second call'
export const FLUSH_CALL = 'flush call'
const OCCASIONS = [FIRST_CALL, SECOND_CALL, FLUSH_CALL]
const DTYPES = /** @type {const} */ (['float32', 'float16', 'int32', 'int64', 'uint8', 'int8', 'bool'])
const AXIS = /^(([NTHW])(\/[1-9][0-9]?)?|[1-9][0-9]{0,5})$/
const MAX_FIXED = 2 ** 24 // product of the numbers among the axes of one array

/** @typedef {'encoder' | 'decoder'} Role */
/** @typedef {(typeof DTYPES)[number]} Dtype */
/** @typedef {{ name: string, dtype: Dtype, axes: string }} Port */
/**
 * Memory of a graph: feed `output` of one call to `input` of the next; zeros at the start of a stream.
 * @typedef {{ input: string, output: string, dtype: Dtype, axes: string }} State
 */
/**
 * Input that is true in the calls of a stream that `set` lists and false in all others.
 * @typedef {Port & { set: string[] }} Flag
 */
/**
 * @typedef {object} GraphEntry
 * @property {Role} role
 * @property {string} file
 * @property {string} sha256
 * @property {string} precision
 * @property {string[]} providers
 * @property {Port} input the data
 * @property {Port[]} outputs the data first
 * @property {State[]} states
 * @property {Flag[]} flags
 */

/**
 * Numbers for axes as text: `N 512 2 H/8 W/8` with `{N: 1, H: 64, W: 64}` is [1, 512, 2, 8, 8].
 * @param {string} axes
 * @param {Record<string, number>} sizes
 */
export function shapeOf(axes, sizes) {
  return axes.split(' ').map((axis) => {
    const [symbol, divisor] = axis.split('/')
    return Math.floor((sizes[symbol] ?? Number(symbol)) / Number(divisor ?? 1))
  })
}

/**
 * The inverse: what N, T, H and W are when axes have these sizes.
 * @param {string} axes
 * @param {readonly number[]} shape
 */
export function sizesOf(axes, shape) {
  /** @type {Record<string, number>} */
  const sizes = {}
  axes.split(' ').forEach((axis, i) => {
    const [symbol, divisor] = axis.split('/')
    if (symbol >= 'A') sizes[symbol] = shape[i] * Number(divisor ?? 1)
  })
  return sizes
}

/**
 * All that a graph takes and gives, by name.
 * @param {GraphEntry} entry
 */
export function portsOf(entry) {
  const takes = [entry.input, ...entry.flags, ...entry.states.map((s) => ({ ...s, name: s.input }))]
  const gives = [...entry.outputs, ...entry.states.map((s) => ({ ...s, name: s.output }))]
  /** @param {Port[]} ports */
  const named = (ports) => new Map(ports.map((port) => [port.name, port]))
  return { inputs: named(takes), outputs: named(gives) }
}

/**
 * A row of `graphs`; throws FormError for whatever a runtime could not use.
 * @param {Fields} raw
 * @returns {GraphEntry}
 */
export function graphEntry(raw) {
  const inputs = raw.rows('inputs').map(port)
  const entry = {
    role: raw.oneOf('role', /** @type {const} */ (['encoder', 'decoder'])),
    file: fileName(raw),
    sha256: raw.sha256('sha256'),
    precision: raw.text('precision'),
    providers: raw.texts('providers'),
    input: inputs[0],
    outputs: raw.rows('outputs').map(port),
    states: raw.rows('states').map((row) => {
      row.oneOf('initial', ['zeros'])
      return { input: row.text('input'), output: row.text('output'), dtype: dtype(row), axes: axesOf(row) }
    }),
    flags: raw.rows('flags').map(flag),
  }
  if (inputs.length !== 1 || entry.outputs.length === 0) {
    throw new FormError(`the ${entry.role} has ${inputs.length} inputs of data and ${entry.outputs.length} outputs`)
  }
  check(entry)
  return entry
}

/** @param {GraphEntry} entry */
function check(entry) {
  const { inputs, outputs } = portsOf(entry)
  if (inputs.size !== 1 + entry.flags.length + entry.states.length) {
    throw new FormError(`two inputs of the ${entry.role} have one name`)
  }
  if (outputs.size !== entry.outputs.length + entry.states.length) {
    throw new FormError(`two outputs of the ${entry.role} have one name`)
  }
  const [data, result] = [entry.input, entry.outputs[0]]
  const [tokens, video] = entry.role === 'encoder' ? [result, data] : [data, result]
  if (video.name !== 'video' || !['latent', 'indices'].includes(tokens.name)) {
    throw new FormError(`the ${entry.role} turns ${data.name} into ${result.name}, not video into latent or indices`)
  }
  for (const { name, axes } of [video, tokens]) {
    const list = axes.split(' ')
    if (list.length !== (name === 'indices' ? 4 : 5) || list[list.length - 3][0] !== 'T') {
      throw new FormError(`the axes of ${name} are '${axes}'`)
    }
  }
  const known = symbols(data.axes)
  for (const { name, axes } of [...inputs.values(), ...outputs.values()]) {
    const unknown = symbols(axes).filter((symbol) => !known.includes(symbol))
    if (unknown.length) throw new FormError(`the axes of ${name} name ${unknown}, which the data do not have`)
  }
}

/** @param {string} axes */
function symbols(axes) {
  return [...axes].filter((c) => c >= 'A')
}

/**
 * The graph's file, which lies in the bundle's folder itself and nowhere else.
 * @param {Fields} raw
 */
function fileName(raw) {
  const name = raw.text('file')
  if (!/^[A-Za-z0-9_][A-Za-z0-9_.+-]*\.onnx$/.test(name)) {
    throw new FormError(`the file '${name}' is not the plain name of an .onnx file inside the bundle`)
  }
  return name
}

/** @param {Fields} raw */
function dtype(raw) {
  return raw.oneOf('dtype', DTYPES)
}

/** @param {Fields} raw */
function axesOf(raw) {
  const axes = raw.text('axes')
  const list = axes.split(' ')
  if (list.length > 6 || !list.every((axis) => AXIS.test(axis))) {
    throw new FormError(`the axes '${axes}' of ${raw.where} are not like 'N 512 2 H/8 W/8'`)
  }
  const fixed = list.map(Number).filter((n) => !Number.isNaN(n))
  if (fixed.reduce((product, n) => product * n, 1) > MAX_FIXED) {
    throw new FormError(`the axes '${axes}' of ${raw.where} are too large`)
  }
  return axes
}

/**
 * @param {Fields} raw
 * @returns {Port}
 */
function port(raw) {
  return { name: raw.text('name'), dtype: dtype(raw), axes: axesOf(raw) }
}

/**
 * @param {Fields} raw
 * @returns {Flag}
 */
function flag(raw) {
  const { name, dtype, axes } = port(raw)
  const set = raw.texts('set')
  const unknown = set.filter((occasion) => !OCCASIONS.includes(occasion))
  if (unknown.length) throw new FormError(`when to set ${name} is unknown to this runtime: ${unknown}`)
  if (symbols(axes).length) throw new FormError(`the axes '${axes}' of the flag ${name} are not numbers`)
  return { name, dtype, axes, set }
}
