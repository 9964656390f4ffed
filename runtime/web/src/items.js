/** What streams take and give, frames or latents, cut and joined along time, which is their outermost axis. */
import { InputError } from './errors.js'

/** @import { Frames, Latents } from './index.js' */

/**
 * How many there are.
 * @param {Frames | Latents} items
 */
export function count(items) {
  return 'frames' in items ? items.frames : items.length
}

/**
 * Those from `start` to before `stop`, without copying.
 * @template {Frames | Latents} T
 * @param {T} items
 * @param {number} start
 * @param {number} stop
 * @returns {T}
 */
export function slice(items, start, stop) {
  const total = count(items)
  const [first, last] = [Math.min(start, total), Math.min(stop, total)]
  const row = total ? items.data.length / total : 0
  const data = items.data.subarray(first * row, last * row)
  return /** @type {T} */ (
    'frames' in items ? { ...items, data, frames: last - first } : { ...items, data, length: last - first }
  )
}

/**
 * Several pushes' results as one; throws InputError where they are not of one kind and size.
 * @template {Frames | Latents} T
 * @param {T[]} parts
 * @returns {T}
 */
export function concat(parts) {
  if (!parts.length) throw new InputError('there is nothing to join')
  const full = parts.filter((part) => count(part) > 0)
  if (full.length < 2) return full[0] ?? parts[parts.length - 1]
  const first = full[0]
  for (const part of full) {
    if (part.data.constructor !== first.data.constructor || sizeOf(part) !== sizeOf(first)) {
      throw new InputError(`only results of one kind can be joined, got ${sizeOf(part)} after ${sizeOf(first)}`)
    }
  }
  const total = full.reduce((sum, part) => sum + count(part), 0)
  const Numbers = /** @type {Float32ArrayConstructor} */ (first.data.constructor)
  const data = new Numbers(full.reduce((sum, part) => sum + part.data.length, 0))
  let to = 0
  for (const part of full) {
    data.set(part.data, to)
    to += part.data.length
  }
  return /** @type {T} */ ('frames' in first ? { ...first, data, frames: total } : { ...first, data, length: total })
}

/**
 * The axes that all parts of one stream share, as text.
 * @param {Frames | Latents} items
 */
export function sizeOf(items) {
  return 'frames' in items ? `frames of ${items.width}x${items.height}` : `[${items.channels}, ${items.h}, ${items.w}]`
}
