/** Reading a token file, and believing nothing that its header says before it is checked. */
import { TokenFileError } from './errors.js'
import { Fields } from './fields.js'
import { fromHalf } from './half.js'
import { FormError, parseJson } from './json.js'
import { sha256 } from './source.js'
import { BYTES, FORMAT, KINDS, VERSIONS, checkShape, checkTimes, fromMetadata } from './token_info.js'

/** @import { Tokens } from './index.js' */
/** @import { Kind } from './token_info.js' */

const MAX_HEADER = 2 ** 20 // bytes; ours has 2,048

/**
 * The tokens of a token file, its checksum compared. Throws TokenFileError.
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @returns {Promise<Tokens>}
 */
export async function loadTokens(bytes) {
  const file = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (bytes.length < 8) throw new TokenFileError(`this is no token file: it has ${bytes.length} bytes`)
  const room = Number(file.getBigUint64(0, true))
  if (room > MAX_HEADER || room > bytes.length - 8) {
    throw new TokenFileError('the file is truncated or no token file; encode the clip again')
  }
  try {
    const header = new Fields(parseJson(bytes.subarray(8, 8 + room)), 'the header')
    const metadata = header.fields('__metadata__')
    checkFormat(metadata)
    const content = new Content(header, bytes.subarray(8 + room))
    const info = fromMetadata(metadata)
    if (content.hasVariance && metadata.text('format_version') === '2') {
      throw new FormError('files of version 2 have no log_variance')
    }
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
  if (!VERSIONS.includes(version)) {
    throw new TokenFileError(
      `the file has token format '${version}', this runtime reads ${VERSIONS.join(' and ')}; encode the clip again or ` +
        'update vidtok-onnx-web',
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
    const kinds = names.filter((name) => !['padding', 'pts', 'log_variance'].includes(name))
    this.hasVariance = names.includes('log_variance')
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
        `the file is truncated: ${bytes.length} bytes of numbers, its header promises ${reached}; encode the clip ` +
          'again',
      )
    }
    const [main, times] = [places.get(this.kind), places.get('pts')]
    if (!main || times?.dtype !== 'I64' || times.shape.length !== 1) throw new FormError('its timestamps are no I64')
    const variance = places.get('log_variance')
    if (variance && (kinds[0] !== 'latent' || variance.dtype !== main.dtype || `${variance.shape}` !== `${main.shape}`)) {
      throw new FormError('log_variance is not of the type and shape of the latents')
    }
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
  if (rest.length || start >= end || end - start !== size) {
    throw new FormError(`${name} is empty or does not have the size of its shape`)
  }
  if (name === 'padding' && shape.length !== 1) throw new FormError(`padding of shape [${shape}]`)
  return { dtype, shape, start, end }
}
