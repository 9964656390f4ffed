/** A loaded graph, and the loop that carries its state from call to call. */
import { checkDeviceAfterFailure, watchDevice } from './device_loss.js'
import { BundleError, InputError, ProviderError, firstLine } from './errors.js'
import { portsOf, shapeOf, sizesOf } from './graph_entry.js'
import { plainAttention } from './plain_attention.js'
import { checkPorts } from './ports.js'
import { noteThreads } from './provider.js'
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
  // Of the engines, only ONNX Runtime for Node has the kernel that runs attention in blocks.
  const graph = provider === 'cpu' ? bytes : plainAttention(bytes, name)
  let session
  try {
    session = await queue.run(() => ort.InferenceSession.create(graph, options))
    if (provider !== 'cpu') noteThreads(ort)
    if (provider === 'webgpu') await watchDevice(ort)
  } catch (error) {
    await checkDeviceAfterFailure(ort)
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
   * Run one call and keep the new states for the next; returns the first output. Throws BundleError, ProviderError,
   * InputError.
   * @param {Tensor} x
   * @param {(flag: string) => boolean} isSet
   * @returns {Promise<Tensor>}
   */
  async step(x, isSet) {
    const { entry, live } = this.loaded
    const results = await this.run(x, isSet, (this.#state ??= this.initialState(x.dims)))
    this.dispose()
    this.#state = Object.fromEntries(entry.states.map((s) => [s.input, results[s.output]]))
    if (Object.values(this.#state).some(isOnDevice)) live.add(this)
    return results[entry.outputs[0].name]
  }

  /**
   * Outputs and new states by name for states of the caller's own, which stay; throws BundleError, ProviderError.
   * @param {Tensor} x
   * @param {(flag: string) => boolean} isSet
   * @param {Record<string, Tensor>} states by input
   * @returns {Promise<Record<string, Tensor>>}
   */
  async run(x, isSet, states) {
    const { ort, entry, session } = this.loaded
    const sizes = sizesOf(entry.input.axes, x.dims)
    /** @type {Record<string, Tensor>} */
    const feeds = { ...states, [entry.input.name]: x }
    for (const { name, dtype, axes } of entry.flags) feeds[name] = filled(ort, dtype, shapeOf(axes, sizes), isSet(name))
    const results = await this.#onEngine(() => session.run(feeds))
    try {
      this.#checkShapes(results, sizes)
      this.#checkNumbers(results)
    } catch (error) {
      discard(Object.values(results))
      throw error
    }
    return results
  }

  /**
   * Bring values into the main memory that an engine keeps on a device, and free them there. Throws ProviderError.
   * @param {Tensor[]} values
   */
  async toHost(values) {
    try {
      for (const value of values) if (isOnDevice(value)) await this.#onEngine(() => value.getData(true))
    } finally {
      discard(values)
    }
  }

  /** Give the states back that an engine keeps on a device. */
  dispose() {
    discard(Object.values(this.#state ?? {}))
    this.#state = null
    this.loaded.live.delete(this)
  }

  /**
   * States by input at the start of a stream of data of this shape; throws InputError.
   * @param {readonly number[]} dims
   * @returns {Record<string, Tensor>}
   */
  initialState(dims) {
    const { ort, entry } = this.loaded
    const sizes = sizesOf(entry.input.axes, dims)
    try {
      return Object.fromEntries(
        entry.states.map((s) => [s.input, filled(ort, s.dtype, shapeOf(s.axes, sizes), false)]),
      )
    } catch (error) {
      if (!(error instanceof RangeError)) throw error
      throw new InputError(`the ${entry.role}'s state for data [${dims}] needs too much memory`)
    }
  }

  /**
   * @template T
   * @param {() => Promise<T>} work
   */
  async #onEngine(work) {
    try {
      return await this.loaded.queue.run(work)
    } catch (error) {
      await checkDeviceAfterFailure(this.loaded.ort)
      throw new ProviderError(`ONNX Runtime failed: ${firstLine(error)}`)
    }
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
   * Throw BundleError where an output in the main memory holds NaN or infinite values.
   * @param {Record<string, Tensor>} results
   */
  #checkNumbers(results) {
    const { role, outputs } = this.entry
    for (const { name } of outputs) {
      const value = results[name]
      if (!isOnDevice(value) && value.data instanceof Float32Array && !isFinite(value.data)) {
        throw new BundleError(`the ${role} gave NaN or infinite ${name}; its weights or what it was given are damaged`)
      }
    }
  }
}

/**
 * Free what an engine keeps on a device.
 * @param {Tensor[]} values
 */
function discard(values) {
  for (const value of values) if (isOnDevice(value)) value.dispose()
}
