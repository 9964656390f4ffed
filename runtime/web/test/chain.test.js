/** Roles that two graphs compute, with a state, a flag, and weights in files beside them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BundleError, Tokenizer, concat } from '../src/index.js'
import { slice } from '../src/items.js'
import { readManifest } from '../src/manifest.js'
import { largestDifference } from './material.js'
import { BIAS, SCALE, bundle } from './parts.js'

/** @import { Frames } from '../src/index.js' */

/** Frames of one value each. */
const VALUES = [0.1, 0.3, -0.2, 0.2, 0.4, 0]
/** @type {Frames} */
const video = { data: Float32Array.from({ length: 6 * 48 }, (_, i) => VALUES[Math.floor(i / 48)]), frames: 6, height: 4, width: 4 }
const changes = VALUES.map((value, t) => value - (VALUES[t - 1] ?? 0))
/** Of each channel of each latent. */
const MEANS = [0, 2, 4].map((t) => BIAS.map((bias) => (changes[t] + changes[t + 1]) / 2 + (t === 0 ? bias : 0)))
const latents = MEANS.flat().flatMap((mean) => Array(4).fill(mean))

for (const provider of /** @type {const} */ (['cpu', 'wasm'])) {
  test(`a call goes through all graphs of its role, on ${provider}`, async () => {
    const { read } = bundle()
    const tok = await Tokenizer.load(read, { threads: 1, provider })
    const tokens = await tok.encode(video)
    assert.ok(largestDifference(tokens.data, latents) < 1e-6)
    for (const sizes of [[1, 1, 1, 1, 1, 1], [3, 3], [5, 1]]) {
      const stream = tok.encoder()
      const out = []
      let done = 0
      for (const size of sizes) out.push(await stream.push(slice(video, done, (done += size))))
      assert.deepEqual(concat([...out, await stream.finish()]).data, tokens.data)
    }
    const back = await tok.decode(tokens, { dtype: 'float32' })
    const pixels = MEANS.flatMap((mean) => Array(2 * 16).fill(mean).flat()).map((x) => Math.max(-1, Math.min(1, SCALE * x)))
    assert.ok(largestDifference(back.data, pixels) < 1e-6)
    await tok.dispose()
  })
}

test("the release's scale is applied on request, and undone by the decoder", async () => {
  const tok = await Tokenizer.load(bundle().read, { threads: 1 })
  const plain = await tok.encode(video)
  const scaled = await tok.encode(video, { normalize: true })
  assert.deepEqual([plain.info.normalized, scaled.info.normalized], [false, true])
  const wanted = MEANS.map(([a, b, c]) => [(a - 1) / 0.5, b, (c + 1) / 4]).flat()
  assert.ok(largestDifference(scaled.data, wanted.flatMap((x) => Array(4).fill(x))) < 1e-6)
  const [a, b] = [await tok.decode(plain, { dtype: 'float32' }), await tok.decode(scaled, { dtype: 'float32' })]
  assert.ok(largestDifference(a.data, b.data) < 1e-6)
  await tok.dispose()

  const { manifest, read } = bundle()
  Object.assign(manifest.stream, { latent_mean: null, latent_std: null })
  const other = await Tokenizer.load(read, { threads: 1 })
  assert.throws(() => other.decoderOf(scaled.info), /were scaled with the release's mean and scale, which the bundle/)
  assert.throws(() => other.encoder(4, 4, { normalize: true }), /has no mean and scale of latents; leave normalize out/)
  const described = () => other.describe({ numFrames: 1, height: 4, width: 4, normalize: true })
  assert.throws(described, /leave normalize out/)
  await other.dispose()
})

test('files of weights are read where they are needed', async () => {
  const { read, asked } = bundle()
  await (await Tokenizer.load(read, { threads: 1, roles: ['decoder'] })).dispose()
  assert.deepEqual(asked.sort(), ['decoder.weights', 'double.onnx', 'manifest.json', 'spread.onnx'])
})

test('what is no sound chain, or keeps weights elsewhere, is refused', async () => {
  /** @type {[(made: ReturnType<typeof bundle>) => void, RegExp][]} */
  const wrong = [
    [({ files }) => (files['encoder.weights'][9] ^= 1), /encoder.weights is altered: its size or SHA-256/],
    [({ manifest }) => manifest.weights_files[0].size++, /encoder.weights is altered/],
    [({ manifest }) => manifest.weights_files.shift(), /keeps weights in 'encoder.weights', which is no file/],
    [({ manifest }) => (manifest.weights_files[0].size = 19), /a tensor is no part of encoder.weights/],
    [({ manifest }) => manifest.graphs.splice(2, 1), /name of what the encoder gives is 'hidden', not 'latent'/],
    [({ manifest }) => manifest.graphs.reverse(), /name of what the decoder takes is 'twice'/],
    [({ manifest }) => (manifest.graphs[2].inputs[0] = { ...manifest.graphs[2].inputs[0], axes: 'N 3 T H/4 W/4' }), /axes of what a graph of the enc/],
    [({ manifest }) => Object.assign(manifest.stream.encoder, { flags: {} }), /does not say when the flag first/],
  ]
  for (const [change, message] of wrong) {
    const made = bundle()
    change(made)
    await assert.rejects(Tokenizer.load(made.read, { threads: 1 }), (error) => {
      assert.match(/** @type {Error} */ (error).message, message)
      return error instanceof BundleError
    })
  }
  /** @type {[Record<string, string>, RegExp][]} */
  const places = [
    [{ location: '../x.weights', offset: '8', length: '12' }, /keeps weights in '..\/x.weights'/],
    [{ location: 'encoder.weights', offset: '12', length: '12' }, /is no part of/],
    [{ location: 'encoder.weights', offset: '-1', length: '12' }, /is no part of/],
    [{ location: 'encoder.weights', offset: '8' }, /does not say exactly where/],
    [{ location: 'encoder.weights', offset: '8', length: '12', checksum: 'x' }, /does not say exactly where/],
  ]
  for (const [place, message] of places) await assert.rejects(Tokenizer.load(bundle(place).read), message)
})

test('the first row of the encoder for an engine says which precision is meant', async () => {
  const { manifest } = bundle()
  const half = manifest.graphs.map((row) => ({ ...row, precision: 'fp16' }))
  manifest.graphs.unshift(...half.filter(({ role }) => role === 'decoder'))
  manifest.graphs.push(...half.filter(({ role }) => role === 'encoder'))
  const read = readManifest(Buffer.from(JSON.stringify(manifest)), 'there')
  const precisions = (/** @type {string} */ asked) => read.chain('decoder', 'cpu', asked).map((row) => row.precision)
  assert.deepEqual(read.chain('decoder', 'cpu').map(({ file, precision }) => [file, precision]), [['double.onnx', 'fp32'], ['spread.onnx', 'fp32']])
  assert.deepEqual(precisions('fp16'), ['fp16', 'fp16'])
  assert.throws(() => read.chain('encoder', 'cpu', 'int8'), /has no int8 encoder graph for cpu; it offers fp16 on cpu, fp32 on cpu/)
})
