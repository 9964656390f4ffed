/** Values that engines take and give. */

/** @import { Tensor } from 'onnxruntime-common' */
/** @import { Dtype } from './graph_entry.js' */
/** @import { Ort } from './provider.js' */

/** @type {Record<Dtype, { new (length: number): any }>} */
const ARRAYS = {
  float32: Float32Array,
  // What engines take for half precision: the numbers' own array where the platform has one, else their bits.
  float16: /** @type {any} */ (globalThis).Float16Array ?? Uint16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  uint8: Uint8Array,
  int8: Int8Array,
  bool: Uint8Array,
}

/**
 * Whether a value is kept by an engine outside of the main memory.
 * @param {Tensor} value
 */
export function isOnDevice(value) {
  return value.location === 'gpu-buffer'
}

/**
 * Ones or zeros.
 * @param {Ort} ort
 * @param {Dtype} dtype
 * @param {number[]} dims
 * @param {boolean} value
 */
export function filled(ort, dtype, dims, value) {
  const data = new ARRAYS[dtype](dims.reduce((product, n) => product * n, 1))
  if (value) data.fill(dtype === 'int64' ? 1n : data.constructor === Uint16Array ? 0x3c00 : 1)
  return new ort.Tensor(/** @type {'float32'} */ (dtype), data, dims)
}

/**
 * Whether no number is NaN or infinite.
 * @param {Float32Array} data
 */
export function isFinite(data) {
  let sum = 0
  for (let i = 0; i < data.length; i++) sum += data[i] * 0 // NaN as soon as one is not finite
  return sum === 0
}
