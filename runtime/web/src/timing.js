/**
 * How the frames of a clip fall into latents, and both into groups that are streams of their own.
 *
 * A model's StreamSpec and a clip's TokenInfo both say so.
 * @typedef {Pick<import('./index.js').TokenInfo, 'timeFactor' | 'frontFrames' | 'lookAhead' | 'length' | 'groups'>} Timing
 */

/**
 * The smallest length of a stream, `first` plus a multiple of `multiple`, that is not less than `frames`.
 * @param {{ first: number, multiple: number }} length
 * @param {number} frames
 */
export function paddedLength({ first, multiple }, frames) {
  return first + Math.max(0, Math.ceil((frames - first) / multiple)) * multiple
}

/**
 * Latents of one stream (a clip without groups, or one group) of so many frames, from 1.
 * @param {Omit<Timing, 'groups' | 'lookAhead'>} timing
 * @param {number} frames
 */
export function latentsOf({ timeFactor, frontFrames, length }, frames) {
  return Math.ceil(paddedLength(length, frontFrames + frames) / timeFactor)
}

/**
 * The most frames of one stream that so many latents stand for.
 * @param {Timing} timing
 * @param {number} latents
 */
export function framesOf({ timeFactor, frontFrames, length: { first, multiple }, groups }, latents) {
  const steps = Math.floor((latents * timeFactor - first) / multiple)
  if (steps < 0) return 0
  return Math.min(groups?.frames ?? Infinity, Math.max(0, first + steps * multiple - frontFrames))
}

/**
 * Latents of a clip of so many frames, from 1.
 * @param {Timing} timing
 * @param {number} frames
 */
export function latentsOfClip(timing, frames) {
  const { before, rest, shared } = lastGroup(timing, frames)
  return before + Math.max(shared, latentsOf(timing, rest))
}

/**
 * Latents that a decoder needs to give as many frames from the start of a clip, if there are that many.
 * @param {Timing} timing
 * @param {number} frames
 */
export function latentsToDecode(timing, frames) {
  const { before, rest, shared } = lastGroup(timing, frames)
  const needed = latentsOf(timing, rest + timing.lookAhead)
  const { groups } = timing
  return before + (groups ? Math.max(shared, groups.whole ? groups.latents : Math.min(groups.latents, needed)) : needed)
}

/**
 * The group that frame `frames - 1` is in: latents before it, its frames up to there, and its latents that the group
 * before has, too.
 * @param {Timing} timing
 * @param {number} frames
 */
function lastGroup({ groups }, frames) {
  if (!groups) return { before: 0, rest: frames, shared: 0 }
  const step = groups.frames - groups.sharedFrames
  const index = Math.max(0, Math.ceil((frames - groups.sharedFrames) / step) - 1)
  const before = index * (groups.latents - groups.sharedLatents)
  return { before, rest: frames - index * step, shared: index ? groups.sharedLatents : 0 }
}
