import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BundleError, Tokenizer } from '../src/index.js'
import { readManifest } from '../src/manifest.js'
import { KL, changed } from './material.js'

const bytes = (/** @type {unknown} */ value) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value))

/** @type {[string, (m: any) => void, RegExp][]} */
const hostile = [
  ['format', (m) => (m.format = 'other'), /not a bundle manifest/],
  ['version', (m) => (m.format_version = 2), /format version 2, this runtime reads 1/],
  ['missing', (m) => delete m.chunk, /lacks chunk/],
  ['type', (m) => (m.time_factor = '4'), /time_factor of the manifest is "4"/],
  ['range', (m) => (m.spatial_multiple = 0), /whole number in 1..256/],
  ['path', (m) => (m.graphs[0].file = '../encoder.onnx'), /plain name/],
  ['hash', (m) => (m.graphs[0].sha256 = 'x'), /SHA-256/],
  ['axes', (m) => (m.graphs[0].states[0].axes = 'N Q'), /are not like/],
  ['size', (m) => (m.graphs[0].states[0].axes = 'N 99999 99999 H W'), /too large/],
  ['symbol', (m) => (m.graphs[0].inputs[0].axes = 'N 3 T 8 8'), /which the data do not have/],
  ['dtype', (m) => (m.graphs[0].states[0].dtype = 'object'), /one of float32/],
  ['twice', (m) => (m.graphs[0].states[1].input = m.graphs[0].states[0].input), /two inputs/],
  ['initial', (m) => (m.graphs[0].states[0].initial = 'ones'), /one of zeros/],
  ['chunk', (m) => (m.chunk.encoder_frames = 17), /multiple of 4/],
  ['codes', (m) => (m.codebook_size = 8), /its codebook size is 8/],
  ['flag', (m) => m.graphs[0].flags.push({ name: 'f', dtype: 'bool', axes: '1', set: ['never'] }), /unknown to this/],
  ['flag axes', (m) => m.graphs[0].flags.push({ name: 'f', dtype: 'bool', axes: 'N', set: [] }), /not numbers/],
  ['unprintable', (m) => (m.variant.name = 'a\u001b[31m'), /printable/],
  ['prototype', (m) => (m.graphs[0].inputs[0].axes = '__proto__'), /are not like/],
]

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
  for (const content of ['', '[', '[1]', 'null', '{"format": "vidtok-bundle"}', '['.repeat(1e5), Buffer.alloc(99, 255)]) {
    const raw = typeof content === 'string' ? bytes(content) : content
    assert.throws(() => readManifest(raw, 'there'), BundleError)
  }
  assert.throws(() => readManifest(new Uint8Array(2 ** 24 + 1), 'there'), /more than/)
})
