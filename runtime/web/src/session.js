/** A loaded graph, and the loop that carries its state from call to call. */
import { Chunk } from './chunk.js'
import { BundleError, InputError, ProviderError, firstLine } from './errors.js'
import { FIRST_CALL, FLUSH_CALL, SECOND_CALL, portsOf, shapeOf } from './graph_entry.js'

/** @import { InferenceSession, Tensor } from 'onnxruntime-common' */
/** @import { Dtype, GraphEntry, Port } from './graph_entry.js' */
/** @import { Ort } from './provider.js' */
/** @import { Provider } from './index.js' */
/** @import { Queue } from './queue.js' */

/** @type {Record<Dtype, { new (length: number): any }>} */
const ARRAYS = {
  float32: Float32Array,
  // What engines take for half precision: the numbers' own array where the platform has one, else their bits.
  float16: /** @type {any} */ (globalThis).Float16Array ?? Uint16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  uint8: Uint8Array,
  int8: Int8Array,
  bool: Uint8Array,
}
const DATA = ['float32', 'int32', 'int64']

/**
 * A graph of a bundle on an engine, and those streams through it whose states are on a device.
 * @typedef {object} Loaded
 * @property {Ort} ort
 * @property {GraphEntry} entry
 * @property {InferenceSession} session
 * @property {Queue} queue
 * @property {Set<StatefulGraph>} live
 */

/**
 * Load a graph and check it against the manifest; throws BundleError, ProviderError.
 * @param {Ort} ort
 * @param {Provider} provider
 * @param {GraphEntry} entry
 * @param {Uint8Array} bytes
 * @param {string} name for messages
 * @param {Queue} queue calls of all graphs go through one queue, since engines take one at a time
 * @param {number | undefined} threads
 * @returns {Promise<Loaded>}
 */
export async function loadGraph(ort, provider, entry, bytes, name, queue, threads) {
  for (const { name: data, dtype } of [entry.input, entry.outputs[0]]) {
    if (!DATA.includes(dtype)) throw new BundleError(`${name}: ${data} is ${dtype}; this runtime takes ${DATA}`)
  }
  const location = Object.fromEntries(entry.states.map((state) => [state.output, /** @type {const} */ ('gpu-buffer')]))
  /** @type {InferenceSession.SessionOptions} */
  const options = {
    executionProviders: [provider],
    logSeverityLevel: 3,
    ...(provider === 'cpu' && threads !== undefined && { intraOpNumThreads: threads }),
    ...(provider === 'webgpu' && { preferredOutputLocation: location }),
  }
  let session
  try {
    session = await queue.run(() => ort.InferenceSession.create(bytes, options))
  } catch (error) {
    const text = firstLine(error)
    if (/backend not found|WebGPU adapter/.test(text)) {
      throw new ProviderError(`provider ${provider} does not start here (${text}); choose another`)
    }
    throw new BundleError(`ONNX Runtime cannot load ${name}: ${text}`)
  }
  try {
    checkPorts(entry, session, name)
  } catch (error) {
    await session.release()
    throw error
  }
  return { ort, entry, session, queue, live: new Set() }
}

/** The state of one stream through a graph. */
export class StatefulGraph {
  /** @type {Record<string, Tensor> | null} */
  #state = null
  #calls = 0

  /** @param {Loaded} loaded */
  constructor(loaded) {
    this.loaded = loaded
  }

  /** @returns {GraphEntry} */
  get entry() {
    return this.loaded.entry
  }

  /**
   * Run one chunk and keep the new states for the next; returns the first output. Throws BundleError, ProviderError.
   * @param {Chunk} x
   * @param {boolean} flush this call comes after the end of the stream
   */
  async step(x, flush) {
    const { ort, entry, session, queue, live } = this.loaded
    const state = (this.#state ??= this.#initialState(x))
    this.#calls++
    const occasions = [[FIRST_CALL, SECOND_CALL][this.#calls - 1], flush ? FLUSH_CALL : undefined]
    const input = entry.input
    /** @type {Record<string, Tensor>} */
    const feeds = { ...state, [input.name]: tensor(ort, input.dtype, x.data, x.dims) }
    for (const { name, dtype, axes, set } of entry.flags) {
      feeds[name] = filled(ort, dtype, shapeOf(axes, {}), set.some((occasion) => occasions.includes(occasion)))
    }
    let results
    try {
      results = await queue.run(() => session.run(feeds))
    } catch (error) {
      throw new ProviderError(`ONNX Runtime failed: ${firstLine(error)}`)
    }
    this.dispose()
    this.#state = Object.fromEntries(entry.states.map((s) => [s.input, results[s.output]]))
    if (Object.values(this.#state).some(isOnDevice)) live.add(this)
    for (const { name } of entry.outputs) {
      const { data } = results[name]
      if (data instanceof Float32Array && !isFinite(data)) {
        throw new BundleError(
          `the ${entry.role} gave NaN or infinite ${name}; its weights or what it was given are damaged`,
        )
      }
    }
    const { data, dims } = results[entry.outputs[0].name]
    const numbers = data instanceof BigInt64Array ? Int32Array.from(data, Number) : data
    return new Chunk(/** @type {import('./chunk.js').Numbers} */ (numbers), dims)
  }

  /** Give the states back that an engine keeps on a device. */
  dispose() {
    for (const value of Object.values(this.#state ?? {})) if (isOnDevice(value)) value.dispose()
    this.#state = null
    this.loaded.live.delete(this)
  }

  /** @param {Chunk} x */
  #initialState(x) {
    // The sizes of the first chunk, turned back into the manifest's symbols.
    /** @type {Record<string, number>} */
    const sizes = {}
    this.entry.input.axes.split(' ').forEach((axis, i) => {
      const [symbol, divisor] = axis.split('/')
      if (symbol >= 'A') sizes[symbol] = x.dims[i] * Number(divisor ?? 1)
    })
    try {
      return Object.fromEntries(
        this.entry.states.map((s) => [s.input, filled(this.loaded.ort, s.dtype, shapeOf(s.axes, sizes), false)]),
      )
    } catch (error) {
      if (!(error instanceof RangeError)) throw error
      throw new InputError(`the ${this.entry.role}'s state for data ${x.dims} needs too much memory`)
    }
  }
}

/** @param {Tensor} value */
function isOnDevice(value) {
  return value.location === 'gpu-buffer'
}

/**
 * @param {Ort} ort
 * @param {Dtype} dtype
 * @param {number[]} dims
 * @param {boolean} value
 */
function filled(ort, dtype, dims, value) {
  const data = new ARRAYS[dtype](dims.reduce((product, n) => product * n, 1))
  if (value) data.fill(dtype === 'int64' ? 1n : data.constructor === Uint16Array ? 0x3c00 : 1)
  return new ort.Tensor(/** @type {'float32'} */ (dtype), data, dims)
}

/**
 * @param {Ort} ort
 * @param {Dtype} dtype
 * @param {import('./chunk.js').Numbers} data
 * @param {readonly number[]} dims
 */
function tensor(ort, dtype, data, dims) {
  const numbers = dtype === 'int64' ? BigInt64Array.from(/** @type {Int32Array} */ (data), BigInt) : data
  return new ort.Tensor(/** @type {'float32'} */ (dtype), /** @type {Float32Array} */ (numbers), dims)
}

/**
 * Whether no number is NaN or infinite.
 * @param {Float32Array} data
 */
export function isFinite(data) {
  let sum = 0
  for (let i = 0; i < data.length; i++) sum += data[i] * 0 // NaN as soon as one is not finite
  return sum === 0
}

/**
 * Throw BundleError where names, types or sizes of a graph are not those of the manifest.
 * @param {GraphEntry} entry
 * @param {InferenceSession} session
 * @param {string} name
 */
function checkPorts(entry, session, name) {
  const where = `${name} does not fit its manifest`
  const ports = portsOf(entry)
  for (const kind of /** @type {const} */ (['inputs', 'outputs'])) {
    const [expected, found] = [ports[kind], kind === 'inputs' ? session.inputMetadata : session.outputMetadata]
    const names = found.map((port) => port.name)
    const missing = [...expected.keys()].filter((port) => !names.includes(port))
    const surplus = names.filter((port) => !expected.has(port))
    if (missing.length || surplus.length) {
      throw new BundleError(
        `${where}: ${kind} that only the manifest has: [${missing}], that only the graph has: [${surplus}]`,
      )
    }
    for (const port of found) {
      const said = /** @type {Port} */ (expected.get(port.name))
      const [dtype, shape] = port.isTensor ? [port.type, port.shape] : ['no tensor', []]
      if (dtype !== said.dtype || !fits(said.axes.split(' '), shape)) {
        throw new BundleError(
          `${where}: ${port.name} is ${said.dtype} [${said.axes}] in the manifest, ${dtype} [${shape.join(' ')}] in ` +
            'the graph',
        )
      }
    }
  }
}

/**
 * Whether the manifest's axes agree with a graph's sizes; only numbers can contradict each other.
 * @param {string[]} axes
 * @param {readonly (number | string)[]} shape
 */
function fits(axes, shape) {
  if (axes.length !== shape.length) return false
  return axes.every((axis, i) => axis >= 'A' || typeof shape[i] === 'string' || Number(axis) === shape[i])
}
