/** Checked by `npm run types`, never run: the code is what index.d.ts declares. */
import * as errors from '../src/errors.js'
import { concat } from '../src/items.js'
import { loadTokens, saveTokens } from '../src/token_file.js'
import { Tokenizer } from '../src/tokenizer.js'

const { BundleError, InputError, MismatchError, ProviderError, TokenFileError, VidtokError } = errors
const { load } = Tokenizer
const made = { BundleError, InputError, MismatchError, ProviderError, TokenFileError, VidtokError }

/** @typedef {typeof import('../src/index.js')} Declared */
export const checked = /** @satisfies {Omit<Declared, 'Tokenizer'>} */ ({ ...made, concat, loadTokens, saveTokens })
export const loads = /** @satisfies {(...args: Parameters<Declared['Tokenizer']['load']>) => Promise<object>} */ (load)
/** @type {Omit<import('../src/index.js').Tokenizer, never>} */
export const tokenizer = Tokenizer.prototype
