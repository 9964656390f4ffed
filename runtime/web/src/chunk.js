/** An array in the layout of a graph, whose time is the third axis from the end: `1 C T H W` or `1 T H W`. */

/** @typedef {Float32Array<ArrayBuffer> | Int32Array<ArrayBuffer>} Numbers */

export class Chunk {
  /**
   * @param {Numbers} data
   * @param {readonly number[]} dims
   */
  constructor(data, dims) {
    this.data = data
    this.dims = dims
  }

  /** Size of the time axis. */
  get length() {
    return this.dims[this.dims.length - 3]
  }

  /**
   * The part `start..stop` of the time axis; the whole is not copied.
   * @param {number} start
   * @param {number} stop
   */
  slice(start, stop) {
    if (start === 0 && stop === this.length) return this
    const plane = this.#plane
    const out = this.#blank(stop - start)
    for (let row = 0; row < this.#rows; row++) {
      const from = row * this.length
      out.data.set(this.data.subarray((from + start) * plane, (from + stop) * plane), row * (stop - start) * plane)
    }
    return out
  }

  /**
   * This one followed by another along time.
   * @param {Chunk} other
   */
  join(other) {
    if (this.length === 0) return other
    const plane = this.#plane
    const out = this.#blank(this.length + other.length)
    for (let row = 0; row < this.#rows; row++) {
      let to = row * out.length * plane
      for (const { data, length } of [this, other]) {
        out.data.set(data.subarray(row * length * plane, (row + 1) * length * plane), to)
        to += length * plane
      }
    }
    return out
  }

  /**
   * So many copies of one moment.
   * @param {number} moment
   * @param {number} count
   */
  repeat(moment, count) {
    const plane = this.#plane
    const out = this.#blank(count)
    for (let row = 0; row < this.#rows; row++) {
      const from = (row * this.length + moment) * plane
      const picture = this.data.subarray(from, from + plane)
      for (let t = 0; t < count; t++) out.data.set(picture, (row * count + t) * plane)
    }
    return out
  }

  get #plane() {
    return this.dims[this.dims.length - 2] * this.dims[this.dims.length - 1]
  }

  /** Product of the axes before time. */
  get #rows() {
    return this.dims.slice(0, -3).reduce((product, n) => product * n, 1)
  }

  /** @param {number} length */
  #blank(length) {
    const size = this.#rows * length * this.#plane
    const dims = [...this.dims.slice(0, -3), length, ...this.dims.slice(-2)]
    return new Chunk(this.data instanceof Int32Array ? new Int32Array(size) : new Float32Array(size), dims)
  }
}
