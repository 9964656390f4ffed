/** States of whole frames, which tiles read with their margin and write without it. */
import { placeOf } from './tiles.js'

/** @import { Block } from './block.js' */
/** @import { Tile, Tiling } from './tiles.js' */

/**
 * A state of which each tile reads its extent as the call before left it and writes its kept part.
 *
 * Tiles take turns row by row. What a later one still has to read is set aside before it is written over.
 */
export class FrameState {
  #above
  #left

  /**
   * @param {Block} frame at the start of a stream
   * @param {Tiling} tiling
   * @param {number} scale positions a latent
   */
  constructor(frame, tiling, scale) {
    this.frame = frame
    this.tiling = tiling
    this.scale = scale
    this.#above = new Border(tiling.rows, 'rows', scale)
    this.#left = new Border(tiling.columns, 'columns', scale)
  }

  /**
   * What tile j of row i takes, in an array of its own.
   * @param {number} i
   * @param {number} j
   */
  read(i, j) {
    const { frame, scale } = this
    const [row, column] = [this.tiling.rows[i], this.tiling.columns[j]]
    if (j === 0) this.#above.enter(i, frame)
    this.#left.enter(j, frame.rows(placeOf(row.kept, scale)))
    const value = frame.rows(placeOf(row.extent, scale)).columns(placeOf(column.extent, scale)).copy()
    this.#above.old?.columns(placeOf(column.extent, scale)).copyTo(value)
    this.#left.old?.copyTo(value.rows(placeOf(row.kept, scale, row.extent.start)))
    return value
  }

  /**
   * What tile j of row i gave.
   * @param {number} i
   * @param {number} j
   * @param {Block} value
   */
  write(i, j, value) {
    copyKept(value, this.tiling.rows[i], this.tiling.columns[j], this.scale, this.frame)
  }
}

/** Along one axis, what a tile reads before its kept part, as it was before earlier tiles wrote there. */
class Border {
  /** @type {Block | null} what was set aside for the tile whose turn it is */
  old = null
  /** @type {Block | null} */
  #next = null

  /**
   * @param {Tile[]} tiles
   * @param {'rows' | 'columns'} axis
   * @param {number} scale positions a latent
   */
  constructor(tiles, axis, scale) {
    this.tiles = tiles
    this.axis = axis
    this.scale = scale
  }

  /**
   * Turn to the next tile, before it writes, and set aside from `frame` what the one after it will need.
   * @param {number} index
   * @param {Block} frame
   */
  enter(index, frame) {
    const { tiles, axis, scale } = this
    const [now, then] = [tiles[index], tiles[index + 1]]
    this.old = this.#next
    this.#next = null
    if (!then) return
    const aside = { start: then.extent.start, stop: now.kept.stop }
    const fresh = { start: Math.max(aside.start, now.kept.start), stop: aside.stop }
    const next = frame[axis](placeOf(aside, scale)).blank()
    // Earlier tiles have written in front of what this one keeps.
    if (aside.start < now.kept.start) {
      this.old?.[axis](placeOf({ ...aside, stop: fresh.start }, scale, now.extent.start)).copyTo(next)
    }
    frame[axis](placeOf(fresh, scale)).copyTo(next[axis](placeOf(fresh, scale, aside.start)))
    this.#next = next
  }
}

/**
 * The part of a tile's result that is right, to its place in the whole frame; scale: positions a latent.
 * @param {Block} result
 * @param {Tile} row
 * @param {Tile} column
 * @param {number} scale
 * @param {Block} frame
 */
export function copyKept(result, row, column, scale, frame) {
  const rows = result.rows(placeOf(row.kept, scale, row.extent.start))
  const right = rows.columns(placeOf(column.kept, scale, column.extent.start))
  right.copyTo(frame.rows(placeOf(row.kept, scale)).columns(placeOf(column.kept, scale)))
}
