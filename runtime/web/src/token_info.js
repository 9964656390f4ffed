/** What a token file says about itself, and what must agree in it. */
import { MismatchError } from './errors.js'
import { FormError } from './json.js'
import { parseFraction } from './fraction.js'
import { Timing } from './timing.js'

/** @import { TokenInfo } from './index.js' */
/** @import { Fields } from './fields.js' */
/** @import { Manifest } from './manifest.js' */

export const FORMAT = 'vidtok-tokens'
export const FORMAT_VERSION = '2'
/** Types in a file of each kind of array. */
export const KINDS = { latent: ['F16', 'F32'], indices: ['U16', 'U32', 'I32'] }
/**
 * Bytes of a number.
 * @type {Record<string, number>}
 */
export const BYTES = { U8: 1, F16: 2, F32: 4, U16: 2, U32: 4, I32: 4, I64: 8 }
const MOST = 2 ** 31
const MAX_FRAMES = 2 ** 40
const MAX_PIXELS = 2 ** 16
const MAX_ROW = 2 ** 28
const DISPLAY = new RegExp(
  '^aspect=([0-9]{1,9})(?:/([0-9]{1,9}))? matrix=([0-9]{1,3}) primaries=([0-9]{1,3}) transfer=([0-9]{1,3}) ' +
    'range=(full|limited)$',
)

/** @typedef {'latent' | 'indices'} Kind */

/**
 * Name in the file of each property, in the file's order.
 * @type {[keyof TokenInfo, string][]}
 */
const NAMES = [
  ['variant', 'variant'],
  ['weightsSha256', 'weights_sha256'],
  ['numFrames', 'num_frames'],
  ['height', 'height'],
  ['width', 'width'],
  ['timeFactor', 'time_factor'],
  ['frontFrames', 'front_frames'],
  ['lookAhead', 'look_ahead'],
  ['codebookSize', 'codebook_size'],
  ['fps', 'fps'],
  ['timeBase', 'time_base'],
  ['precision', 'precision'],
  ['provider', 'provider'],
  ['window', 'window'],
  ['gop', 'gop'],
  ['skip', 'skip'],
  ['display', 'display'],
]

/**
 * Texts for the safetensors header.
 * @param {TokenInfo} info
 * @returns {Record<string, string>}
 */
export function toMetadata(info) {
  const known = NAMES.filter(([property]) => info[property] !== null)
  const texts = known.map(([property, name]) => [name, String(info[property])])
  return { format: FORMAT, format_version: FORMAT_VERSION, ...Object.fromEntries(texts) }
}

/**
 * Inverse of `toMetadata`; throws FormError for what is missing, of another form, or out of bounds.
 * @param {Fields} values
 * @returns {TokenInfo}
 */
export function fromMetadata(values) {
  /**
   * @param {string} name
   * @param {number} [least]
   * @param {number} [most]
   */
  const integer = (name, least = 0, most = MOST) => {
    const text = values.text(name)
    const value = /^[0-9]{1,13}$/.test(text) ? Number(text) : NaN
    if (!(value >= least && value <= most)) throw new FormError(`${name} is '${text}'`)
    return value
  }
  /** @param {string} name */
  const integerOrNull = (name) => (values.has(name) ? integer(name, 1) : null)
  /** @param {string} name */
  const fraction = (name) => {
    if (!values.has(name)) return null
    const found = parseFraction(values.text(name))
    if (found === null) throw new FormError(`${name} is '${values.text(name)}'`)
    return found
  }
  const info = {
    variant: values.text('variant'),
    weightsSha256: values.sha256('weights_sha256'),
    numFrames: integer('num_frames', 1, MAX_FRAMES),
    height: integer('height', 1, MAX_PIXELS),
    width: integer('width', 1, MAX_PIXELS),
    timeFactor: integer('time_factor', 1),
    frontFrames: integer('front_frames'),
    lookAhead: integer('look_ahead'),
    codebookSize: integerOrNull('codebook_size'),
    fps: fraction('fps'),
    timeBase: fraction('time_base'),
    precision: values.text('precision'),
    provider: values.text('provider'),
    window: integerOrNull('window'),
    gop: integerOrNull('gop'),
    skip: integer('skip', 0, MAX_FRAMES),
    display: values.has('display') ? checkDisplay(values.text('display')) : null,
  }
  if (info.frontFrames >= info.timeFactor) throw new FormError('more frames in front than a latent holds')
  if (info.window !== null && (info.gop !== null || info.window % info.timeFactor)) {
    throw new FormError('a window that is no multiple of the frames a latent, or one with a gop')
  }
  return info
}

/** @param {string} text */
function checkDisplay(text) {
  const match = DISPLAY.exec(text)
  if (!match || !(Number(match[1]) > 0) || Number(match[2] ?? 1) === 0 || match.slice(3, 6).some((n) => Number(n) > 255)) {
    throw new FormError(`'${text}' describes no picture`)
  }
  return text
}

/**
 * How the frames fall into latents and groups.
 * @param {TokenInfo} info
 */
export function timingOf({ timeFactor, frontFrames, lookAhead, window, gop }) {
  return new Timing(timeFactor, frontFrames, lookAhead, window === null ? gop : window / timeFactor, window !== null)
}

/**
 * Throw FormError unless an array of the kind can hold the tokens of this clip; time first.
 * @param {TokenInfo} info
 * @param {Kind} kind
 * @param {string} dtype
 * @param {number[]} shape
 */
export function checkShape(info, kind, dtype, shape) {
  if (!KINDS[kind].includes(dtype) || (kind === 'indices') !== (info.codebookSize !== null)) {
    throw new FormError(`${kind} of type ${dtype} do not go with ${info.codebookSize} codes`)
  }
  const row = shape.slice(1).reduce((product, n) => product * n, 1)
  if (shape.length !== (kind === 'latent' ? 4 : 3) || shape.some((n) => n < 1) || row > MAX_ROW) {
    throw new FormError(`${kind} of shape [${shape}]`)
  }
  const [h, w] = shape.slice(-2)
  if (h > info.height || w > info.width) {
    throw new FormError(`more latents than pixels: [${shape}] for ${info.height}x${info.width}`)
  }
  const [timing, frames] = [timingOf(info), info.skip + info.numFrames]
  const needed = timing.latents(frames)
  if (shape[0] < needed || shape[0] > Math.max(needed, timing.latentsToDecode(frames))) {
    throw new FormError(`it promises ${frames} frames, which need ${needed} latents, not ${shape[0]}`)
  }
}

/**
 * Throw FormError unless there is a time for every frame, and they rise.
 * @param {BigInt64Array} pts
 * @param {TokenInfo} info
 */
export function checkTimes(pts, info) {
  if (pts.length !== info.numFrames) {
    throw new FormError(`${info.numFrames} frames do not have as many timestamps, but ${pts.length}`)
  }
  if (pts.some((time, i) => i > 0 && time <= pts[i - 1])) throw new FormError('its timestamps do not rise')
}

/**
 * Throw MismatchError unless the bundle has the variant and the weights that made the tokens.
 * @param {TokenInfo} info
 * @param {Manifest} manifest
 */
export function checkBundle(info, manifest) {
  if (info.variant !== manifest.variant || info.weightsSha256 !== manifest.weightsSha256) {
    throw new MismatchError(
      `these tokens were made by ${info.variant} with weights ${info.weightsSha256.slice(0, 12)}, the bundle ` +
        `${manifest.place} is ${manifest.variant} with weights ${manifest.weightsSha256.slice(0, 12)}; load the one ` +
        'that made them',
    )
  }
  const counts = /** @type {const} */ (['timeFactor', 'frontFrames', 'lookAhead', 'codebookSize'])
  if (counts.some((name) => info[name] !== manifest[name]) || (info.window === null) !== (manifest.window === null)) {
    throw new MismatchError(`these tokens do not count frames or codes as the bundle ${manifest.place} does`)
  }
}
