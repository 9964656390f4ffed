/** Video files in the browser: frames of a file, and an MP4 of frames. */
export { VideoError } from '../errors.js'
export { VideoReader } from './reader.js'
export { VideoWriter } from './writer.js'
