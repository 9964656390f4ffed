/** What of reading and writing video is arithmetic; the rest needs a browser. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PictureReader } from '../src/video/picture.js'
import { matrixFor } from '../src/video/matrix.js'
import { resampled } from '../src/video/plane.js'
import { atRate } from '../src/video/rate.js'
import { VideoError, VideoReader, VideoWriter } from '../src/video/index.js'

/**
 * A decoded picture; numbers of all planes one after the other.
 * @param {string | null} format
 * @param {number} width
 * @param {number} height
 * @param {Uint8Array | Uint16Array} data
 * @param {{ offset: number, stride: number }[]} layout
 * @param {object} [rest]
 */
function picture(format, width, height, data, layout, rest) {
  const bytes = new Uint8Array(data.buffer)
  const colorSpace = { matrix: 'bt709', fullRange: false }
  const copyTo = async (/** @type {Uint8Array} */ to) => (to.set(bytes), layout)
  const allocationSize = () => bytes.length
  const upright = { rotation: 0, flip: false, colorSpace }
  return /** @type {any} */ ({ format, visibleRect: { width, height }, ...upright, copyTo, allocationSize, ...rest })
}

/** @param {number[]} data */
const plane = (data, width = data.length) => ({
  ...{ data: Uint8Array.from(data), offset: 0, stride: width, step: 1, across: 1, down: 1, shift: 0 },
})

test('planes shrink to the mean of what a pixel covers, and grow along straight lines', () => {
  const row = (/** @type {number} */ from, /** @type {number} */ to, /** @type {object} */ rest = {}) =>
    Array.from(resampled({ ...plane([0, 60, 120, 180]), ...rest }, { height: 1, width: from }, { height: 1, width: to }))
  assert.deepEqual(row(4, 2), [30, 150])
  assert.deepEqual(row(4, 3).map(Math.round), [15, 90, 165])
  assert.deepEqual(row(4, 4), [0, 60, 120, 180])
  assert.deepEqual(row(4, 8).map(Math.round), [0, 15, 45, 75, 105, 135, 165, 180])
  assert.deepEqual(row(8, 8, { across: 2 }), [0, 0, 60, 60, 120, 120, 180, 180])
  assert.deepEqual(row(7, 7, { across: 2 }), [0, 0, 60, 60, 120, 120, 180])
  assert.deepEqual(row(8, 2, { across: 2, shift: 0.25 }), [45, 157.5])
})

test('colours of every format, in the matrix and the range that are said', async () => {
  const size = { height: 2, width: 2 }
  const read = (/** @type {any} */ sample, said = {}) => new PictureReader(size, said, false).read(sample)
  const grey = [16, 235, 126, 0]
  const yuv = picture('I420', 2, 2, Uint8Array.from([...grey, 128, 128]), [0, 4, 5].map((offset) => ({ offset, stride: offset ? 1 : 2 })))
  assert.deepEqual(Array.from(await read(yuv)), [0, 255, 128, 0].flatMap((n) => [n, n, n]))
  assert.deepEqual(Array.from(await read(yuv, { fullRange: true })), grey.flatMap((n) => [n, n, n]))
  const nv12 = picture('NV12', 2, 2, Uint8Array.from([81, 81, 81, 81, 90, 240]), [{ offset: 0, stride: 2 }, { offset: 4, stride: 2 }])
  assert.deepEqual(Array.from((await read(nv12)).subarray(0, 3)), [254, 0, 0]) // BT.601 by its size
  assert.deepEqual(Array.from((await read(nv12, { matrix: 'bt709' })).subarray(0, 3)), [255, 24, 0])
  const ten = picture('I420P10', 2, 2, Uint16Array.from([64, 940, 504, 64, 512, 512]), [0, 8, 10].map((offset) => ({ offset, stride: offset ? 2 : 4 })))
  assert.deepEqual(Array.from(await read(ten)), [0, 255, 128, 0].flatMap((n) => [n, n, n]))
  const bgra = picture('BGRA', 2, 2, Uint8Array.from([1, 2, 3, 9, 4, 5, 6, 9, 7, 8, 9, 9, 1, 1, 1, 9]), [{ offset: 0, stride: 8 }])
  assert.deepEqual(Array.from(await read(bgra)), [3, 2, 1, 6, 5, 4, 9, 8, 7, 1, 1, 1])
  const gbr = picture('I444', 2, 2, Uint8Array.from([5, 5, 5, 5, 7, 7, 7, 7, 9, 9, 9, 9]), [0, 4, 8].map((offset) => ({ offset, stride: 2 })))
  assert.deepEqual(Array.from((await read(gbr, { matrix: 'rgb' })).subarray(0, 3)), [9, 5, 7])
  assert.equal(matrixFor(null, { height: 720, width: 1280 }), 'bt709')
  assert.equal(matrixFor('smpte170m', { height: 720, width: 1280 }), 'smpte170m')
})

test('pictures are turned clockwise and then mirrored', async () => {
  const data = new Uint8Array(24).map((_, i) => (i % 4 ? 0 : i / 4)) // 0 1 2 / 3 4 5 in red
  const turned = async (/** @type {number} */ rotation, flip = false) => {
    const size = rotation % 180 ? { height: 3, width: 2 } : { height: 2, width: 3 }
    const sample = picture('RGBX', 3, 2, data, [{ offset: 0, stride: 12 }], { rotation, flip })
    return Array.from(await new PictureReader(size, {}, false).read(sample)).filter((_, i) => i % 3 === 0)
  }
  assert.deepEqual(await turned(0), [0, 1, 2, 3, 4, 5])
  assert.deepEqual(await turned(90), [3, 0, 4, 1, 5, 2])
  assert.deepEqual(await turned(180), [5, 4, 3, 2, 1, 0])
  assert.deepEqual(await turned(270), [2, 5, 1, 4, 0, 3])
  assert.deepEqual(await turned(0, true), [2, 1, 0, 5, 4, 3])
  assert.deepEqual(await turned(90, true), [0, 3, 1, 4, 2, 5])
  assert.deepEqual(await turned(180, true), [3, 4, 5, 0, 1, 2])
  assert.deepEqual(await turned(270, true), [5, 2, 4, 1, 3, 0])
})

test('a rate repeats frames and leaves them out', async () => {
  async function* frames() {
    for (const [pts, duration] of [[100, 40], [140, 40], [180, 120], [300, 40]]) yield { pts, duration }
  }
  const shown = async (/** @type {number} */ begin, /** @type {number} */ fps) => {
    const found = []
    for await (const { frame, count } of atRate(frames(), begin, 1000, fps)) found[count] = frame.pts
    return found
  }
  assert.deepEqual(await shown(100, 25), [100, 140, 180, 180, 180, 300])
  assert.deepEqual(await shown(100, 10), [100, 180, 300])
  assert.deepEqual(await shown(150, 50), [140, 140, 180, 180, 180, 180, 180, 180, 300, 300])
})

test('without WebCodecs it is said that there is none', async () => {
  const refused = (/** @type {Promise<unknown>} */ opening, /** @type {RegExp} */ message) =>
    assert.rejects(opening, (error) => error instanceof VideoError && message.test(error.message))
  await refused(VideoReader.open(new Blob()), /there is no VideoDecoder of WebCodecs here/)
  await refused(VideoWriter.open({ height: 2, width: 2, fps: 25 }), /there is no VideoEncoder of WebCodecs here/)
})
