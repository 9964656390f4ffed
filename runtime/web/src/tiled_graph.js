/**
 * A local graph run tile by tile over whole frames, with the result of one run on the whole frame.
 *
 * What a tile computes within the margin of its border inside the frame is not what the whole frame would give, at any
 * time: it is thrown away, of outputs and of states. So states are right everywhere, and a frame has them once.
 */
import { Block } from './block.js'
import { InputError } from './errors.js'
import { FrameState, copyKept } from './frame_state.js'
import { shapeOf, sizesOf } from './graph_entry.js'
import { StatefulGraph } from './session.js'
import { filled } from './tensors.js'
import { cut, placeOf, smallestTile } from './tiles.js'

/** @import { Tensor } from 'onnxruntime-common' */
/** @import { Dtype, GraphEntry, State } from './graph_entry.js' */
/** @import { Manifest } from './index.js' */
/** @import { Loaded } from './session.js' */
/** @import { Tiling } from './tiles.js' */

/**
 * What bounds the tiles of a chain: pixels a latent, latents of the largest tile along an axis.
 * @typedef {{ multiple: number, most: number }} TileLimit
 */

/**
 * That of tiles which compute `maxTile` pixels along an axis at most; throws InputError where there can be none.
 * @param {GraphEntry[]} chain
 * @param {Manifest} manifest
 * @param {number} maxTile
 * @returns {TileLimit}
 */
export function tileLimit(chain, manifest, maxTile) {
  const multiple = manifest.stream.spatialMultiple
  const what = `the ${chain[0].role} of ${manifest.name}`
  const margins = chain.flatMap((entry) => marginOf(entry, multiple) ?? [])
  if (!margins.length) throw new InputError(`${what} cannot be cut into tiles; leave maxTile out`)
  const least = smallestTile(Math.max(...margins)) * multiple
  if (!(Number.isSafeInteger(maxTile) && maxTile >= least)) {
    throw new InputError(`tiles of ${what} are ${least} pixels at least, got ${maxTile}`)
  }
  return { multiple, most: Math.floor(maxTile / multiple) }
}

/**
 * Latents, of `multiple` pixels, that tiles compute beyond what they keep; null where no tiles are possible.
 * @param {GraphEntry} entry
 * @param {number} multiple
 */
export function marginOf(entry, multiple) {
  if (entry.part !== 'local' || !canBeCut(entry, multiple)) return null
  return Math.ceil(entry.receptiveField / multiple)
}

/**
 * Whether a latent is a whole number of positions of all that a graph takes, gives and keeps.
 * @param {GraphEntry} entry
 * @param {number} multiple
 */
function canBeCut({ input, outputs, states }, multiple) {
  return (
    [input, ...outputs].every(({ axes }) => scaleOf(axes, multiple)) &&
    states.every(({ axes }) => scaleOf(axes, multiple) || !/[HW]/.test(axes))
  )
}

/**
 * Positions a latent along H and W, which are the last axes; 0 where they are not or it is no whole number.
 * @param {string} axes
 * @param {number} multiple
 */
function scaleOf(axes, multiple) {
  const match = /^[^HW]*H(\/\d+)? W\1$/.exec(axes)
  if (!match) return 0
  const scale = multiple / Number(match[1]?.slice(1) ?? 1)
  return Number.isInteger(scale) ? scale : 0
}

/** As StatefulGraph, in tiles where the frame needs several. */
export class TiledGraph {
  #graph
  #limit
  #margin
  /** @type {Tiling | null} */
  #tiling = null
  /** @type {Map<State, FrameState>} */
  #frames = new Map()
  /** @type {Map<State, Tensor>} those that do not depend on the place */
  #plain = new Map()

  /**
   * @param {Loaded} loaded
   * @param {TileLimit} limit
   * @param {number} margin
   */
  constructor(loaded, limit, margin) {
    this.#graph = new StatefulGraph(loaded)
    this.#limit = limit
    this.#margin = margin
  }

  /** @returns {GraphEntry} */
  get entry() {
    return this.#graph.entry
  }

  /**
   * As that of StatefulGraph, for whole frames.
   * @param {Tensor} x
   * @param {(flag: string) => boolean} isSet
   * @returns {Promise<Tensor>}
   */
  async step(x, isSet) {
    const { input, outputs } = this.entry
    const sizes = sizesOf(input.axes, x.dims)
    const { rows, columns } = (this.#tiling ??= this.#start(sizes, x.dims))
    if (rows.length * columns.length === 1) return this.#graph.step(x, isSet)
    await this.#graph.toHost([x])
    const [taken, from, to] = [Block.of(x), this.#scale(input), this.#scale(outputs[0])]
    const given = filled(this.#graph.loaded.ort, outputs[0].dtype, shapeOf(outputs[0].axes, sizes), false)
    const plain = [...this.#plain].map(([{ input }, value]) => [input, value]) // every tile takes that of the call before
    for (const [i, row] of rows.entries()) {
      for (const [j, column] of columns.entries()) {
        const piece = taken.rows(placeOf(row.extent, from)).columns(placeOf(column.extent, from)).copy()
        const frames = [...this.#frames].map(([state, frame]) => [state.input, this.#tensor(state, frame.read(i, j))])
        const states = Object.fromEntries([...plain, ...frames])
        const results = await this.#graph.run(this.#tensor(input, piece), isSet, states)
        await this.#graph.toHost(Object.values(results))
        copyKept(Block.of(results[outputs[0].name]), row, column, to, Block.of(given))
        for (const [{ output }, frame] of this.#frames) frame.write(i, j, Block.of(results[output]))
        for (const state of this.#plain.keys()) this.#plain.set(state, results[state.output])
      }
    }
    return given
  }

  /** Give the states back. */
  dispose() {
    this.#graph.dispose()
    this.#tiling = null
    this.#frames.clear()
    this.#plain.clear()
  }

  /**
   * Begin a stream: cut its frames, and keep states where there are several tiles.
   * @param {Record<string, number>} sizes
   * @param {readonly number[]} dims of the data
   */
  #start(sizes, dims) {
    const { multiple, most } = this.#limit
    const [rows, columns] = [sizes.H, sizes.W].map((pixels) => cut(pixels / multiple, most, this.#margin))
    const tiling = { rows, columns }
    if (rows.length * columns.length === 1) return tiling
    const initial = this.#graph.initialState(dims)
    for (const state of this.entry.states) {
      const [scale, value] = [this.#scale(state), initial[state.input]]
      if (scale) this.#frames.set(state, new FrameState(Block.of(value), tiling, scale))
      else this.#plain.set(state, value)
    }
    return tiling
  }

  /** @param {{ axes: string }} array */
  #scale({ axes }) {
    return scaleOf(axes, this.#limit.multiple)
  }

  /**
   * @param {{ dtype: Dtype }} port
   * @param {Block} block an array of its own
   * @returns {Tensor}
   */
  #tensor({ dtype }, { data, dims }) {
    return new this.#graph.loaded.ort.Tensor(/** @type {'float32'} */ (dtype), data, dims)
  }
}
