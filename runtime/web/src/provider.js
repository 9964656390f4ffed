/** Which engine runs the graphs. An engine that is not there is an error with the cure; nothing falls back. */
import { checkDevice } from './device_loss.js'
import { InputError, ProviderError, firstLine } from './errors.js'

/** @import { Provider } from './index.js' */
/** @typedef {typeof import('onnxruntime-common')} Ort */

// What each provider runs of the graphs that a manifest lists: WASM has the kernels of the CPU, WebGPU is a GPU.
export const MANIFEST_NAMES = { cpu: 'cpu', wasm: 'cpu', webgpu: 'cuda' }

/** Threads that an engine's WASM was started with; it starts once. */
const startedWith = new WeakMap()

/**
 * The engine that was passed in, or the one for this place, and its provider; throws ProviderError, InputError.
 * @param {Ort | undefined} ort
 * @param {Provider | undefined} provider
 * @param {number | undefined} threads
 */
export async function chooseProvider(ort, provider, threads) {
  if (provider !== undefined && !Object.hasOwn(MANIFEST_NAMES, provider)) {
    throw new ProviderError(`no provider is called '${provider}'; choose ${Object.keys(MANIFEST_NAMES).join(', ')}`)
  }
  if (threads !== undefined && !(Number.isSafeInteger(threads) && threads >= 1)) {
    throw new InputError(`threads must be a whole number from 1, got ${threads}`)
  }
  const engine = ort ?? (await importEngine(provider))
  const native = 'listSupportedBackends' in engine // of onnxruntime-node only
  const chosen = provider ?? (native ? 'cpu' : 'wasm')
  if (chosen !== 'webgpu' && (chosen === 'cpu') !== native) {
    throw new ProviderError(`provider ${chosen}: the engine passed in has none; pass ${packageOf(chosen)} as ort`)
  }
  if (chosen === 'webgpu' && !native) {
    checkDevice(engine)
    await needWebGpu()
  }
  if (!native && threads !== undefined) startThreads(engine, threads)
  return { ort: engine, provider: chosen }
}

/** @param {Provider | undefined} provider */
function packageOf(provider) {
  return provider === 'cpu' || (provider !== 'wasm' && isNode()) ? 'onnxruntime-node' : 'onnxruntime-web'
}

/**
 * @param {Provider | undefined} provider
 * @returns {Promise<Ort>}
 */
async function importEngine(provider) {
  if (provider === 'cpu' && !isNode()) throw new ProviderError('provider cpu is for Node; choose wasm or webgpu')
  const name = packageOf(provider)
  try {
    if (isNode()) return await (await import('./node.js')).importEngine(provider)
    return await (provider === 'webgpu' ? import('onnxruntime-web/webgpu') : import('onnxruntime-web/wasm'))
  } catch (error) {
    throw new ProviderError(`${name} does not load (${firstLine(error)}); install it, or pass it as ort`)
  }
}

/** Whether this is Node and no page in it. */
export function isNode() {
  return !('location' in globalThis) && typeof globalThis.process?.versions?.node === 'string'
}

async function needWebGpu() {
  const gpu = /** @type {{ gpu?: { requestAdapter(): Promise<unknown> } } | undefined} */ (globalThis.navigator)?.gpu
  if (!gpu) {
    throw new ProviderError('provider webgpu: there is no WebGPU here (browsers give it to https only); choose wasm')
  }
  if (!(await gpu.requestAdapter())) {
    throw new ProviderError('provider webgpu: this browser offers no graphics adapter; choose wasm')
  }
}

/**
 * @param {Ort} engine
 * @param {number} threads
 */
function startThreads(engine, threads) {
  const before = startedWith.get(engine)
  if (before !== undefined && before !== threads) {
    throw new ProviderError(`the engine runs on ${before} threads already, ${threads} were asked for; reload the page`)
  }
  if (threads > 1 && globalThis.crossOriginIsolated === false) {
    throw new ProviderError(
      `${threads} threads need a page that is cross-origin isolated (headers Cross-Origin-Opener-Policy: same-origin ` +
        'and Cross-Origin-Embedder-Policy: require-corp); send them, or ask for 1 thread',
    )
  }
  engine.env.wasm.numThreads = threads
  startedWith.set(engine, threads)
}

/**
 * Remember with how many threads WASM runs, now that it has a session: where none were asked for, the engine chose.
 * @param {Ort} engine
 */
export function noteThreads(engine) {
  startedWith.set(engine, startedWith.get(engine) ?? engine.env.wasm.numThreads)
}
