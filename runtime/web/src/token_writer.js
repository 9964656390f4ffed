/**
 * Writing a token file: one safetensors file, `latent` or `indices` first, time outermost, then `pts`.
 *
 * https://github.com/huggingface/safetensors has the format.
 */
import { checkCodes } from './decoder.js'
import { InputError } from './errors.js'
import { Fields } from './fields.js'
import { toHalf } from './half.js'
import { FormError } from './json.js'
import { sha256 } from './source.js'
import { BYTES, checkShape, checkTimes, fromMetadata, toMetadata } from './token_info.js'

/** @import { Latents, TokenInfo } from './index.js' */

const HEADER = 2048 // bytes, length field included; a multiple of 8
const LARGEST_HALF = 65504

/**
 * The bytes of a token file: indices as U16 up to 65,536 codes, else I32; latents as F32, or F16 on request.
 * Throws InputError.
 * @param {Latents & { info: TokenInfo, pts?: BigInt64Array }} tokens
 * @param {{ half?: boolean }} [options]
 */
export async function saveTokens(tokens, { half = false } = {}) {
  const { info, data, length, channels, h, w } = tokens
  const kind = info.codebookSize === null ? 'latent' : 'indices'
  const dtype = kind === 'latent' ? (half ? 'F16' : 'F32') : (info.codebookSize ?? 0) <= 65536 ? 'U16' : 'I32'
  const shape = kind === 'latent' ? [length, channels, h, w] : [length, h, w]
  const pts = tokens.pts ?? BigInt64Array.from({ length: info.numFrames }, (_, i) => BigInt(i))
  const metadata = toMetadata(info)
  try {
    fromMetadata(new Fields(metadata, 'its metadata')) // what is written can be read
    checkShape(info, kind, dtype, shape)
    checkTimes(pts, info)
  } catch (error) {
    if (!(error instanceof FormError)) throw error
    throw new InputError(`these tokens do not fit their description: ${error.message}`)
  }
  checkNumbers(data, info, dtype, shape)
  const size = data.length * BYTES[dtype]
  const padding = -size & 7 // keeps pts aligned
  const end = size + padding
  const file = new Uint8Array(HEADER + end + 8 * pts.length)
  const view = new DataView(file.buffer, HEADER)
  data.forEach((value, i) => {
    if (dtype === 'F32') view.setFloat32(4 * i, value, true)
    else if (dtype === 'F16') view.setUint16(2 * i, toHalf(value), true)
    else if (dtype === 'U16') view.setUint16(2 * i, value, true)
    else view.setInt32(4 * i, value, true)
  })
  pts.forEach((time, i) => view.setBigInt64(end + 8 * i, time, true))
  const header = {
    __metadata__: { ...metadata, checksum: `sha256:${await sha256(file.subarray(HEADER))}` },
    [kind]: { dtype, shape, data_offsets: [0, size] },
    ...(padding && { padding: { dtype: 'U8', shape: [padding], data_offsets: [size, end] } }),
    pts: { dtype: 'I64', shape: [pts.length], data_offsets: [end, end + 8 * pts.length] },
  }
  const ascii = JSON.stringify(header).replace(/[^ -~]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)
  if (ascii.length > HEADER - 8) {
    throw new InputError(`the header needs ${ascii.length} bytes, ${HEADER - 8} are reserved`)
  }
  new DataView(file.buffer).setBigUint64(0, BigInt(HEADER - 8), true)
  new TextEncoder().encodeInto(ascii.padEnd(HEADER - 8), file.subarray(8))
  return file
}

/**
 * @param {Latents['data']} data
 * @param {TokenInfo} info
 * @param {string} dtype
 * @param {number[]} shape
 */
function checkNumbers(data, info, dtype, shape) {
  const Numbers = info.codebookSize === null ? Float32Array : Int32Array
  const size = shape.reduce((product, n) => product * n, 1)
  if (!(data instanceof Numbers) || data.length !== size) {
    throw new InputError(`tokens of shape [${shape}] are a ${Numbers.name} of ${size} numbers`)
  }
  if (data instanceof Int32Array) checkCodes(data, info.codebookSize ?? 0)
  else if (dtype === 'F16' && data.some((value) => Math.abs(value) > LARGEST_HALF)) {
    throw new InputError('a latent is too large for float16; store float32 latents')
  }
}
