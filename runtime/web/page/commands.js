/** The commands that make tokens of the saved frames, and frames of the saved tokens. */

/** @import { Clip } from './clip.js' */

/**
 * Two lines for a shell.
 * @param {string} name of the files that are saved, without its ending
 * @param {Pick<Clip, 'width' | 'height' | 'fps'>} clip
 * @param {string} bundle
 */
export function commands(name, { width, height, fps }, bundle) {
  const [frames, tokens, video] = ['rgb', 'safetensors', 'mp4'].map((ending) => word(`${name}.${ending}`))
  return (
    `vidtok-run encode ${frames} --raw ${width}x${height}:rgb24:${fps} --bundle ${word(bundle)} -o same.safetensors\n` +
    `vidtok-run decode ${tokens} --bundle ${word(bundle)} -o ${video}`
  )
}

/**
 * A file's name as one word of a command, quoted where a shell would read more into it.
 * @param {string} name
 */
export function word(name) {
  const shown = name.replace(/\p{Cc}/gu, '_') // a terminal obeys controls even inside quotes
  const path = shown.replace(/^-/, './-') // else it is an option
  return /^[\p{L}\p{N}_.,:@%+/-]+$/u.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`
}
