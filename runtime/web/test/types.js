/** Checked by `npm run types`, never run: the code is what index.d.ts declares. */
import * as errors from '../src/errors.js'
import { concat } from '../src/items.js'
import { loadTokens } from '../src/token_reader.js'
import { saveTokens } from '../src/token_writer.js'
import { Tokenizer } from '../src/tokenizer.js'
import { VideoReader } from '../src/video/reader.js'
import { VideoWriter } from '../src/video/writer.js'

const { BundleError, InputError, MismatchError, ProviderError, TokenFileError, VideoError, VidtokError } = errors
const { load } = Tokenizer
const made = { BundleError, InputError, MismatchError, ProviderError, TokenFileError, VidtokError }

/** @typedef {typeof import('../src/index.js')} Declared */
export const checked = /** @satisfies {Omit<Declared, 'Tokenizer'>} */ ({ ...made, concat, loadTokens, saveTokens })
export const loads = /** @satisfies {(...args: Parameters<Declared['Tokenizer']['load']>) => Promise<object>} */ (load)
/** @type {Omit<import('../src/index.js').Tokenizer, never>} */
export const tokenizer = Tokenizer.prototype

/** @typedef {typeof import('../src/video/index.js')} Video */
export const video = /** @satisfies {Omit<Video, 'VideoReader' | 'VideoWriter'>} */ ({ VideoError })
export const opens = /** @satisfies {(...args: Parameters<Video['VideoReader']['open']>) => Promise<object>} */ (VideoReader.open)
export const starts = /** @satisfies {(...args: Parameters<Video['VideoWriter']['open']>) => Promise<object>} */ (VideoWriter.open)
/** @type {Omit<import('../src/video/index.js').VideoReader, never>} */
export const reader = VideoReader.prototype
/** @type {Omit<import('../src/video/index.js').VideoWriter, never>} */
export const writer = VideoWriter.prototype
