/** How streams are cut into calls, on a model that says with what sizes and flags it was called. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Tokenizer, concat, loadTokens, saveTokens } from '../src/index.js'
import { slice } from '../src/items.js'
import { clip } from './material.js'
import { toy } from './toy.js'

/** @import { StreamChanges } from './toy.js' */

/**
 * What calls gave latents, and frames, of a clip in one push, and pushed one by one.
 * @param {number} f
 * @param {StreamChanges} changes
 * @param {number} frames
 */
async function planOf(f, changes, frames) {
  const tok = await Tokenizer.load(toy(f, changes), { threads: 1 })
  const video = clip(frames, 4, 4)
  const tokens = await tok.encode(video)
  const stream = tok.encoder()
  const parts = []
  for (let i = 0; i < frames; i++) parts.push(await stream.push(slice(video, i, i + 1)))
  const encoded = concat([...parts, await stream.finish()])
  const back = await tok.decode(tokens, { dtype: 'float32' })
  const decoder = tok.decoder({ numFrames: frames, height: 4, width: 4, dtype: 'float32' })
  const pieces = []
  for (let i = 0; i < tokens.length; i++) pieces.push(await decoder.push(slice(tokens, i, i + 1)))
  const decoded = concat([...pieces, await decoder.finish()])
  await tok.dispose()
  const latentsOf = (/** @type {import('../src/index.js').Latents} */ l) => everyNth(l.data, l.channels * l.h * l.w)
  const framesOf = (/** @type {import('../src/index.js').Frames} */ v) =>
    everyNth(v.data, v.height * v.width * 3).map((x) => Math.round(x * 500 + 500))
  const whole = { latents: latentsOf(tokens), frames: framesOf(back) }
  return { whole, piecewise: { latents: latentsOf(encoded), frames: framesOf(decoded) }, info: tokens.info }
}

/**
 * @param {ArrayLike<number>} data
 * @param {number} n
 */
const everyNth = (data, n) => Array.from({ length: data.length / n }, (_, i) => data[i * n])

test('a first call of its own, calls of one exact size, and what is left', async () => {
  const encoder = { first: 9, multiple: 8, max: 8, exact: true }
  const decoder = { first: 3, multiple: 2, max: 2, exact: true, drop: 3 }
  const changes = { length: { first: 1, multiple: 8 }, encoder, decoder }
  const { whole, piecewise } = await planOf(4, changes, 18) // padded to 25
  assert.deepEqual(whole.latents, [109, 109, 109, 8, 8, 8, 8])
  assert.deepEqual(whole.frames, [...Array(9).fill(103), ...Array(8).fill(2), 2])
  assert.deepEqual(piecewise, whole)
  const one = await planOf(4, changes, 1) // less than the first call takes
  assert.deepEqual(one.whole, { latents: [101], frames: [101] })
  assert.deepEqual(one.piecewise, one.whole)
})

test('calls that need not be exact may be shorter, and are a multiple', async () => {
  const { whole, piecewise } = await planOf(1, { encoder: { multiple: 2, max: 4 } }, 7)
  assert.deepEqual(whole.latents, [104, 104, 104, 104, 2, 2, 1])
  assert.deepEqual(piecewise.latents, [102, 102, 2, 2, 2, 2, 1])
  const late = await planOf(1, { encoder: { first: 9, multiple: 2, max: 4 } }, 7) // there is no first call of 9
  assert.deepEqual(late.piecewise.latents, [104, 104, 104, 104, 2, 2, 1])
})

test('a length of first plus a multiple', async () => {
  const plan = await planOf(4, { length: { first: 1, multiple: 8 }, encoder: { first: 1, multiple: 8, max: 8 } }, 10)
  assert.deepEqual(plan.whole.latents, [101, 8, 8, 8, 8]) // 1 + 8 + 8 frames
  assert.equal(plan.whole.frames.length, 10)
})

test('flags, and a flush call whose output counts in part', async () => {
  const flags = { flag: ['second call', 'flush call'] }
  const decoder = { flags, flush: { size: 3, keep: 1 }, drop: 1, max: 1 }
  const two = await planOf(2, { decoder }, 5)
  assert.deepEqual(two.whole.frames, [1, 101, 101, 1, 1]) // calls of one latent; the last frame is that of padding
  const one = await planOf(2, { decoder }, 2)
  assert.deepEqual(one.whole.frames, [1, 103]) // the second call is the flush call
  assert.deepEqual(one.piecewise, one.whole)
})

test('a surplus is dropped, however much the end shows it to be', async () => {
  const changes = { decoder: { drop: 'surplus', max: 3 } }
  for (const [frames, kept] of /** @type {const} */ ([[1, [101]], [3, [101, 101, 101]], [4, [101, 101, 101, 101]]])) {
    const { whole, piecewise } = await planOf(4, changes, frames)
    assert.deepEqual(whole.frames, kept)
    assert.deepEqual(piecewise, whole)
  }
  const { whole } = await planOf(4, changes, 13) // 4 latents give 16 frames, the first 3 are dropped
  assert.deepEqual(whole.frames, [...Array(9).fill(103), ...Array(4).fill(1)])
})

test('groups that share frames and latents, each in one call', async () => {
  const groups = { frames: 5, latents: 2, shared_frames: 1, shared_latents: 1, whole: true, multiple: null }
  const whole = { max: null, first: null, multiple: 1 }
  const stream = { length: { first: 1, multiple: 4 }, groups, encoder: whole, decoder: { ...whole, drop: 3 } }
  const plan = await planOf(4, stream, 12) // groups of 5, 5 and 4 frames, padded to 5
  assert.deepEqual(plan.whole.latents, [105, 105, 105, 105])
  assert.deepEqual(plan.whole.frames, Array(12).fill(102))
  assert.deepEqual(plan.piecewise, plan.whole)
  const { multiple, ...lengths } = { frames: 5, latents: 2, sharedFrames: 1, sharedLatents: 1, whole: true, multiple: 0 }
  assert.deepEqual(plan.info.groups, lengths)
  assert.deepEqual((await planOf(4, stream, 5)).whole.latents, [105, 105]) // nothing is new in a group of its own
  assert.deepEqual((await planOf(4, stream, 6)).whole.latents, [105, 105, 105])
  assert.deepEqual((await planOf(4, stream, 1)).whole, { latents: [101], frames: [101] })
})

test('the window that a model has by itself may be asked for', async () => {
  const groups = { frames: 7, latents: 2, shared_frames: 0, shared_latents: 0, whole: true, multiple: null }
  const tok = await Tokenizer.load(toy(4, { groups }))
  const usual = await tok.encode(clip(12, 4, 4))
  const asked = await tok.encode(clip(12, 4, 4), { window: 7 })
  assert.deepEqual([asked.data, asked.info], [usual.data, usual.info])
  await assert.rejects(tok.encode(clip(12, 4, 4), { window: 14 }), /no windows of another length/)
  await tok.dispose()
})

test('a surplus of groups that are cut short, and one of which nothing is known', async () => {
  const groups = { frames: 7, latents: 2, shared_frames: 0, shared_latents: 0, whole: true, multiple: null }
  const tok = await Tokenizer.load(toy(4, { groups, decoder: { drop: 'surplus' }, length: { first: 0, multiple: 1 } }))
  const tokens = await tok.encode(clip(12, 4, 4)) // 7 frames in 2 latents, and 5 in 2
  assert.equal(tokens.length, 4)
  const all = (await tok.decode(tokens)).frames
  const part = await tok.decode({ ...slice(tokens, 0, 2), info: { ...tokens.info, numFrames: 3, skip: 1 } })
  const stream = tok.decoder({ height: 4, width: 4 })
  const untold = concat([await stream.push(tokens), await stream.finish()])
  assert.deepEqual([all, part.frames, untold.frames], [12, 3, 14])
  await tok.dispose()
})

test('a model that takes squares gives back what it was given', async () => {
  const tok = await Tokenizer.load(toy(1, { square: true }))
  const tokens = await tok.encode(clip(2, 3, 10))
  assert.deepEqual([tokens.h, tokens.w], [5, 5])
  const again = await loadTokens(await saveTokens(tokens))
  const video = await tok.decode(again)
  assert.deepEqual([video.frames, video.height, video.width], [2, 3, 10])
  const wide = { ...tokens, h: 1, w: 25 }
  await assert.rejects(tok.decoder().push(wide), /a height of 2 pixels needs 25 latents, got 1/)
  await tok.dispose()
})
