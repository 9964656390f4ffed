import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Chunk } from '../src/chunk.js'
import { InputError } from '../src/errors.js'
import { checkFrames, fromNetwork, toNetwork } from '../src/geometry.js'
import { clip } from './material.js'

/**
 * @param {number} spatialMultiple
 * @param {{ square?: boolean, paddingMultiple?: number | null, pixelRange?: [number, number] }} [more]
 */
const pixels = (spatialMultiple, { square = false, paddingMultiple = null, pixelRange = [-1, 1] } = {}) => {
  return { spatialMultiple, square, paddingMultiple, pixelRange }
}

test('every byte comes back', () => {
  const bytes = Uint8Array.from({ length: 256 * 3 }, (_, i) => i / 3)
  const x = toNetwork({ data: bytes, frames: 1, height: 16, width: 16 }, 0, 1, pixels(1))
  assert.deepEqual([x.data[0], x.data[255], x.data[51]], [-1, 1, Math.fround(-0.6)])
  assert.deepEqual(fromNetwork(x, 16, 16, 'uint8', pixels(1)).data, bytes)
})

test('rounding is half to even and clips', () => {
  const values = [0, -5, 5, -1, 1, 1 / 255, -1 / 255, 0.1]
  const x = new Chunk(Float32Array.from([...values, ...values, ...values]), [1, 3, 1, 1, 8])
  const { data } = fromNetwork(x, 1, 8, 'uint8', pixels(1))
  // 127.5 becomes 128; the others are what numpy makes of them.
  assert.deepEqual([...data].filter((_, i) => i % 3 === 0), [128, 0, 255, 0, 255, 128, 127, 140])
  const float = fromNetwork(x, 1, 8, 'float32', pixels(1)).data
  assert.deepEqual([float[3], float[6]], [-1, 1])
})

test('edges are repeated up to the multiple and cut off again', () => {
  const video = clip(2, 3, 5)
  const x = toNetwork(video, 0, 2, pixels(8))
  assert.deepEqual(x.dims, [1, 3, 2, 8, 8])
  const at = (/** @type {number} */ t, /** @type {number} */ y, /** @type {number} */ column) =>
    x.data[(t * 8 + y) * 8 + column]
  assert.equal(at(1, 7, 7), at(1, 2, 4))
  assert.equal(at(0, 1, 6), at(0, 1, 4))
  assert.deepEqual(fromNetwork(x, 3, 5, 'uint8', pixels(8)), video)
  const last = toNetwork(video, 1, 2, pixels(8))
  assert.deepEqual(last.data.subarray(0, 64), x.data.subarray(64, 128))
})

test('a model that takes squares gets them', () => {
  const video = clip(1, 3, 11)
  const x = toNetwork(video, 0, 1, pixels(4, { square: true }))
  assert.deepEqual(x.dims, [1, 3, 1, 12, 12])
  assert.equal(x.data[11 * 12 + 11], x.data[2 * 12 + 10])
  assert.deepEqual(fromNetwork(x, 3, 11, 'uint8', pixels(4)), video)
  assert.deepEqual(toNetwork(video, 0, 1, pixels(4, { square: true, paddingMultiple: 8 })).dims, [1, 3, 1, 16, 16])
})

test('graphs get the range of pixels that they take, and all bytes come back', () => {
  const bytes = Uint8Array.from({ length: 256 * 3 }, (_, i) => i / 3)
  for (const pixelRange of /** @type {[number, number][]} */ ([[0, 1], [0, 255], [-0.5, 0.5], [-2, 7]])) {
    const spec = pixels(1, { pixelRange })
    const x = toNetwork({ data: bytes, frames: 1, height: 16, width: 16 }, 0, 1, spec)
    const [low, high] = pixelRange
    assert.ok(Math.abs(x.data[0] - low) < 1e-6 && Math.abs(x.data[255] - high) < 1e-6 * (high - low))
    assert.deepEqual(fromNetwork(x, 16, 16, 'uint8', spec).data, bytes)
    const float = fromNetwork(x, 16, 16, 'float32', spec).data
    assert.ok(Math.min(...float) === -1 && Math.abs(float[3] - (1 / 127.5 - 1)) < 1e-6)
  }
})

test('what is no video is refused', () => {
  const video = clip(2, 3, 5)
  const floats = Float32Array.from(video.data, (byte) => byte / 127.5 - 1)
  checkFrames(video)
  checkFrames({ ...video, data: new Uint8ClampedArray(video.data) })
  checkFrames({ ...video, data: floats })
  const wrong = [
    [{ ...video, frames: 3 }, /3 frames of 5x3 in RGB have 135 numbers, got 90/],
    [{ ...video, width: 0 }, /\[2, 3, 0, 3\]/],
    [{ ...video, height: 1.5 }, /1.5/],
    [{ ...video, data: Int16Array.from(video.data) }, /Uint8Array/],
    [{ ...video, data: floats.map((x, i) => (i === 7 ? NaN : x)) }, /NaN/],
    [{ ...video, data: Float32Array.from(video.data) }, /scale 0..255/],
  ]
  for (const [frames, message] of wrong) {
    assert.throws(() => checkFrames(/** @type {any} */ (frames)), (error) => {
      assert.match(/** @type {Error} */ (error).message, /** @type {RegExp} */ (message))
      return error instanceof InputError
    })
  }
})
