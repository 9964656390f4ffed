/** The graphs of a role, one after the other: what a call takes goes through all of them. */
import { Chunk } from './chunk.js'
import { StatefulGraph } from './session.js'
import { FIRST_CALL, FLUSH_CALL, SECOND_CALL } from './stream_spec.js'
import { isOnDevice } from './tensors.js'
import { TiledGraph, marginOf } from './tiled_graph.js'

/** @import { Loaded } from './session.js' */
/** @import { TileLimit } from './tiled_graph.js' */

/**
 * The graphs of a role on an engine, and what bounds their tiles; null: whole frames.
 * @typedef {{ graphs: Loaded[], tiles: TileLimit | null }} LoadedChain
 */

/** The states of one stream through a chain. */
export class StatefulChain {
  #calls = 0

  /**
   * @param {LoadedChain} chain
   * @param {ReadonlyMap<string, readonly string[]>} flags calls in which each flag is true
   */
  constructor({ graphs, tiles }, flags) {
    this.graphs = graphs.map((loaded) => {
      const margin = tiles && marginOf(loaded.entry, tiles.multiple)
      return tiles && margin !== null ? new TiledGraph(loaded, tiles, margin) : new StatefulGraph(loaded)
    })
    this.flags = flags
    this.ort = graphs[0].ort
  }

  /**
   * Run one call through every graph; returns what the last gives. Throws BundleError, ProviderError, InputError.
   * @param {Chunk} x
   * @param {boolean} flush this call comes after the end of the stream
   */
  async step(x, flush) {
    const call = [FIRST_CALL, SECOND_CALL][this.#calls++]
    const isSet = (/** @type {string} */ name) =>
      this.flags.get(name)?.some((set) => set === call || (flush && set === FLUSH_CALL)) ?? false
    const { dtype } = this.graphs[0].entry.input
    let value = new this.ort.Tensor(/** @type {'float32'} */ (dtype), /** @type {Float32Array} */ (x.data), x.dims)
    for (const graph of this.graphs) {
      const taken = value
      try {
        value = /** @type {typeof taken} */ (await graph.step(taken, isSet))
      } finally {
        if (isOnDevice(taken)) taken.dispose()
      }
    }
    return new Chunk(/** @type {import('./chunk.js').Numbers} */ (value.data), value.dims)
  }

  /** Give the states back that an engine keeps on a device. */
  dispose() {
    for (const graph of this.graphs) graph.dispose()
  }
}
