/** What takes video files apart and puts them together. */
import { VideoError, firstLine } from '../errors.js'

/** @typedef {typeof import('mediabunny')} Mediabunny */

/** How messages and pages call what mediabunny calls by these names. */
export const CODECS = { avc: 'H.264', hevc: 'H.265', vp8: 'VP8', vp9: 'VP9', av1: 'AV1', prores: 'ProRes' }

/**
 * The library that was passed in, or the one installed; throws VideoError where there is none, or no codecs for it.
 * @param {Mediabunny | undefined} given
 * @param {'VideoDecoder' | 'VideoEncoder'} codecs what of WebCodecs is needed
 * @returns {Promise<Mediabunny>}
 */
export async function openLibrary(given, codecs) {
  if (!(codecs in globalThis)) {
    throw new VideoError(`there is no ${codecs} of WebCodecs here, which browsers give to https and localhost only`)
  }
  try {
    return given ?? (await import('mediabunny'))
  } catch (error) {
    throw new VideoError(`mediabunny does not load (${firstLine(error)}); install it, or pass it as mediabunny`)
  }
}
