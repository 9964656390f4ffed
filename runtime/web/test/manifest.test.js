import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BundleError, Tokenizer } from '../src/index.js'
import { readManifest } from '../src/manifest.js'
import { KL, changed } from './material.js'

const bytes = (/** @type {unknown} */ value) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value))

/** Groups of 17 frames, 16 apart. */
const shared = { frames: 17, latents: 5, shared_frames: 1, shared_latents: 1, whole: true, multiple: null }

/** @param {any} m */
function grouped(m, groups = {}) {
  Object.assign(m.stream, { front_frames: 0, length: { first: 1, multiple: 4 }, groups: { ...shared, ...groups } })
}

/** @type {[string, (m: any) => void, RegExp][]} */
const hostile = [
  ['format', (m) => (m.format = 'other'), /not a bundle manifest/],
  ['version', (m) => (m.format_version = 1), /format version 1, this runtime reads 2; export again/],
  ['missing', (m) => delete m.stream, /lacks stream/],
  ['family', (m) => delete m.family, /lacks family/],
  ['config', (m) => (m.config = []), /config is \[\], not an object/],
  ['type', (m) => (m.stream.time_factor = '4'), /time_factor of stream is "4"/],
  ['range', (m) => (m.stream.spatial_multiple = 0), /whole number in 1..256/],
  ['square', (m) => (m.stream.square = 0), /true or false/],
  ['pixels', (m) => (m.stream.pixel_range = [1, 1]), /not two rising numbers/],
  ['front', (m) => (m.stream.front_frames = 4), /whole number in 0..3/],
  ['scale', (m) => (m.stream.latent_mean = Array(16).fill(0)), /not 16 numbers each/],
  ['deviation', (m) => Object.assign(m.stream, { latent_mean: Array(16).fill(0), latent_std: Array(16).fill(0) }), /not 16/],
  ['levels', (m) => (m.stream.levels = [2, 2]), /do not make null codes/],
  ['length', (m) => (m.stream.length.multiple = 0), /whole number in 1..65536/],
  ['encoder drop', (m) => (m.stream.encoder.drop = 1), /only decoders do/],
  ['encoder flush', (m) => (m.stream.encoder.flush = { size: 1, keep: 1 }), /only decoders do/],
  ['drop', (m) => (m.stream.decoder.drop = 'all'), /drop of decoder is "all"/],
  ['keep', (m) => (m.stream.decoder.flush = { size: 1, keep: 4 }), /keeps 4 frames, a latent stands for 4/],
  ['max', (m) => (m.stream.encoder.max = 17), /no multiple of 4/],
  ['no max', (m) => (m.stream.decoder.max = null), /no group that its calls could take/],
  ['exact', (m) => grouped(m) ?? Object.assign(m.stream.decoder, { max: null, exact: true }), /no group that its calls/],
  ['groups', (m) => grouped(m, { latents: 4 }), /do not fit each other/],
  ['shares all', (m) => grouped(m, { shared_frames: 17 }), /do not fit each other/],
  ['other groups', (m) => grouped(m, { multiple: 17 }), /cannot have other lengths/],
  ['call', (m) => (m.stream.encoder.flags = { f: ['never'] }), /unknown to this/],
  ['flag', (m) => m.graphs[0].flags.push({ name: 'f', dtype: 'bool', axes: '1' }), /does not say when the flag f/],
  ['role', (m) => m.graphs.splice(2), /no graph computes the decoder/],
  ['part', (m) => (m.graphs[0].part = 'some'), /one of local, global/],
  ['path', (m) => (m.graphs[0].file = '../encoder.local.onnx'), /plain name/],
  ['hash', (m) => (m.graphs[0].sha256 = 'x'), /SHA-256/],
  ['axes', (m) => (m.graphs[0].states[0].axes = 'N Q'), /are not like/],
  ['size', (m) => (m.graphs[0].states[0].axes = 'N 99999 99999 H W'), /too large/],
  ['symbol', (m) => (m.graphs[0].inputs[0].axes = 'N 3 T 8 8'), /which the data do not have/],
  ['dtype', (m) => (m.graphs[0].states[0].dtype = 'object'), /one of float32/],
  ['twice', (m) => (m.graphs[0].states[1].input = m.graphs[0].states[0].input), /two inputs/],
  ['initial', (m) => (m.graphs[0].states[0].initial = 'ones'), /one of zeros/],
  ['codes', (m) => (m.stream.codebook_size = 8), /the name of what the encoder gives is 'latent', not 'indices'/],
  ['video', (m) => (m.graphs[0].inputs[0].dtype = 'float16'), /the dtype of what the encoder takes is 'float16'/],
  ['variance', (m) => (m.graphs[1].outputs[1].axes = 'N 16 T/4 H/8 W/4'), /the axes of the log-variance/],
  ['twice the role', (m) => m.graphs.push(...m.graphs.slice(0, 2)), /video goes from graph to graph of the encoder/],
  ['stage', (m) => (m.graphs[0].stages[0].channels = 0), /channels of stages\[0\]/],
  ['kernels', (m) => (m.graphs[0].missing_kernels.webgpu = 'x'), /list of texts/],
  ['weights name', (m) => m.weights_files.push({ file: 'x.bin', sha256: 'ab'.repeat(32), size: 1 }), /plain name of a .weights/],
  ['weights twice', (m) => m.weights_files.push(...['a', 'b'].map((d) => ({ file: 'x.weights', sha256: d.repeat(64), size: 1 }))), /one name/],
  ['unprintable', (m) => (m.name = 'a\u001b[31m'), /printable/],
  ['prototype', (m) => (m.graphs[0].inputs[0].axes = '__proto__'), /are not like/],
]

test('what a manifest may say', async () => {
  /** @type {((m: any) => void)[]} */
  const sound = [
    (m) => (m.config = { whatever: [1.5] }),
    (m) => grouped(m),
    (m) => grouped(m) ?? Object.assign(m.stream.encoder, { max: null }),
    (m) => grouped(m, { frames: 16, latents: 5, shared_frames: 0, shared_latents: 0, multiple: 8 }),
    (m) => (m.stream.decoder.drop = 'surplus'),
    (m) => Object.assign(m.stream, { latent_mean: Array(16).fill(-0.5), latent_std: Array(16).fill(1.5) }),
    (m) => (m.stream.encoder.flags = { '': ['first call', 'second call', 'flush call'] }),
    (m) => (m.graphs[0].missing_kernels = {}),
    (m) => ['operations', 'parity', 'tools', 'opset'].forEach((name) => delete m[name]),
  ]
  for (const change of sound) readManifest(await changed(KL, change)('manifest.json'), 'there')
})

test('a manifest that cannot be used is refused with what is wrong', async (t) => {
  for (const [name, change, message] of hostile) {
    await t.test(name, () =>
      assert.rejects(Tokenizer.load(changed(KL, change)), (error) => {
        assert.match(/** @type {Error} */ (error).message, message)
        return error instanceof BundleError
      }),
    )
  }
})

test('what is no manifest is refused', () => {
  const wrong = ['', '[', '[1]', 'null', '{"format": "vidtok-bundle"}', '['.repeat(1e5), Buffer.alloc(99, 255)]
  for (const content of wrong) {
    const raw = typeof content === 'string' ? bytes(content) : content
    assert.throws(() => readManifest(raw, 'there'), BundleError)
  }
  assert.throws(() => readManifest(new Uint8Array(2 ** 24 + 1), 'there'), /more than/)
})
