/** Roles that two graphs compute, with a state, a flag, and weights in files beside them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BundleError, Tokenizer, concat } from '../src/index.js'
import { slice } from '../src/items.js'
import { readManifest } from '../src/manifest.js'
import { largestDifference } from './material.js'
import { bytesOf, floats, model, node, outside, port, sha256, whole } from './onnx.js'

/** @import { Frames } from '../src/index.js' */

const BIAS = [0.5, 0.25, -0.25]
const SCALE = 2
const any = (/** @type {string} */ name) => port(name, 'float32', ['N', 3, 'a', 'b', 'c'])

/**
 * Two-part bundle: latents are differences of frames, the mean of two and of 2x2 pixels, plus a bias in the first call;
 * the decoder doubles them and gives each to two frames of 2x2 pixels.
 * @param {Record<string, string>} place of the bias in its file
 */
function bundle(place = { location: 'encoder.weights', offset: '8', length: '12' }) {
  const [before, video, hidden, latent] = ['last', 'video', 'hidden', 'latent']
  const pool = (/** @type {string} */ from, /** @type {string} */ to, /** @type {number[]} */ window) =>
    node('AveragePool', [from], [to], { kernel_shape: window, strides: window, ceil_mode: 1 })
  /** @type {Record<string, Uint8Array>} */
  const files = {
    'difference.onnx': model({
      inputs: [any(video), any(before)],
      outputs: [any(hidden), any('new_last')],
      nodes: [
        pool(video, 'small', [1, 2, 2]),
        node('Concat', [before, 'small'], ['all'], { axis: 2 }),
        node('Slice', ['all', 'start', 'minus', 'time'], ['shifted']),
        node('Slice', ['all', 'minus', 'end', 'time'], ['new_last']),
        node('Sub', ['small', 'shifted'], [hidden]),
      ],
      tensors: [whole('start', [0]), whole('minus', [-1]), whole('end', [2 ** 31]), whole('time', [2])],
    }),
    'mean.onnx': model({
      inputs: [any(hidden), port('first', 'bool', [1])],
      outputs: [any(latent)],
      nodes: [
        pool(hidden, 'mean', [2, 1, 1]),
        node('Where', ['first', 'bias', 'zero'], ['added']),
        node('Add', ['mean', 'added'], [latent]),
      ],
      tensors: [outside('bias', [1, 3, 1, 1, 1], place), floats('zero', [1], [0])],
    }),
    'double.onnx': model({
      inputs: [any(latent)],
      outputs: [any('twice')],
      nodes: [node('Mul', [latent, 'scale'], ['twice'])],
      tensors: [outside('scale', [1], { location: 'decoder.weights', offset: '0', length: '4' })],
    }),
    'spread.onnx': model({
      inputs: [any('twice')],
      outputs: [any(video)],
      nodes: [node('ConvTranspose', ['twice', 'ones'], [video], { kernel_shape: [2, 2, 2], strides: [2, 2, 2], group: 3 })],
      tensors: [floats('ones', [3, 1, 2, 2, 2], Array(24).fill(1))],
    }),
    'encoder.weights': bytesOf([9, 9, ...BIAS]),
    'decoder.weights': bytesOf([SCALE]),
  }
  const float = (/** @type {string} */ name, /** @type {string} */ axes) => ({ name, dtype: 'float32', axes })
  const ends = { video: float(video, 'N 3 T H W'), latent: float(latent, 'N 3 T/2 H/2 W/2') }
  const small = float(hidden, 'N 3 T H/2 W/2')
  const twice = float('twice', 'N 3 T/2 H/2 W/2')
  const last = { input: before, output: 'new_last', dtype: 'float32', axes: 'N 3 1 H/2 W/2', initial: 'zeros' }
  const common = { precision: 'fp32', providers: ['cpu'], stages: [], receptive_field: 2, missing_kernels: {} }
  const graphs = [
    { role: 'encoder', part: 'local', file: 'difference.onnx', inputs: [ends.video], outputs: [small], states: [last] },
    { role: 'decoder', part: 'global', file: 'double.onnx', inputs: [ends.latent], outputs: [twice] },
    { role: 'encoder', part: 'global', file: 'mean.onnx', inputs: [small], outputs: [ends.latent], flags: [{ name: 'first', dtype: 'bool', axes: '1' }] },
    { role: 'decoder', part: 'local', file: 'spread.onnx', inputs: [twice], outputs: [ends.video] },
  ].map((row) => ({ states: [], flags: [], ...common, ...row, sha256: sha256(files[row.file]) }))
  const weights_files = ['encoder.weights', 'decoder.weights'].map((file) => ({
    ...{ file, sha256: sha256(files[file]), size: files[file].length },
  }))
  const calls = { first: null, multiple: 1, max: 2, exact: false, drop: 0, flush: null, flags: {} }
  const stream = {
    ...{ time_factor: 2, spatial_multiple: 2, square: false, latent_channels: 3, codebook_size: null, levels: [] },
    ...{ pixel_range: [-1, 1], latent_mean: [1, 0, -1], latent_std: [0.5, 1, 4], front_frames: 0, groups: null },
    length: { first: 0, multiple: 2 },
    encoder: { ...calls, first: 2, multiple: 2, flags: { first: ['first call'] } },
    decoder: calls,
  }
  const manifest = {
    ...{ format: 'vidtok-bundle', format_version: 2, family: 'toys', name: 'parts', config: {}, licence: '' },
    ...{ weights: { sha256: 'cd'.repeat(32) }, stream, weights_files, graphs },
  }
  /** @type {string[]} */
  const asked = []
  const read = async (/** @type {string} */ name) => {
    asked.push(name)
    return name === 'manifest.json' ? Buffer.from(JSON.stringify(manifest)) : Buffer.from(files[name])
  }
  return { manifest, files, read, asked }
}

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
