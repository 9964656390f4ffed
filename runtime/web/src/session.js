/** A loaded graph, and the loop that carries its state from call to call. */
import { Chunk } from './chunk.js'
import { BundleError, InputError, ProviderError, firstLine } from './errors.js'
import { FIRST_CALL, FLUSH_CALL, SECOND_CALL, portsOf, shapeOf, sizesOf } from './graph_entry.js'
import { nodesOf } from './onnx_file.js'
import { checkPorts } from './ports.js'
import { filled, isFinite, isOnDevice, tensor } from './tensors.js'

/** @import { InferenceSession, Tensor } from 'onnxruntime-common' */
/** @import { GraphEntry } from './graph_entry.js' */
/** @import { Ort } from './provider.js' */
/** @import { Provider } from './index.js' */
/** @import { Queue } from './queue.js' */

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
  /** @type {InferenceSession.SessionOptions} */
  const options = {
    executionProviders: [provider],
    logSeverityLevel: 3,
    ...(provider === 'cpu' && threads !== undefined && { intraOpNumThreads: threads }),
    ...(provider === 'webgpu' && onDevice(entry, bytes)),
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

/**
 * What WebGPU needs besides.
 * @param {GraphEntry} entry
 * @param {Uint8Array} bytes
 * @returns {InferenceSession.SessionOptions}
 */
function onDevice(entry, bytes) {
  // ONNX Runtime 1.30 has no transposed convolution of video for WebGPU, and says so only when it is called.
  const forceCpuNodeNames = nodesOf(bytes, 'ConvTranspose')
  return {
    executionProviders: [{ name: 'webgpu', ...(forceCpuNodeNames.length && { forceCpuNodeNames }) }],
    preferredOutputLocation: Object.fromEntries(entry.states.map(({ output }) => [output, 'gpu-buffer'])),
  }
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
    const sizes = sizesOf(entry.input.axes, x.dims)
    const state = (this.#state ??= this.#initialState(x, sizes))
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
    this.#checkShapes(results, sizes)
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

  /**
   * Throw BundleError unless outputs and states have the sizes that the manifest promises for these data.
   * @param {Record<string, Tensor>} results
   * @param {Record<string, number>} sizes
   */
  #checkShapes(results, sizes) {
    for (const [name, { axes }] of portsOf(this.entry).outputs) {
      const [found, promised] = [results[name].dims, shapeOf(axes, sizes)]
      if (found.length !== promised.length || promised.some((size, i) => size !== found[i])) {
        throw new BundleError(
          `the ${this.entry.role} gave ${name} of [${found}] where its manifest promises [${promised}] (${axes}); ` +
            'export the bundle again',
        )
      }
    }
  }

  /**
   * @param {Chunk} x
   * @param {Record<string, number>} sizes
   */
  #initialState(x, sizes) {
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
