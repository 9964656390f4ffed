/** From a stream to graph calls: cut along time, drop what is surplus in front, flush what waits at the end. */
import { sizesOfCalls } from './stream_spec.js'

/** @import { CallSpec } from './index.js' */
/** @import { StatefulChain } from './chain.js' */
/** @import { Chunk } from './chunk.js' */

/** One stream through a chain. `push` takes any length and gives what is complete, `finish` the rest; a chunk a call. */
export class Calls {
  /** @type {Chunk | null} */
  #waiting = null
  /** @type {Chunk | null} */
  #newest = null
  #toDrop

  /**
   * @param {StatefulChain} chain
   * @param {CallSpec} spec
   * @param {number} drop how many of what comes out are thrown away at the start
   */
  constructor(chain, spec, drop) {
    this.chain = chain
    this.spec = spec
    this.first = spec.first
    this.#toDrop = drop
  }

  /**
   * Add `x` behind what waits and run every call that is full.
   * @param {Chunk} x
   */
  async push(x) {
    if (this.#waiting) x = this.#waiting.join(x)
    const out = []
    let start = 0
    for (let size; (size = this.#nextSize(x.length - start)); start += size) {
      out.push(await this.#run(x.slice(start, start + size)))
      this.first = null
    }
    this.#waiting = x.slice(start, x.length)
    return out
  }

  /** Run what still waits, then the flush call, if there is one. */
  async finish() {
    const { flush } = this.spec
    const out = []
    let start = 0
    for (const size of sizesOfCalls({ ...this.spec, first: this.first }, this.#waiting?.length ?? 0)) {
      out.push(await this.#run(/** @type {Chunk} */ (this.#waiting).slice(start, (start += size))))
    }
    if (flush && this.#newest) {
      out.push(await this.#run(this.#newest.repeat(this.#newest.length - 1, flush.size), flush.keep))
    }
    return out
  }

  /** @param {number} ready */
  #nextSize(ready) {
    const { max, multiple, exact } = this.spec
    if (this.first !== null) return ready >= this.first ? this.first : 0
    if (max === null || (exact && ready < max)) return 0
    return Math.min(max, ready - (ready % multiple))
  }

  /**
   * @param {Chunk} x
   * @param {number} [keep] of a flush call: how much of its output counts
   */
  async #run(x, keep) {
    this.#newest = this.spec.flush ? x : null
    let y = await this.chain.step(x, keep !== undefined)
    if (keep !== undefined) y = y.slice(0, Math.min(keep, y.length))
    const drop = Math.min(this.#toDrop, y.length)
    this.#toDrop -= drop
    return y.slice(drop, y.length)
  }
}
