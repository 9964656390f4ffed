/** One graph of a bundle as the manifest tells of it: what it takes, gives and remembers. */
import { FormError } from './json.js'
import { MAX_SPATIAL_MULTIPLE, MAX_TIME_FACTOR } from './stream_spec.js'

/** @import { Fields } from './fields.js' */

const DTYPES = /** @type {const} */ (['float32', 'float16', 'int32', 'int64', 'uint8', 'int8', 'bool'])
const AXIS = /^(([NTHW])(\/[1-9][0-9]?)?|[1-9][0-9]{0,5})$/
const MAX_PIXELS = 2 ** 20 // of a receptive field, and channels of a stage
const MAX_FIXED = 2 ** 24 // product of the numbers among the axes of one array

/** @typedef {'encoder' | 'decoder'} Role */
/** @typedef {(typeof DTYPES)[number]} Dtype */
/** @typedef {{ name: string, dtype: Dtype, axes: string }} Port */
/**
 * Memory of a graph: feed `output` of one call to `input` of the next; zeros at the start of a stream.
 * @typedef {{ input: string, output: string, dtype: Dtype, axes: string }} State
 */
/**
 * @typedef {object} GraphEntry
 * @property {Role} role
 * @property {'local' | 'global'} part
 * @property {string} file
 * @property {string} sha256
 * @property {string} precision
 * @property {string[]} providers
 * @property {Port} input the data
 * @property {Port[]} outputs the data first
 * @property {State[]} states
 * @property {Port[]} flags
 * @property {Map<string, string[]>} missingKernels by engine, names of nodes
 * @property {number} receptiveField pixels that an output looks at on either side of its own
 */

/**
 * Numbers for axes as text: `N 512 2 H/8 W/8` with `{N: 1, H: 64, W: 64}` is [1, 512, 2, 8, 8]. Parts are rounded up, as
 * the latents of frames are.
 * @param {string} axes
 * @param {Record<string, number>} sizes
 */
export function shapeOf(axes, sizes) {
  return axes.split(' ').map((axis) => {
    const [symbol, divisor] = axis.split('/')
    return Math.ceil((sizes[symbol] ?? Number(symbol)) / Number(divisor ?? 1))
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
    part: raw.oneOf('part', /** @type {const} */ (['local', 'global'])),
    file: raw.fileName('file', '.onnx'),
    sha256: raw.sha256('sha256'),
    precision: raw.text('precision'),
    providers: raw.texts('providers'),
    input: inputs[0],
    outputs: raw.rows('outputs').map(port),
    states: raw.rows('states').map((row) => {
      row.oneOf('initial', ['zeros'])
      return { input: row.text('input'), output: row.text('output'), dtype: dtype(row), axes: axesOf(row) }
    }),
    flags: raw.rows('flags').map(port),
    missingKernels: raw.textsByName('missing_kernels'),
    receptiveField: raw.integer('receptive_field', 0, MAX_PIXELS),
  }
  if (inputs.length !== 1 || entry.outputs.length === 0) {
    throw new FormError(`a graph of the ${entry.role} has ${inputs.length} inputs of data, ${entry.outputs.length} outputs`)
  }
  checkStages(raw)
  check(entry)
  return entry
}

/**
 * What planners of memory use, who take a manifest if all runtimes do. Throws FormError.
 * @param {Fields} raw
 */
function checkStages(raw) {
  for (const stage of raw.rows('stages')) {
    stage.integer('channels', 1, MAX_PIXELS)
    stage.integer('space', 1, MAX_SPATIAL_MULTIPLE)
    stage.integer('time', 1, MAX_TIME_FACTOR)
    stage.boolean('attention')
  }
}

/** @param {GraphEntry} entry */
function check(entry) {
  const { inputs, outputs } = portsOf(entry)
  if (inputs.size !== 1 + entry.flags.length + entry.states.length) {
    throw new FormError(`two inputs of ${entry.file} have one name`)
  }
  if (outputs.size !== entry.outputs.length + entry.states.length) {
    throw new FormError(`two outputs of ${entry.file} have one name`)
  }
  const known = symbols(entry.input.axes)
  for (const { name, axes } of [...inputs.values(), ...outputs.values()]) {
    const unknown = symbols(axes).filter((symbol) => !known.includes(symbol))
    if (unknown.length) throw new FormError(`the axes of ${name} name ${unknown}, which the data do not have`)
  }
}

/** @param {string} axes */
function symbols(axes) {
  return [...axes].filter((c) => c >= 'A')
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
