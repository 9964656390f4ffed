/** What a model says about its streams, as data: the `stream` of a manifest, from which every call follows. */
import { InputError } from './errors.js'
import { FormError } from './json.js'
import { framesOf, latentsOf } from './timing.js'

/** @import { CallSpec, GroupSpec, StreamSpec } from './index.js' */
/** @import { Fields } from './fields.js' */
/** @import { Role } from './graph_entry.js' */

export const FIRST_CALL = 'first call'
export const SECOND_CALL = 'second call'
export const FLUSH_CALL = 'flush call'
const CALLS = [FIRST_CALL, SECOND_CALL, FLUSH_CALL]
export const SURPLUS = 'surplus'
export const [MAX_TIME_FACTOR, MAX_SPATIAL_MULTIPLE, MAX_LENGTH] = [64, 256, 2 ** 16]
const MAX_PADDING_MULTIPLE = 4096
const [MAX_CHANNELS, MAX_FLUSH, MAX_CODES] = [1024, 64, 2 ** 31 - 1]

/**
 * The same with groups of another length in frames; throws InputError.
 * @param {StreamSpec} spec
 * @param {number} frames
 * @returns {StreamSpec}
 */
export function inWindows(spec, frames) {
  const { groups } = spec
  if (groups && frames === groups.frames) return spec
  if (!groups?.multiple) throw new InputError('this model has no windows of another length; leave window out')
  if (!(Number.isSafeInteger(frames) && frames >= 1 && frames <= MAX_LENGTH && frames % groups.multiple === 0)) {
    throw new InputError(`a window is a multiple of ${groups.multiple} frames up to ${MAX_LENGTH}, got ${frames}`)
  }
  return { ...spec, groups: { ...groups, frames, latents: latentsOf(spec, frames) } }
}

/**
 * The same with groups of so many latents, for a model that has none of its own; throws InputError.
 * @param {StreamSpec} spec
 * @param {number} latents
 * @returns {StreamSpec}
 */
export function inGops(spec, latents) {
  if (spec.groups) throw new InputError('this model encodes windows that stand on their own already; leave gop out')
  if (!(Number.isSafeInteger(latents) && latents >= 1)) {
    throw new InputError(`a gop is a whole number of latents from 1, got ${latents}`)
  }
  const frames = framesOf(spec, latents)
  if (frames < 1 || frames > MAX_LENGTH || latentsOf(spec, frames) !== latents) {
    throw new InputError(`no frames of this model are exactly a gop of ${latents} latents; ask for another number`)
  }
  const groups = { frames, latents, sharedFrames: 0, sharedLatents: 0, whole: false, multiple: null }
  return { ...spec, groups }
}

/**
 * The same in the shortest calls that change no result, which take the least memory.
 * @param {StreamSpec} spec
 * @returns {StreamSpec}
 */
export function inShortCalls(spec) {
  const short = (/** @type {CallSpec} */ calls) =>
    calls.exact || calls.max === null ? calls : { ...calls, max: calls.multiple }
  return { ...spec, encoder: short(spec.encoder), decoder: short(spec.decoder) }
}

/**
 * Frames (encoder) or latents (decoder) that a call takes at most, which is a good size of a push, too.
 * @param {StreamSpec} spec
 * @param {Role} role
 */
export function callSize(spec, role) {
  return spec[role].max ?? spec.groups?.[role === 'encoder' ? 'frames' : 'latents'] ?? Infinity
}

/**
 * What calls of exact sizes come to; null where sizes change nothing.
 * @param {CallSpec} calls
 */
export function exactSizes({ first, max, exact }) {
  return exact && max !== null ? { first: first ?? 0, multiple: max } : null
}

/**
 * Sizes of the calls of a stream of so many frames or latents, without the flush call.
 * @param {CallSpec} calls
 * @param {number} length
 */
export function sizesOfCalls({ first, multiple, max, exact }, length) {
  const sizes = first !== null && first <= length ? [first] : []
  let left = length - (sizes[0] ?? 0)
  const most = max ?? length
  while (left >= multiple && !(exact && left < most)) {
    const size = Math.min(most, left - (left % multiple))
    sizes.push(size)
    left -= size
  }
  return left ? [...sizes, left] : sizes
}

/**
 * The `stream` of a manifest; throws FormError for what docs/format.md refuses.
 * @param {Fields} raw
 * @returns {StreamSpec}
 */
export function streamSpec(raw) {
  const f = raw.integer('time_factor', 1, MAX_TIME_FACTOR)
  const length = raw.fields('length')
  const decoder = callSpec(raw.fields('decoder'))
  const spec = {
    timeFactor: f,
    spatialMultiple: raw.integer('spatial_multiple', 1, MAX_SPATIAL_MULTIPLE),
    square: raw.boolean('square'),
    paddingMultiple: raw.has('padding_multiple') ? raw.integerOrNull('padding_multiple', 1, MAX_PADDING_MULTIPLE) : null,
    latentChannels: raw.integer('latent_channels', 1, MAX_CHANNELS),
    codebookSize: raw.integerOrNull('codebook_size', 1, MAX_CODES),
    levels: raw.integers('levels', MAX_CHANNELS),
    pixelRange: pixelRange(raw),
    latentMean: raw.numbersOrNull('latent_mean', MAX_CHANNELS),
    latentStd: raw.numbersOrNull('latent_std', MAX_CHANNELS),
    frontFrames: raw.integer('front_frames', 0, f - 1),
    lookAhead: decoder.flush?.keep ?? 0,
    length: { first: length.integer('first', 0, MAX_LENGTH), multiple: length.integer('multiple', 1, MAX_LENGTH) },
    groups: groupSpec(raw.fieldsOrNull('groups')),
    encoder: callSpec(raw.fields('encoder')),
    decoder,
  }
  checkValues(spec)
  checkCalls(spec)
  checkGroups(spec)
  return spec
}

/**
 * @param {Fields} raw
 * @returns {[number, number]}
 */
function pixelRange(raw) {
  const [low, high, ...rest] = raw.numbers('pixel_range', 2)
  if (rest.length || !(low < high)) throw new FormError(`pixel_range is [${low}, ${high}], not two rising numbers`)
  return [low, high]
}

/**
 * @param {Fields} raw
 * @returns {CallSpec}
 */
function callSpec(raw) {
  const flush = raw.fieldsOrNull('flush')
  const flags = raw.textsByName('flags')
  for (const [name, calls] of flags) {
    const unknown = calls.filter((call) => !CALLS.includes(call))
    if (unknown.length) throw new FormError(`the flag ${name} is set in calls unknown to this runtime: ${unknown}`)
  }
  return {
    first: raw.integerOrNull('first', 1, MAX_LENGTH),
    multiple: raw.integer('multiple', 1, MAX_LENGTH),
    max: raw.integerOrNull('max', 1, MAX_LENGTH),
    exact: raw.boolean('exact'),
    drop: raw.raw.drop === SURPLUS ? SURPLUS : raw.integer('drop', 0, MAX_LENGTH),
    flush: flush && { size: flush.integer('size', 1, MAX_FLUSH), keep: flush.integer('keep', 0, MAX_LENGTH) },
    flags,
  }
}

/**
 * @param {Fields | null} raw
 * @returns {GroupSpec | null}
 */
function groupSpec(raw) {
  if (raw === null) return null
  return {
    frames: raw.integer('frames', 1, MAX_LENGTH),
    latents: raw.integer('latents', 1, MAX_LENGTH),
    sharedFrames: raw.integer('shared_frames', 0, MAX_LENGTH - 1),
    sharedLatents: raw.integer('shared_latents', 0, MAX_LENGTH - 1),
    whole: raw.boolean('whole'),
    multiple: raw.integerOrNull('multiple', 1, MAX_LENGTH),
  }
}

/** @param {StreamSpec} spec */
function checkValues({
  spatialMultiple,
  paddingMultiple,
  latentChannels,
  codebookSize,
  levels,
  latentMean,
  latentStd,
}) {
  if (paddingMultiple !== null && paddingMultiple % spatialMultiple) {
    throw new FormError(`padding_multiple is ${paddingMultiple}, no multiple of ${spatialMultiple}`)
  }
  const codes = levels.reduce((product, n) => product * n, 1)
  if (levels.length && (levels.length !== latentChannels || Math.min(...levels) < 2 || codes !== codebookSize)) {
    throw new FormError(`levels [${levels}] do not make ${codebookSize} codes of ${latentChannels} channels`)
  }
  const scales = [latentMean, latentStd].filter((scale) => scale !== null)
  if (scales.length === 1 || scales.some(({ length }) => length !== latentChannels) || latentStd?.some((x) => x <= 0)) {
    throw new FormError(`latent_mean and latent_std are not ${latentChannels} numbers each, or null`)
  }
}

/** @param {StreamSpec} spec */
function checkCalls(spec) {
  if (spec.encoder.drop !== 0 || spec.encoder.flush !== null) {
    throw new FormError('the encoder drops or flushes, which only decoders do')
  }
  if (spec.lookAhead >= spec.timeFactor) {
    throw new FormError(`the flush call keeps ${spec.lookAhead} frames, a latent stands for ${spec.timeFactor}`)
  }
  for (const role of /** @type {const} */ (['encoder', 'decoder'])) {
    const { max, multiple, exact } = spec[role]
    if (max === null && (spec.groups === null || exact)) {
      throw new FormError(`max of the ${role} is null, but there is no group that its calls could take whole`)
    }
    if (max !== null && max % multiple) throw new FormError(`max of the ${role} is ${max}, no multiple of ${multiple}`)
  }
}

/** @param {StreamSpec} spec */
function checkGroups(spec) {
  if (spec.groups === null) return
  const { frames, latents, sharedFrames, sharedLatents, multiple } = spec.groups
  if (latents !== latentsOf(spec, frames) || sharedFrames >= frames || sharedLatents >= latents) {
    throw new FormError(`groups of ${frames} frames and ${latents} latents do not fit each other or what they share`)
  }
  if (multiple && (multiple % spec.timeFactor || frames % multiple || sharedFrames || sharedLatents)) {
    throw new FormError(`groups of ${frames} frames cannot have other lengths in multiples of ${multiple}`)
  }
}
