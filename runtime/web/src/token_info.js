/** What a token file says about itself, and what must agree in it. */
import { MismatchError } from './errors.js'
import { FormError } from './json.js'
import { parseFraction } from './fraction.js'
import { MAX_LENGTH } from './stream_spec.js'
import { latentsOf, latentsOfClip, latentsToDecode } from './timing.js'

/** @import { Groups, Length, TokenInfo } from './index.js' */
/** @import { Fields } from './fields.js' */
/** @import { Manifest } from './manifest.js' */

export const FORMAT = 'vidtok-tokens'
export const FORMAT_VERSION = '3'
/** Versions that are read. */
export const VERSIONS = ['2', FORMAT_VERSION]
/** Types in a file of each kind of array. */
export const KINDS = { latent: ['F16', 'F32'], indices: ['U16', 'U32', 'I32'] }
/**
 * Bytes of a number.
 * @type {Record<string, number>}
 */
export const BYTES = { U8: 1, F16: 2, F32: 4, U16: 2, U32: 4, I32: 4, I64: 8 }
const MOST = 2 ** 31
const [MAX_FRAMES, MAX_DURATION] = [2 ** 40, 2 ** 40]
const MAX_PIXELS = 2 ** 16
const MAX_ROW = 2 ** 28
const MAX_SEED = 2 ** 32 - 1
const LENGTH = /^first=([0-9]+) multiple=([0-9]+)$/
const GROUPS = /^frames=([0-9]+) latents=([0-9]+) shared_frames=([0-9]+) shared_latents=([0-9]+) whole=([01])$/
const DISPLAY = new RegExp(
  '^aspect=([0-9]{1,9})(?:/([0-9]{1,9}))? matrix=([0-9]{1,3}) primaries=([0-9]{1,3}) transfer=([0-9]{1,3}) ' +
    'range=(full|limited)$',
)

/** @typedef {'latent' | 'indices'} Kind */

/**
 * Texts for the safetensors header.
 * @param {TokenInfo} info
 * @returns {Record<string, string>}
 */
export function toMetadata(info) {
  const { groups } = info
  /** @type {Record<string, string | number | null>} */
  const values = {
    format: FORMAT,
    format_version: FORMAT_VERSION,
    family: info.family,
    name: info.name,
    weights_sha256: info.weightsSha256,
    num_frames: info.numFrames,
    height: info.height,
    width: info.width,
    time_factor: info.timeFactor,
    front_frames: info.frontFrames,
    look_ahead: info.lookAhead,
    length: lengthText(info.length),
    codebook_size: info.codebookSize,
    groups:
      groups &&
      `frames=${groups.frames} latents=${groups.latents} shared_frames=${groups.sharedFrames} ` +
        `shared_latents=${groups.sharedLatents} whole=${Number(groups.whole)}`,
    exact: info.exact && lengthText(info.exact),
    surplus: info.surplus ? 1 : null,
    fps: info.fps,
    time_base: info.timeBase,
    precision: info.precision,
    provider: info.provider,
    skip: info.skip,
    sampled: info.sampled,
    normalized: info.normalized ? 1 : null,
    display: info.display,
    last_duration: info.lastDuration,
    resampling: info.resampling,
  }
  const known = Object.entries(values).filter(([, value]) => value !== null && value !== undefined)
  return Object.fromEntries(known.map(([name, value]) => [name, String(value)]))
}

/**
 * Inverse of `toMetadata`; throws FormError for what is missing, of another form, or out of bounds.
 * @param {Fields} values
 * @returns {TokenInfo}
 */
export function fromMetadata(values) {
  const isOld = values.text('format_version') !== FORMAT_VERSION
  /**
   * @param {string} name
   * @param {number} [least]
   * @param {number} [most]
   */
  const integer = (name, least = 0, most = MOST) => whole(name, values.text(name), least, most)
  /**
   * @param {string} name
   * @param {number} [least]
   * @param {number} [most]
   */
  const integerOrNull = (name, least = 1, most = MOST) => (values.has(name) ? integer(name, least, most) : null)
  /** @param {string} name */
  const fraction = (name) => {
    if (!values.has(name)) return null
    const found = parseFraction(values.text(name))
    if (found === null) throw new FormError(`${name} is '${values.text(name)}'`)
    return found
  }
  const timeFactor = integer('time_factor', 1)
  const frontFrames = integer('front_frames', 0, timeFactor - 1)
  const info = {
    family: isOld ? 'vidtok' : values.text('family'),
    name: values.text(isOld ? 'variant' : 'name'),
    weightsSha256: values.sha256('weights_sha256'),
    numFrames: integer('num_frames', 1, MAX_FRAMES),
    height: integer('height', 1, MAX_PIXELS),
    width: integer('width', 1, MAX_PIXELS),
    timeFactor,
    frontFrames,
    lookAhead: integer('look_ahead', 0, timeFactor - 1),
    length: isOld ? { first: 0, multiple: timeFactor } : lengthOf('length', values.text('length')),
    codebookSize: integerOrNull('codebook_size'),
    fps: fraction('fps'),
    timeBase: fraction('time_base'),
    precision: values.text('precision'),
    provider: values.text('provider'),
    groups: isOld
      ? oldGroups(integerOrNull('window'), integerOrNull('gop'), timeFactor, frontFrames)
      : values.has('groups')
        ? groupsOf(values.text('groups'))
        : null,
    exact: !isOld && values.has('exact') ? lengthOf('exact', values.text('exact')) : null,
    surplus: !isOld && integerOrNull('surplus', 1, 1) !== null,
    skip: integer('skip', 0, MAX_FRAMES),
    sampled: isOld ? null : integerOrNull('sampled', 0, MAX_SEED),
    normalized: !isOld && integerOrNull('normalized', 1, 1) !== null,
    display: values.has('display') ? checkDisplay(values.text('display')) : null,
    lastDuration: integerOrNull('last_duration', 1, MAX_DURATION),
    resampling: values.has('resampling') ? values.text('resampling') : null,
  }
  if (info.codebookSize !== null && (info.sampled !== null || info.normalized)) {
    throw new FormError('tokens of a codebook are neither drawn from a posterior nor scaled')
  }
  checkGroups(info)
  return info
}

/**
 * The whole number that a text is, in a range; throws FormError.
 * @param {string} name
 * @param {string} text
 * @param {number} least
 * @param {number} most
 */
function whole(name, text, least, most) {
  const value = /^[0-9]{1,13}$/.test(text) ? Number(text) : NaN
  if (!(value >= least && value <= most)) throw new FormError(`${name} is '${text}'`)
  return value
}

/** @param {Length} length */
function lengthText({ first, multiple }) {
  return `first=${first} multiple=${multiple}`
}

/**
 * @param {string} name
 * @param {string} text
 */
function lengthOf(name, text) {
  const match = LENGTH.exec(text)
  if (!match) throw new FormError(`${name} is '${text}'`)
  return { first: whole('first', match[1], 0, MAX_LENGTH), multiple: whole('multiple', match[2], 1, MAX_LENGTH) }
}

/**
 * @param {string} text
 * @returns {Groups}
 */
function groupsOf(text) {
  const match = GROUPS.exec(text)
  if (!match) throw new FormError(`groups are '${text}'`)
  return {
    frames: whole('frames', match[1], 1, MAX_LENGTH),
    latents: whole('latents', match[2], 1, MAX_LENGTH),
    sharedFrames: whole('shared_frames', match[3], 0, MAX_LENGTH - 1),
    sharedLatents: whole('shared_latents', match[4], 0, MAX_LENGTH - 1),
    whole: match[5] === '1',
  }
}

/**
 * Groups as version 2 names them: a window in frames, or a gop in latents.
 * @param {number | null} window
 * @param {number | null} gop
 * @param {number} f frames a latent
 * @param {number} frontFrames
 * @returns {Groups | null}
 */
function oldGroups(window, gop, f, frontFrames) {
  if (window !== null && (gop !== null || window % f)) {
    throw new FormError('a window that is no multiple of the frames a latent, or one with a gop')
  }
  const shared = { sharedFrames: 0, sharedLatents: 0 }
  if (window !== null) return { frames: window, latents: window / f, ...shared, whole: true }
  return gop === null ? null : { frames: gop * f - frontFrames, latents: gop, ...shared, whole: false }
}

/** @param {TokenInfo} info */
function checkGroups(info) {
  if (info.groups === null) return
  const { frames, latents, sharedFrames, sharedLatents } = info.groups
  if (latents !== latentsOf(info, frames) || sharedFrames >= frames || sharedLatents >= latents) {
    throw new FormError(`groups of ${frames} frames and ${latents} latents do not fit each other or what they share`)
  }
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
  const isSquare = h === w && h <= Math.max(info.height, info.width) // of a model that pads pictures to squares
  if (!isSquare && (h > info.height || w > info.width)) {
    throw new FormError(`more latents than pixels: [${shape}] for ${info.height}x${info.width}`)
  }
  const frames = info.skip + info.numFrames
  const needed = latentsOfClip(info, frames)
  if (shape[0] < needed || shape[0] > Math.max(needed, latentsToDecode(info, frames))) {
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
 * Throw MismatchError unless the bundle has the model and the weights that made the tokens, and can decode them.
 * @param {TokenInfo} info
 * @param {Manifest} manifest
 */
export function checkBundle(info, manifest) {
  const [ours, theirs] = [info, manifest].map(
    ({ family, name, weightsSha256 }) => `${family} ${name} with weights ${weightsSha256.slice(0, 12)}`,
  )
  const same = /** @type {const} */ (['family', 'name', 'weightsSha256'])
  if (same.some((name) => info[name] !== manifest[name])) {
    throw new MismatchError(
      `these tokens were made by ${ours}, the bundle ${manifest.place} is ${theirs}; load the one that made them`,
    )
  }
  const { stream } = manifest
  const counts = /** @type {const} */ (['timeFactor', 'frontFrames', 'lookAhead', 'codebookSize'])
  const lengths = /** @type {const} */ (['first', 'multiple'])
  if (
    counts.some((name) => info[name] !== stream[name]) ||
    lengths.some((name) => info.length[name] !== stream.length[name]) ||
    !hasGroups(stream, info.groups)
  ) {
    throw new MismatchError(`these tokens do not count frames or codes as the bundle ${manifest.place} does`)
  }
  if (info.normalized && stream.latentMean === null) {
    throw new MismatchError(
      `these latents were scaled with the release's mean and scale, which the bundle ${manifest.place} does not have; ` +
        'export it again',
    )
  }
}

/**
 * Whether a clip can be in these groups: the bundle's own, perhaps of another length, or any where it has none.
 * @param {Manifest['stream']} stream
 * @param {Groups | null} found
 */
function hasGroups({ groups }, found) {
  if (groups === null) return !(found?.whole || found?.sharedFrames || found?.sharedLatents)
  if (found === null) return false
  const rest = /** @type {const} */ (['sharedFrames', 'sharedLatents', 'whole'])
  const isLength = found.frames === groups.frames || (groups.multiple !== null && found.frames % groups.multiple === 0)
  return isLength && rest.every((name) => found[name] === groups[name])
}
