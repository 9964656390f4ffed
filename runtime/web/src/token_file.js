/**
 * Token files: one safetensors file, `latent` or `indices` first, time outermost, then `pts`.
 *
 * https://github.com/huggingface/safetensors has the format. Nothing that a header says is believed before it is checked.
 */
import { checkCodes } from './decoder.js'
import { InputError, TokenFileError } from './errors.js'
import { Fields, FormError, parseJson } from './fields.js'
import { fromHalf, toHalf } from './half.js'
import { sha256 } from './source.js'
import { FORMAT, FORMAT_VERSION, KINDS, checkShape, fromMetadata, toMetadata } from './token_info.js'

/** @import { Latents, TokenInfo, Tokens } from './index.js' */
/** @import { Kind } from './token_info.js' */

const HEADER = 2048 // bytes that we write, length field included; a multiple of 8
const MOST_HEADER = 2 ** 20 // bytes that we read
/** @type {Record<string, number>} */
const BYTES = { U8: 1, F16: 2, F32: 4, U16: 2, U32: 4, I32: 4, I64: 8 }
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

/**
 * Throw FormError unless there is a time for every frame, and they rise.
 * @param {BigInt64Array} pts
 * @param {TokenInfo} info
 */
function checkTimes(pts, info) {
  if (pts.length !== info.numFrames) {
    throw new FormError(`${info.numFrames} frames do not have as many timestamps, but ${pts.length}`)
  }
  if (pts.some((time, i) => i > 0 && time <= pts[i - 1])) throw new FormError('its timestamps do not rise')
}

/**
 * The tokens of a token file, its checksum compared. Throws TokenFileError.
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @returns {Promise<Tokens>}
 */
export async function loadTokens(bytes) {
  const file = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (bytes.length < 8) throw new TokenFileError(`this is no token file: it has ${bytes.length} bytes`)
  const room = Number(file.getBigUint64(0, true))
  if (room > MOST_HEADER || room > bytes.length - 8) {
    throw new TokenFileError('the file is truncated or no token file; encode the clip again')
  }
  try {
    const header = new Fields(parseJson(bytes.subarray(8, 8 + room)), 'the header')
    const metadata = header.fields('__metadata__')
    checkFormat(metadata)
    const content = new Content(header, bytes.subarray(8 + room))
    const info = fromMetadata(metadata)
    const checksum = metadata.text('checksum')
    if (!/^sha256:[0-9a-f]{64}$/.test(checksum)) throw new FormError('its checksum is no SHA-256')
    checkShape(info, content.kind, content.dtype, content.shape)
    if (content.frames !== info.numFrames) {
      throw new FormError(`${info.numFrames} frames do not have as many timestamps`)
    }
    if (checksum !== `sha256:${await sha256(content.bytes)}`) {
      throw new TokenFileError('the file is damaged: its checksum does not match; encode the clip again')
    }
    const [data, pts] = [content.numbers(), content.pts()]
    checkTimes(pts, info)
    const [h, w] = content.shape.slice(-2)
    const [length, channels] = [content.shape[0], content.kind === 'latent' ? content.shape[1] : 1]
    return { data, length, channels, h, w, info, pts }
  } catch (error) {
    if (!(error instanceof FormError)) throw error
    throw new TokenFileError(`this is not a sound token file: ${error.message}; encode the clip again`)
  }
}

/** @param {Fields} metadata */
function checkFormat(metadata) {
  if (!metadata.has('format') || metadata.text('format') !== FORMAT) {
    throw new TokenFileError('this is a safetensors file, but not of tokens; make one with vidtok-run encode')
  }
  const version = metadata.text('format_version')
  if (version !== FORMAT_VERSION) {
    throw new TokenFileError(
      `the file has token format '${version}', this runtime reads ${FORMAT_VERSION}; encode the clip again or update ` +
        'vidtok-onnx-web',
    )
  }
}

/** The arrays of a file; throws FormError unless they fill it without gap or overlap. */
class Content {
  /**
   * @param {Fields} header
   * @param {Uint8Array<ArrayBuffer>} bytes
   */
  constructor(header, bytes) {
    this.bytes = bytes
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const names = header.names().filter((name) => name !== '__metadata__')
    const kinds = names.filter((name) => name !== 'padding' && name !== 'pts')
    if (kinds.length !== 1 || !Object.hasOwn(KINDS, kinds[0]) || !names.includes('pts')) {
      throw new FormError('it does not hold timestamps and either latents or indices')
    }
    this.kind = /** @type {Kind} */ (kinds[0])
    const places = new Map(names.map((name) => [name, place(header.fields(name), name)]))
    let reached = 0
    for (const { start, end } of [...places.values()].sort((a, b) => a.start - b.start || a.end - b.end)) {
      if (start !== reached) throw new FormError('its arrays overlap or leave gaps')
      reached = end
    }
    if (reached !== bytes.length) {
      throw new TokenFileError(
        `the file is truncated: ${bytes.length} bytes of numbers, its header promises ${reached}; encode the clip again`,
      )
    }
    const [main, times] = [places.get(this.kind), places.get('pts')]
    if (!main || times?.dtype !== 'I64' || times.shape.length !== 1) throw new FormError('its timestamps are no I64')
    this.dtype = main.dtype
    this.shape = main.shape
    this.frames = times.shape[0]
    this.starts = { data: main.start, pts: times.start }
  }

  /** Latents as float32 or indices as int32. */
  numbers() {
    const size = this.shape.reduce((product, n) => product * n, 1)
    const [start, view] = [this.starts.data, this.view]
    if (this.kind === 'latent') {
      const half = this.dtype === 'F16'
      return Float32Array.from({ length: size }, (_, i) =>
        half ? fromHalf(view.getUint16(start + 2 * i, true)) : view.getFloat32(start + 4 * i, true),
      )
    }
    const short = this.dtype === 'U16'
    return Int32Array.from({ length: size }, (_, i) =>
      short ? view.getUint16(start + 2 * i, true) : view.getInt32(start + 4 * i, true),
    )
  }

  pts() {
    return BigInt64Array.from({ length: this.frames }, (_, i) => this.view.getBigInt64(this.starts.pts + 8 * i, true))
  }
}

/**
 * Type, shape and place of an array.
 * @param {Fields} entry
 * @param {string} name
 */
function place(entry, name) {
  const dtype = entry.oneOf('dtype', name === 'padding' ? ['U8'] : Object.keys(BYTES).filter((code) => code !== 'U8'))
  const shape = entry.integers('shape', 4)
  const [start, end, ...rest] = entry.integers('data_offsets', 2)
  const size = shape.reduce((product, n) => product * n, BYTES[dtype])
  if (rest.length || end - start !== size) throw new FormError(`${name} does not have the size of its shape`)
  return { dtype, shape, start, end }
}
