/** States that stay on a graphics device, on a made-up engine: no machine that runs these tests needs one. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Tensor } from 'onnxruntime-common'
import { BundleError, ProviderError, Tokenizer } from '../src/index.js'
import { portsOf, shapeOf, sizesOf } from '../src/graph_entry.js'
import { readManifest } from '../src/manifest.js'
import { FSQ, clip, changed } from './material.js'
import { bundle } from './parts.js'

/** @import { GraphEntry } from '../src/graph_entry.js' */
/** @typedef {{ push(): Promise<unknown>, finish(): Promise<unknown>, dispose(): Promise<void> }} Started */

/** Calls give zeros; what stays on a device is counted as long as it lives. */
class Engine {
  live = 0
  released = 0
  /** @type {any[]} */
  options = []
  value = 0
  Tensor = Tensor
  env = { wasm: {} }

  /** @param {GraphEntry[]} entries in the order in which they are loaded */
  constructor(...entries) {
    const described = (/** @type {Map<string, any>} */ ports) =>
      [...ports.values()].map(({ name, dtype, axes }) => ({
        name,
        isTensor: true,
        type: dtype,
        shape: axes.split(' ').map((/** @type {string} */ axis) => (Number.isNaN(+axis) ? axis : +axis)),
      }))
    this.InferenceSession = {
      create: async (/** @type {Uint8Array} */ _, /** @type {any} */ options) => {
        const entry = entries[this.options.push(options) - 1]
        const { inputs, outputs } = portsOf(entry)
        return {
          inputMetadata: described(inputs),
          outputMetadata: described(outputs),
          run: async (/** @type {any} */ feeds) => this.run(entry, feeds, options.preferredOutputLocation),
          release: async () => void this.released++,
        }
      },
    }
  }

  /**
   * @param {GraphEntry} entry
   * @param {Record<string, any>} feeds
   * @param {Record<string, string>} places
   */
  run(entry, feeds, places) {
    const sizes = sizesOf(entry.input.axes, feeds[entry.input.name].dims)
    const results = [...portsOf(entry).outputs.values()].map(({ name, dtype, axes }) => {
      const dims = shapeOf(axes, sizes)
      const data = new (dtype === 'int32' ? Int32Array : Float32Array)(dims.reduce((a, b) => a * b)).fill(this.value)
      if (places[name] !== 'gpu-buffer') return [name, { data, dims }]
      this.live++
      const dispose = () => void this.live--
      const getData = async () => {
        dispose()
        Object.assign(value, { location: 'cpu', data })
      }
      const value = { location: 'gpu-buffer', dims, dispose, getData }
      return [name, value]
    })
    return Object.fromEntries(results)
  }
}

const reader = changed(FSQ, () => {})
const manifest = readManifest(await reader('manifest.json'), 'there')
const encoder = manifest.chain('encoder', 'cpu', 'fp32')
const states = encoder.flatMap((entry) => entry.states.map((state) => state.output))

/**
 * @param {Engine} engine
 * @param {'encoder' | 'decoder'} [role]
 * @param {(name: string) => Promise<Uint8Array>} [source]
 * @param {number} [maxTile]
 */
function load(engine, role = 'encoder', source = reader, maxTile) {
  const adapter = { gpu: { requestAdapter: async () => ({}) } }
  Object.defineProperty(globalThis, 'navigator', { value: adapter, configurable: true })
  return Tokenizer.load(source, { ort: /** @type {any} */ (engine), provider: 'webgpu', roles: [role], maxTile })
}

test('states stay on the device and are freed with their stream', async () => {
  const engine = new Engine(...encoder)
  const tok = await load(engine)
  const engines = engine.options.map(({ executionProviders }) => executionProviders)
  assert.deepEqual(engines, [[{ name: 'webgpu' }], [{ name: 'webgpu', forceCpuNodeNames: ['attention.0'] }]])
  const kept = engine.options.flatMap(({ preferredOutputLocation }) => Object.keys(preferredOutputLocation))
  assert.deepEqual(kept.filter((name) => name !== 'features'), states)
  const stream = tok.encoder()
  await stream.push(clip(33, 8, 8))
  assert.equal(engine.live, states.length) // two calls: those of the first are gone
  await stream.finish()
  assert.equal(engine.live, 0)
  const left = tok.encoder()
  await left.push(clip(16, 8, 8))
  assert.equal(engine.live, states.length)
  await left.dispose()
  assert.equal(engine.live, 0)
  await tok.encoder().push(clip(16, 8, 8))
  await tok.dispose()
  assert.deepEqual([engine.live, engine.released], [0, 2])
})

const tokens = { data: new Int32Array(11), length: 11, channels: 1, h: 1, w: 1 }
/** @type {[string, 'encoder' | 'decoder', (tok: Tokenizer) => Started][]} */
const streams = [undefined, 2].flatMap((gop) => [
  [`encoder, gop ${gop}`, 'encoder', (tok) => {
    const stream = tok.encoder(8, 8, { gop })
    return { push: () => stream.push(clip(33, 8, 8)), finish: () => stream.finish(), dispose: () => stream.dispose() }
  }],
  [`decoder, gop ${gop}`, 'decoder', (tok) => {
    const stream = tok.decoder({ gop })
    return { push: () => stream.push(tokens), finish: () => stream.finish(), dispose: () => stream.dispose() }
  }],
])

/**
 * A stream whose runs of graphs are counted; `before` is called with the number of each.
 * @param {'encoder' | 'decoder'} role
 * @param {(tok: Tokenizer) => Started} start
 * @param {(count: number, stream: Started) => void} before
 */
async function counted(role, start, before) {
  const engine = new Engine(...manifest.chain(role, 'cpu', 'fp32'))
  const tok = await load(engine, role)
  const started = { engine, tok, stream: start(tok), count: 0 }
  const { run } = engine
  engine.run = (...given) => {
    before(++started.count, started.stream)
    return run.apply(engine, given)
  }
  return started
}

for (const [name, role, start] of streams) {
  test(`a stream that is given up fails its push and frees what it kept: ${name}`, async () => {
    // During each run of a graph, after one push that is let be (0).
    for (let at = 0, runs = 0; at <= runs; at++) {
      /** @type {Promise<void> | undefined} */
      let freed
      const started = await counted(role, start, (count, stream) => {
        if (count === at) freed = stream.dispose()
      })
      const { engine, tok, stream } = started
      if (at === 0) {
        await stream.push()
        runs = started.count
        assert.ok(engine.live > 0 && runs > 2)
      } else {
        await assert.rejects(stream.push(), /^InputError: this \w+ was given up/)
        await freed
        assert.equal(engine.live, 0)
      }
      await tok.dispose()
    }
  })
}

for (const [name, role, start] of streams) {
  test(`a stream of which a call failed gives nothing more: ${name}`, async () => {
    // In each run of a graph, after one push and end that are let be (0).
    for (let at = 0, runs = 0; at <= runs; at++) {
      const started = await counted(role, start, (count) => {
        if (count === at) throw new Error('out of memory')
      })
      const { engine, tok, stream } = started
      const whole = stream.push().then(() => stream.finish())
      if (at === 0) {
        await whole
        runs = started.count
        assert.ok(runs > 2)
      } else {
        await assert.rejects(whole, ProviderError)
        const over = /^InputError: an earlier call with this stream has failed; ask/
        await assert.rejects(stream.finish(), over)
        // One that failed at its end is finished besides.
        await assert.rejects(stream.push(), /^InputError: (an earlier call|this \w+ is finished)/)
        assert.equal(started.count, at)
      }
      await stream.dispose()
      assert.equal(engine.live, 0)
      await tok.dispose()
    }
  })
}

test('threads that were left to the engine when it started stay those', async () => {
  const engine = new Engine(...encoder, ...encoder)
  const options = { ort: /** @type {any} */ (engine), roles: /** @type {['encoder']} */ (['encoder']) }
  const { create } = engine.InferenceSession
  engine.InferenceSession.create = (...given) => {
    Object.assign(engine.env.wasm, { numThreads: 2 }) // as onnxruntime-web does
    return create(...given)
  }
  const tok = await Tokenizer.load(reader, options)
  await assert.rejects(Tokenizer.load(reader, { ...options, threads: 4 }), /^ProviderError: the engine runs on 2 threads/)
  const same = await Tokenizer.load(reader, { ...options, threads: 2 })
  await Promise.all([tok.dispose(), same.dispose()])
})

test('states of tiles are read back, and frames that are one tile leave theirs on the device', async () => {
  const engine = new Engine(...encoder)
  const tok = await load(engine, 'encoder', reader, 144)
  const stream = tok.encoder()
  assert.equal((await stream.push(clip(5, 160, 168))).length, 2)
  assert.equal(engine.live, encoder[1].states.length)
  await stream.finish()
  assert.equal(engine.live, 0)
  const small = tok.encoder()
  await small.push(clip(5, 144, 8))
  assert.equal(engine.live, states.length)
  await small.dispose()
  assert.equal(engine.live, 0)
  await tok.dispose()
})

test('what goes from graph to graph stays on the device and is freed after it was used', async () => {
  const { manifest, read } = bundle()
  manifest.graphs.forEach((row) => row.providers.push('cuda'))
  const graphs = readManifest(await read('manifest.json'), 'there').chain('encoder', 'cuda')
  const engine = new Engine(...graphs)
  const tok = await load(engine, 'encoder', read)
  const kept = engine.options.map(({ preferredOutputLocation }) => Object.keys(preferredOutputLocation))
  assert.deepEqual(kept, [['new_last', 'hidden'], []])
  const stream = tok.encoder()
  assert.equal((await stream.push(clip(4, 8, 8))).length, 2)
  assert.equal(engine.live, 1) // the state
  const { run } = engine
  engine.run = (entry, feeds, places) => {
    if (entry === graphs[1]) throw new Error('out of memory')
    return run.call(engine, entry, feeds, places)
  }
  await assert.rejects(stream.push(clip(4, 8, 8)), ProviderError)
  await stream.dispose()
  await tok.dispose()
  assert.deepEqual([engine.live, engine.released], [0, 2])
})

test('what WebGPU has no kernel for is left to the CPU', async () => {
  const decoder = manifest.chain('decoder', 'cpu', 'fp32')
  const names = ['node_conv_transpose3d', 'node_conv_transpose3d_1', 'node_conv_transpose3d_2']
  assert.deepEqual(decoder[1].missingKernels.get('webgpu'), names)
  const engine = new Engine(...decoder)
  await (await load(engine, 'decoder')).dispose()
  const engines = engine.options.map(({ executionProviders }) => executionProviders)
  const missing = [['attention.0'], names].map((forceCpuNodeNames) => [{ name: 'webgpu', forceCpuNodeNames }])
  assert.deepEqual(engines, missing)
})

test('NaN is an error of the bundle, and a stream that fails frees its states', async () => {
  const engine = new Engine(...encoder)
  const tok = await load(engine)
  engine.value = NaN
  await assert.rejects(tok.encode(clip(16, 8, 8)), (error) => {
    assert.match(/** @type {Error} */ (error).message, /gave NaN or infinite latent/)
    return error instanceof BundleError
  })
  assert.equal(engine.live, 0)
})

test('a call that fails, and an adapter that is not there, are errors of the provider', async () => {
  const engine = new Engine(...encoder)
  const tok = await load(engine)
  engine.run = () => {
    throw new Error('out of memory\nat somewhere')
  }
  await assert.rejects(tok.encode(clip(16, 8, 8)), /^ProviderError: ONNX Runtime failed: out of memory$/)
  Object.defineProperty(globalThis, 'navigator', { value: { gpu: { requestAdapter: async () => null } } })
  const loading = Tokenizer.load(reader, { ort: /** @type {any} */ (engine), provider: 'webgpu' })
  await assert.rejects(loading, ProviderError)
})

test('a device that is lost is said in one line, and its engine is not loaded again', async () => {
  const engine = new Engine(...encoder, ...encoder)
  /** @type {(info: { message: string }) => void} */
  let lose = () => {}
  const device = { lost: new Promise((resolve) => (lose = resolve)) }
  Object.assign(engine.env, { webgpu: { device: Promise.resolve(device) } })
  const tok = await load(engine)
  const stream = tok.encoder()
  await stream.push(clip(16, 8, 8))
  engine.run = () => {
    setTimeout(() => lose({ message: 'The driver is gone.' }), 10) // calls fail first
    throw new Error('failed to call OrtRun()')
  }
  const line = /^ProviderError: the graphics device was lost \(The driver is gone\); load the bundle again with a new engine/
  await assert.rejects(stream.push(clip(16, 8, 8)), line)
  await assert.rejects(tok.encode(clip(16, 8, 8)), line)
  await assert.rejects(load(engine), line)
  await tok.dispose()
  assert.deepEqual([engine.live, engine.released], [0, 2])
})
