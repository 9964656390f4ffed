/** Pixels to network input and back: value range, axes, edge padding, cropping. */
import { Chunk } from './chunk.js'
import { InputError } from './errors.js'
import { isFinite } from './tensors.js'

/** @import { Frames, PixelType, StreamSpec } from './index.js' */

// Resampling overshoots -1..1 a little; values beyond this are in other units.
const FAR_OUTSIDE = 2
// A float32 of this size has no places after the point: adding it rounds, half to even.
const ROUNDS = 1.5 * 2 ** 23
const { fround } = Math
const OF_BYTE = Float32Array.from({ length: 256 }, (_, byte) => fround(byte / 127.5) - 1)

/**
 * Throw InputError unless frames are `[T, H, W, 3]`, bytes, or float32 that is finite and in -1..1.
 * @param {Frames} frames
 */
export function checkFrames({ data, frames, height, width }) {
  if (![frames, height, width].every((n) => Number.isSafeInteger(n) && n >= 0) || height === 0 || width === 0) {
    throw new InputError(`video must be [frames, height, width, 3], got [${frames}, ${height}, ${width}, 3]`)
  }
  if (!(data instanceof Uint8Array || data instanceof Uint8ClampedArray || data instanceof Float32Array)) {
    throw new InputError('video must be a Uint8Array (0..255) or a Float32Array (-1..1)')
  }
  const size = frames * height * width * 3
  if (data.length !== size) {
    throw new InputError(`${frames} frames of ${width}x${height} in RGB have ${size} numbers, got ${data.length}`)
  }
  if (data instanceof Float32Array) {
    if (!isFinite(data)) throw new InputError('video holds NaN or infinite values; clean it first')
    let largest = 0
    for (let i = 0; i < data.length; i++) largest = Math.max(largest, Math.abs(data[i]))
    if (largest > FAR_OUTSIDE) {
      throw new InputError(`float32 video must lie in -1..1, found ${largest}; scale 0..255 by x / 127.5 - 1`)
    }
  }
}

/**
 * What of a StreamSpec says how pixels become the input of a graph.
 * @typedef {Pick<StreamSpec, 'spatialMultiple' | 'square' | 'paddingMultiple' | 'pixelRange'>} Pixels
 */

/**
 * Height and width with the edges repeated right and below.
 * @param {Omit<Pixels, 'pixelRange'>} pixels
 * @param {number} height
 * @param {number} width
 */
export function paddedSize({ spatialMultiple, square, paddingMultiple }, height, width) {
  const multiple = paddingMultiple ?? spatialMultiple
  const size = [height, width].map((n) => Math.ceil(n / multiple) * multiple)
  return square ? size.map(() => Math.max(...size)) : size
}

/**
 * Frames `start..stop` to `[1, 3, T, H', W']` in the range of the graphs, edges repeated right and below.
 * @param {Frames} frames
 * @param {number} start
 * @param {number} stop
 * @param {Pixels} pixels
 */
export function toNetwork({ data, height, width }, start, stop, pixels) {
  const [count, [high, wide]] = [stop - start, paddedSize(pixels, height, width)]
  const out = new Float32Array(3 * count * high * wide)
  const bytes = !(data instanceof Float32Array)
  let to = 0
  for (let c = 0; c < 3; c++) {
    for (let t = start; t < stop; t++) {
      for (let y = 0; y < high; y++) {
        let from = (t * height + Math.min(y, height - 1)) * width * 3 + c
        for (let x = 0; x < width; x++, from += 3) out[to++] = bytes ? OF_BYTE[data[from]] : data[from]
        out.fill(out[to - 1], to, to + wide - width)
        to += wide - width
      }
    }
  }
  const { scale, middle } = scaleOf(pixels)
  if (scale !== 1 || middle !== 0) out.forEach((value, i) => (out[i] = fround(value * scale) + middle))
  return new Chunk(out, [1, 3, count, high, wide])
}

/**
 * `[1, 3, T, H', W']` in the range of the graphs to `[T, H, W, 3]`, cropped and clipped; uint8 rounds half to even,
 * float32 lies in -1..1.
 * @param {Chunk} video
 * @param {number} height
 * @param {number} width
 * @param {PixelType} dtype
 * @param {Pick<Pixels, 'pixelRange'>} pixels
 * @returns {Frames}
 */
export function fromNetwork({ data, dims }, height, width, dtype, pixels) {
  const [, , frames, high, wide] = dims
  const { scale, middle } = scaleOf(pixels)
  const plane = frames * high * wide // from one colour to the next
  const out = blank(frames, height, width, dtype)
  const bytes = dtype === 'uint8'
  let to = 0
  for (let t = 0; t < frames; t++) {
    for (let y = 0; y < height; y++) {
      const row = (t * high + y) * wide
      for (let x = 0; x < width; x++) {
        for (let at = row + x; at < 3 * plane; at += plane) {
          const value = Math.min(1, Math.max(-1, fround(fround(data[at] - middle) / scale)))
          out.data[to++] = bytes ? fround(fround(fround(value + 1) * 127.5) + ROUNDS) - ROUNDS : value
        }
      }
    }
  }
  return out
}

/**
 * What -1..1 is multiplied with, and what is added then, to be in the range of the graphs.
 * @param {Pick<Pixels, 'pixelRange'>} pixels
 */
function scaleOf({ pixelRange: [low, high] }) {
  return { scale: fround((high - low) / 2), middle: fround((high + low) / 2) }
}

/**
 * Frames to be filled.
 * @param {number} frames
 * @param {number} height
 * @param {number} width
 * @param {PixelType} dtype
 * @returns {Frames}
 */
export function blank(frames, height, width, dtype) {
  const size = frames * height * width * 3
  return { data: dtype === 'uint8' ? new Uint8Array(size) : new Float32Array(size), frames, height, width }
}
