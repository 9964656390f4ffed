/** An engine whose calls and memory are watched from outside. */

/**
 * What a call of a graph took and left. graph: number in the order of loading; states: those of its inputs that are
 * values which the call before gave; places: where these were; device, engine: bytes that live on the graphics device,
 * and of the engine's own memory.
 * @typedef {{ graph: number, states: string[], places: string[], device: number, engine: number }} Call
 */

/**
 * Before the page opens: `watched(ort)` there is an engine to pass to `Tokenizer.load`, and `calls` what it did.
 * @param {import('playwright-core').Page} page
 */
export async function watchEngines(page) {
  await page.addInitScript(inPage)
  await page.reload()
}

function inPage() {
  /** @type {WebAssembly.Memory[]} */
  const memories = []
  WebAssembly.Memory = class extends WebAssembly.Memory {
    /** @param {WebAssembly.MemoryDescriptor} wanted */
    constructor(wanted) {
      super(wanted)
      memories.push(this)
    }
  }
  const { GPUDevice, GPUBuffer } = /** @type {any} */ (globalThis)
  /** @type {Set<{ size: number }>} */
  const buffers = new Set()
  const { createBuffer } = GPUDevice.prototype
  GPUDevice.prototype.createBuffer = function (/** @type {object} */ wanted) {
    const buffer = createBuffer.call(this, wanted)
    buffers.add(buffer)
    return buffer
  }
  const { destroy } = GPUBuffer.prototype
  GPUBuffer.prototype.destroy = function () {
    buffers.delete(this)
    destroy.call(this)
  }
  /** @type {Call[]} */
  const calls = []
  let graphs = 0

  /** @param {any} ort */
  const watched = ({ Tensor, env, InferenceSession }) => ({
    Tensor,
    env,
    InferenceSession: {
      create: async (/** @type {unknown[]} */ ...given) => {
        const session = await InferenceSession.create(...given)
        const graph = graphs++
        /** @type {unknown[]} */
        let before = []
        return {
          inputMetadata: session.inputMetadata,
          outputMetadata: session.outputMetadata,
          release: () => session.release(),
          run: async (/** @type {Record<string, { location: string }>} */ feeds) => {
            const kept = Object.entries(feeds).filter(([, value]) => before.includes(value))
            const states = kept.map(([name]) => name)
            const places = [...new Set(kept.map(([, { location }]) => location))]
            const results = await session.run(feeds)
            before = Object.values(results)
            const device = [...buffers].reduce((sum, { size }) => sum + size, 0)
            const engine = memories.reduce((sum, { buffer }) => sum + buffer.byteLength, 0)
            calls.push({ graph, states, places, device, engine })
            return results
          },
        }
      },
    },
  })
  Object.assign(globalThis, { calls, watched })
}
