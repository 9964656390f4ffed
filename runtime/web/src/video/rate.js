/** Another rate, by repeating frames or leaving them out. */

/**
 * @template {{ pts: number, duration: number }} Timed
 * @typedef {{ frame: Timed, count: number }} Shown count: of the frames before, at the new rate
 */

/**
 * The frame on show at every 1/`fps` from `begin` on, as long as the last one is shown. Times may be off by half a unit,
 * of which there are `units` a second.
 * @template {{ pts: number, duration: number }} Timed
 * @param {AsyncIterable<Timed>} frames
 * @param {number} begin
 * @param {number} units
 * @param {number} fps
 * @returns {AsyncGenerator<Shown<Timed>, void, undefined>}
 */
export async function* atRate(frames, begin, units, fps) {
  const step = units / fps
  let count = 0
  const due = (/** @type {number} */ until) => begin + count * step < until - 0.5
  /** @type {Timed | null} */
  let shown = null
  for await (const frame of frames) {
    while (shown && due(frame.pts)) yield { frame: shown, count: count++ }
    shown = frame
  }
  while (shown && due(shown.pts + (shown.duration || 1))) yield { frame: shown, count: count++ }
}
