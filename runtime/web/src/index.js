/** Bundles of vidtok-onnx in JavaScript: video to tokens and back, in Node and in the browser. */
export { BundleError, InputError, MismatchError, ProviderError, TokenFileError, VidtokError } from './errors.js'
export { concat } from './items.js'
export { loadTokens } from './token_reader.js'
export { saveTokens } from './token_writer.js'
export { Tokenizer } from './tokenizer.js'
