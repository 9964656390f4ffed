/** From a stream to graph calls: cut along time, drop what is surplus in front, flush what waits at the end. */

/** @import { Chunk } from './chunk.js' */
/** @import { CallRule } from './manifest.js' */
/** @import { StatefulGraph } from './session.js' */

/** One stream through a graph. `push` takes any length and gives what is complete, a chunk a call; `finish` the rest. */
export class Calls {
  /** @type {Chunk | null} */
  #waiting = null
  /** @type {Chunk | null} */
  #newest = null

  /**
   * @param {StatefulGraph} graph
   * @param {CallRule} rule
   */
  constructor(graph, rule) {
    this.graph = graph
    this.rule = rule
    this.first = rule.first
    this.toDrop = rule.drop
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

  /** Run what still waits as a shorter call, then the flush call, if there is one. */
  async finish() {
    const out = []
    if (this.#waiting?.length) out.push(await this.#run(this.#waiting))
    if (this.rule.flush && this.#newest) {
      out.push(await this.#run(this.#newest.repeat(this.#newest.length - 1, this.rule.flush), true))
    }
    return out
  }

  /** @param {number} ready */
  #nextSize(ready) {
    if (this.first !== null) return ready >= this.first ? this.first : 0
    return Math.min(this.rule.most, ready - (ready % this.rule.multiple))
  }

  /**
   * @param {Chunk} x
   * @param {boolean} [flush]
   */
  async #run(x, flush = false) {
    this.#newest = this.rule.flush ? x : null
    let y = await this.graph.step(x, flush)
    if (flush) y = y.slice(0, Math.min(this.rule.keep, y.length))
    const drop = Math.min(this.toDrop, y.length)
    this.toDrop -= drop
    return y.slice(drop, y.length)
  }
}
