/** Tiles beside whole frames: how frames are cut, and that results are the same. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { InputError, Tokenizer } from '../src/index.js'
import { cut, tilesAlong } from '../src/tiles.js'
import { KL, clip, largestDifference, place, streamed } from './material.js'
import { toy } from './toy.js'

/** @import { Latents, LoadOptions, Tokens } from '../src/index.js' */

const TOLERANCE = 1e-5 // of the largest value

test('axes are cut as the table says', () => {
  const { format, version, axes } = JSON.parse(readFileSync(place('tests/conformance/kit/tiles.json'), 'utf8'))
  assert.deepEqual([format, version], ['vidtok-tiles', 1])
  assert.ok(axes.length > 50)
  for (const { length, margin, size, tiles } of axes) {
    for (const found of [tilesAlong(length, size, margin), cut(length, size, margin)]) {
      assert.deepEqual(found.map(({ extent, kept }) => [extent.start, extent.stop, kept.start, kept.stop]), tiles)
    }
  }
})

test('of the fewest tiles those are taken whose largest is smallest', () => {
  const largest = (/** @type {number} */ most) =>
    Math.max(...cut(100, most, 7).map(({ extent }) => extent.stop - extent.start))
  assert.deepEqual([100, 99, 60, 57, 20].map(largest), [100, 58, 58, 44, 20])
})

/**
 * @param {ArrayLike<number>} found
 * @param {ArrayLike<number>} wanted
 */
function checkNear(found, wanted) {
  const off = largestDifference(found, wanted)
  const most = largestDifference(wanted, new Float32Array(wanted.length))
  assert.ok(off <= TOLERANCE * most, `${off} of ${most}`)
}

/**
 * @param {Latents} found
 * @param {Tokens} wanted
 */
function checkTokens(found, wanted) {
  assert.deepEqual([found.length, found.h, found.w], [wanted.length, wanted.h, wanted.w])
  if (wanted.data instanceof Float32Array) return checkNear(found.data, wanted.data)
  const differing = found.data.filter((token, i) => token !== wanted.data[i]).length
  assert.ok(differing <= 1e-4 * wanted.data.length, `${differing} of ${wanted.data.length} tokens differ`)
}

const FRAMES = 7
const video = clip(FRAMES, 149, 205) // in latents of four pixels 38 and 52; three pixels of it are missing
/** Frames or latents that are pushed at a time, until there are no more. */
const CHUNKS = { whole: [FRAMES], single: Array(FRAMES).fill(1), uneven: [2, 1, FRAMES] }

/**
 * Tiles of 112 are 3x4 in the dearest graph, so that one has others on every side; those of 160 are 1x2.
 * @type {[string, LoadOptions['provider'], [number, keyof typeof CHUNKS][]][]}
 */
const cases = [
  ['fsq-causal', 'cpu', [[128, 'single']]],
  ['kl-causal-v1.1', 'cpu', [[112, 'uneven'], [160, 'whole']]],
  ['fsq-noncausal', 'cpu', [[112, 'whole']]],
  ['wan-causal', 'cpu', [[130, 'uneven'], [160, 'single']]],
  ['kl-causal-v1.1', 'wasm', [[160, 'uneven']]],
]
for (const [name, provider, tiles] of cases) {
  test(`${name} on ${provider} in tiles gives what it gives in whole frames`, async () => {
    const bundle = place(`tests/conformance/kit/${name}`)
    const whole = await Tokenizer.load(bundle, { provider, threads: 1 })
    const wanted = await whole.encode(video)
    const frames = await whole.decode(wanted, { dtype: 'float32' })
    await whole.dispose()
    for (const [maxTile, chunks] of tiles) {
      const tok = await Tokenizer.load(bundle, { provider, threads: 1, maxTile })
      checkTokens(await streamed(tok.encoder(), video, CHUNKS[chunks]), wanted)
      const decoder = tok.decoder({ ...video, numFrames: FRAMES, dtype: 'float32' })
      checkNear((await streamed(decoder, wanted, CHUNKS[chunks])).data, frames.data)
      await tok.dispose()
    }
  })
}

test('a margin that is too small shows', async () => {
  const bundle = place('tests/conformance/kit/wan-causal')
  const less = async (/** @type {string} */ name) => {
    const content = readFileSync(`${bundle}/${name}`)
    if (name !== 'manifest.json') return content
    const manifest = JSON.parse(content.toString())
    for (const graph of manifest.graphs) graph.receptive_field = Math.max(0, graph.receptive_field - 16)
    return Buffer.from(JSON.stringify(manifest))
  }
  const [whole, tok] = [await Tokenizer.load(bundle, { threads: 1 }), await Tokenizer.load(less, { threads: 1, maxTile: 96 })]
  const tokens = await whole.encode(video)
  const found = await tok.encode(video)
  assert.throws(() => checkTokens(found, tokens))
  const frames = await whole.decode(tokens, { dtype: 'float32' })
  const others = await tok.decode(tokens, { dtype: 'float32' })
  assert.throws(() => checkNear(others.data, frames.data))
  await Promise.all([whole.dispose(), tok.dispose()])
})

test('tiles that cannot be are refused before anything is loaded', async () => {
  /** @type {[Parameters<typeof Tokenizer.load>[0], LoadOptions, RegExp][]} */
  const wrong = [
    [toy(2, {}), { maxTile: 512 }, /^the encoder of toy cannot be cut into tiles; leave maxTile out$/],
    [toy(2, {}), { maxTile: 512, roles: ['decoder'] }, /^the decoder of toy cannot be cut/],
    [KL, { maxTile: 127 }, /^tiles of the decoder of kl-16chn are 128 pixels at least, got 127$/],
    [KL, { maxTile: NaN }, /^tiles of the encoder of kl-16chn are 96 pixels at least, got NaN$/],
  ]
  for (const [source, options, message] of wrong) {
    await assert.rejects(Tokenizer.load(source, options), (error) => {
      assert.match(/** @type {Error} */ (error).message, message)
      return error instanceof InputError
    })
  }
})
