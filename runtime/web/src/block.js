/** Parts of arrays whose last axes are H and W. */

/** @import { Tensor } from 'onnxruntime-common' */
/** @import { Span } from './tiles.js' */

/** Rows and columns of an array with any axes before them. */
export class Block {
  #row
  #plane
  #start

  /**
   * @param {Float32Array} data numbers of any type
   * @param {readonly number[]} dims
   * @param {number} [row] numbers from one to the next
   * @param {number} [plane]
   * @param {number} [start]
   */
  constructor(data, dims, row = dims[dims.length - 1], plane = row * dims[dims.length - 2], start = 0) {
    this.data = data
    this.dims = dims
    this.#row = row
    this.#plane = plane
    this.#start = start
  }

  /**
   * A whole tensor in the main memory.
   * @param {Tensor} tensor
   */
  static of({ data, dims }) {
    return new Block(/** @type {Float32Array} */ (data), dims)
  }

  /** @param {Span} span */
  rows({ start, stop }) {
    const dims = [...this.dims.slice(0, -2), stop - start, ...this.dims.slice(-1)]
    return new Block(this.data, dims, this.#row, this.#plane, this.#start + start * this.#row)
  }

  /** @param {Span} span */
  columns({ start, stop }) {
    const dims = [...this.dims.slice(0, -1), stop - start]
    return new Block(this.data, dims, this.#row, this.#plane, this.#start + start)
  }

  /** An array of this size and type, of zeros. */
  blank() {
    const Numbers = /** @type {Float32ArrayConstructor} */ (this.data.constructor)
    return new Block(new Numbers(product(this.dims)), this.dims)
  }

  /** An array of its own with the same numbers. */
  copy() {
    const other = this.blank()
    this.copyTo(other)
    return other
  }

  /**
   * Into the start of a block that is as large at least.
   * @param {Block} other
   */
  copyTo(other) {
    const [height, width] = this.dims.slice(-2)
    const planes = product(this.dims.slice(0, -2))
    for (let p = 0; p < planes; p++) {
      for (let y = 0; y < height; y++) {
        const from = this.#start + p * this.#plane + y * this.#row
        const to = other.#start + p * other.#plane + y * other.#row
        other.data.set(this.data.subarray(from, from + width), to)
      }
    }
  }
}

/** @param {readonly number[]} dims */
function product(dims) {
  return dims.reduce((all, n) => all * n, 1)
}
