/** A loaded graph, and the loop that carries its state from call to call. */
import { BundleError, InputError, ProviderError, firstLine } from './errors.js'
import { portsOf, shapeOf, sizesOf } from './graph_entry.js'
import { plainAttention } from './plain_attention.js'
import { checkPorts } from './ports.js'
import { filled, isFinite, isOnDevice } from './tensors.js'

/** @import { InferenceSession, Tensor } from 'onnxruntime-common' */
/** @import { GraphEntry } from './graph_entry.js' */
/** @import { Ort } from './provider.js' */
/** @import { Provider } from './index.js' */
/** @import { Queue } from './queue.js' */

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
 * The bytes of a graph and of the files of weights that it refers to, all of them checked.
 * @typedef {object} GraphFiles
 * @property {GraphEntry} entry
 * @property {string} name for messages
 * @property {Uint8Array} bytes
 * @property {{ path: string, data: Uint8Array }[]} weights
 */

/**
 * Load a graph and check it against the manifest; throws BundleError, ProviderError.
 * @param {Ort} ort
 * @param {Provider} provider
 * @param {GraphFiles} files
 * @param {boolean} isLast of its chain
 * @param {Queue} queue calls of all graphs go through one queue, since engines take one at a time
 * @param {number | undefined} threads
 * @returns {Promise<Loaded>}
 */
export async function loadGraph(ort, provider, { entry, name, bytes, weights }, isLast, queue, threads) {
  /** @type {InferenceSession.SessionOptions} */
  const options = {
    executionProviders: [provider],
    logSeverityLevel: 3,
    ...(weights.length && { externalData: weights }),
    ...(provider === 'cpu' && threads !== undefined && { intraOpNumThreads: threads }),
    ...(provider === 'webgpu' && onDevice(entry, isLast)),
  }
  let session
  try {
    // Of the engines, only ONNX Runtime for Node has the kernel that runs attention in blocks.
    const graph = provider === 'cpu' ? bytes : plainAttention(bytes)
    session = await queue.run(() => ort.InferenceSession.create(graph, options))
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
 * What WebGPU needs besides: the nodes that it has no kernel for, of which it would say so only when it is called, and
 * what stays on the device.
 * @param {GraphEntry} entry
 * @param {boolean} isLast
 * @returns {InferenceSession.SessionOptions}
 */
function onDevice(entry, isLast) {
  const forceCpuNodeNames = entry.missingKernels.get('webgpu') ?? []
  const kept = [...entry.states.map(({ output }) => output), ...(isLast ? [] : [entry.outputs[0].name])]
  return {
    executionProviders: [{ name: 'webgpu', ...(forceCpuNodeNames.length && { forceCpuNodeNames }) }],
    preferredOutputLocation: Object.fromEntries(kept.map((name) => [name, 'gpu-buffer'])),
  }
}

/** The state of one stream through a graph. */
export class StatefulGraph {
  /** @type {Record<string, Tensor> | null} */
  #state = null

  /** @param {Loaded} loaded */
  constructor(loaded) {
    this.loaded = loaded
  }

  /** @returns {GraphEntry} */
  get entry() {
    return this.loaded.entry
  }

  /**
   * Run one call and keep the new states for the next; returns the first output. Throws BundleError, ProviderError.
   * @param {Tensor} x
   * @param {(flag: string) => boolean} isSet
   * @returns {Promise<Tensor>}
   */
  async step(x, isSet) {
    const { ort, entry, session, queue, live } = this.loaded
    const sizes = sizesOf(entry.input.axes, x.dims)
    const state = (this.#state ??= this.#initialState(x, sizes))
    /** @type {Record<string, Tensor>} */
    const feeds = { ...state, [entry.input.name]: x }
    for (const { name, dtype, axes } of entry.flags) feeds[name] = filled(ort, dtype, shapeOf(axes, sizes), isSet(name))
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
      const value = results[name]
      if (!isOnDevice(value) && value.data instanceof Float32Array && !isFinite(value.data)) {
        throw new BundleError(
          `the ${entry.role} gave NaN or infinite ${name}; its weights or what it was given are damaged`,
        )
      }
    }
    return results[entry.outputs[0].name]
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
   * @param {Tensor} x
   * @param {Record<string, number>} sizes
   */
  #initialState(x, sizes) {
    try {
      return Object.fromEntries(
        this.entry.states.map((s) => [s.input, filled(this.loaded.ort, s.dtype, shapeOf(s.axes, sizes), false)]),
      )
    } catch (error) {
      if (!(error instanceof RangeError)) throw error
      throw new InputError(`the ${this.entry.role}'s state for data [${x.dims}] needs too much memory`)
    }
  }
}
