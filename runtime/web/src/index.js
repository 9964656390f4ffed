/** Bundles of vidtok-onnx in JavaScript: video to tokens and back, in Node and in the browser. */
export { BundleError, InputError, MismatchError, ProviderError, TokenFileError, VidtokError } from './errors.js'
export { concat } from './items.js'
export { loadTokens, saveTokens } from './token_file.js'
export { Tokenizer } from './tokenizer.js'
