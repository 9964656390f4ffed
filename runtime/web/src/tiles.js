/** The geometry of tiles: what each of them reads, and the part of it that is right. All numbers count latents. */

// Tiles begin at multiples of it: Winograd computes rows in groups of four, from the first that it sees.
const ALIGNED = 4

/**
 * From `start` to before `stop`.
 * @typedef {{ start: number, stop: number }} Span
 */
/**
 * Along one axis: what a tile computes (`extent`), and the part of it that is taken (`kept`).
 * @typedef {{ extent: Span, kept: Span }} Tile
 */
/**
 * Tiles of a frame, along H and along W.
 * @typedef {{ rows: Tile[], columns: Tile[] }} Tiling
 */

/**
 * The place of latents in an array with `scale` positions a latent that begins at the latent `begin`.
 * @param {Span} span
 * @param {number} scale
 * @param {number} [begin]
 * @returns {Span}
 */
export function placeOf({ start, stop }, scale, begin = 0) {
  return { start: (start - begin) * scale, stop: (stop - begin) * scale }
}

/**
 * The smallest tile along an axis that goes on behind it.
 * @param {number} margin
 */
export function smallestTile(margin) {
  return 2 * margin + ALIGNED
}

/**
 * Tiles along an axis of a frame, in order; the kept parts cover it, each latent once. Each tile keeps what it computes,
 * less a `margin` where the frame goes on.
 * @param {number} length
 * @param {number} size the largest extent: `length`, or `smallestTile` at least
 * @param {number} margin
 */
export function tilesAlong(length, size, margin) {
  /** @type {Tile[]} */
  const found = []
  for (let start = 0, kept = 0; kept < length; start = Math.floor((kept - margin) / ALIGNED) * ALIGNED) {
    const stop = Math.min(start + size, length)
    const end = stop === length ? stop : stop - margin
    found.push({ extent: { start, stop }, kept: { start: kept, stop: end } })
    kept = end
  }
  return found
}

/**
 * Of the fewest tiles that compute at most `most` latents each those whose largest is smallest; the whole axis is one.
 * @param {number} length
 * @param {number} most `length`, or `smallestTile` at least
 * @param {number} margin
 */
export function cut(length, most, margin) {
  let best = tilesAlong(length, Math.min(length, most), margin)
  if (best.length === 1) return best
  for (let size = most - 1; size >= smallestTile(margin); size--) {
    const smaller = tilesAlong(length, size, margin)
    if (smaller.length > best.length) break
    best = smaller
  }
  return best
}
