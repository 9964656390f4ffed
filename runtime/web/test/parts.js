/** A bundle whose roles are chains of two small graphs, with a state, a flag, and weights in files beside them. */
import { bytesOf, floats, model, node, outside, port, sha256, whole } from './onnx.js'

export const BIAS = [0.5, 0.25, -0.25]
export const SCALE = 2
const any = (/** @type {string} */ name) => port(name, 'float32', ['N', 3, 'a', 'b', 'c'])

/**
 * Two-part bundle: latents are differences of frames, the mean of two and of 2x2 pixels, plus a bias in the first call;
 * the decoder doubles them and gives each to two frames of 2x2 pixels.
 * @param {Record<string, string>} place of the bias in its file
 */
export function bundle(place = { location: 'encoder.weights', offset: '8', length: '12' }) {
  const [before, video, hidden, latent] = ['last', 'video', 'hidden', 'latent']
  const pool = (/** @type {string} */ from, /** @type {string} */ to, /** @type {number[]} */ window) =>
    node('AveragePool', [from], [to], { kernel_shape: window, strides: window, ceil_mode: 1 })
  /** @type {Record<string, Uint8Array>} */
  const files = {
    'difference.onnx': model({
      inputs: [any(video), any(before)],
      outputs: [any(hidden), any('new_last')],
      nodes: [
        pool(video, 'small', [1, 2, 2]),
        node('Concat', [before, 'small'], ['all'], { axis: 2 }),
        node('Slice', ['all', 'start', 'minus', 'time'], ['shifted']),
        node('Slice', ['all', 'minus', 'end', 'time'], ['new_last']),
        node('Sub', ['small', 'shifted'], [hidden]),
      ],
      tensors: [whole('start', [0]), whole('minus', [-1]), whole('end', [2 ** 31]), whole('time', [2])],
    }),
    'mean.onnx': model({
      inputs: [any(hidden), port('first', 'bool', [1])],
      outputs: [any(latent)],
      nodes: [
        pool(hidden, 'mean', [2, 1, 1]),
        node('Where', ['first', 'bias', 'zero'], ['added']),
        node('Add', ['mean', 'added'], [latent]),
      ],
      tensors: [outside('bias', [1, 3, 1, 1, 1], place), floats('zero', [1], [0])],
    }),
    'double.onnx': model({
      inputs: [any(latent)],
      outputs: [any('twice')],
      nodes: [node('Mul', [latent, 'scale'], ['twice'])],
      tensors: [outside('scale', [1], { location: 'decoder.weights', offset: '0', length: '4' })],
    }),
    'spread.onnx': model({
      inputs: [any('twice')],
      outputs: [any(video)],
      nodes: [node('ConvTranspose', ['twice', 'ones'], [video], { kernel_shape: [2, 2, 2], strides: [2, 2, 2], group: 3 })],
      tensors: [floats('ones', [3, 1, 2, 2, 2], Array(24).fill(1))],
    }),
    'encoder.weights': bytesOf([9, 9, ...BIAS]),
    'decoder.weights': bytesOf([SCALE]),
  }
  const float = (/** @type {string} */ name, /** @type {string} */ axes) => ({ name, dtype: 'float32', axes })
  const ends = { video: float(video, 'N 3 T H W'), latent: float(latent, 'N 3 T/2 H/2 W/2') }
  const small = float(hidden, 'N 3 T H/2 W/2')
  const twice = float('twice', 'N 3 T/2 H/2 W/2')
  const last = { input: before, output: 'new_last', dtype: 'float32', axes: 'N 3 1 H/2 W/2', initial: 'zeros' }
  const common = { precision: 'fp32', providers: ['cpu'], stages: [], receptive_field: 2, missing_kernels: {} }
  const graphs = [
    { role: 'encoder', part: 'local', file: 'difference.onnx', inputs: [ends.video], outputs: [small], states: [last] },
    { role: 'decoder', part: 'global', file: 'double.onnx', inputs: [ends.latent], outputs: [twice] },
    { role: 'encoder', part: 'global', file: 'mean.onnx', inputs: [small], outputs: [ends.latent], flags: [{ name: 'first', dtype: 'bool', axes: '1' }] },
    { role: 'decoder', part: 'local', file: 'spread.onnx', inputs: [twice], outputs: [ends.video] },
  ].map((row) => ({ states: [], flags: [], ...common, ...row, sha256: sha256(files[row.file]) }))
  const weights_files = ['encoder.weights', 'decoder.weights'].map((file) => ({
    ...{ file, sha256: sha256(files[file]), size: files[file].length },
  }))
  const calls = { first: null, multiple: 1, max: 2, exact: false, drop: 0, flush: null, flags: {} }
  const stream = {
    ...{ time_factor: 2, spatial_multiple: 2, square: false, latent_channels: 3, codebook_size: null, levels: [] },
    ...{ pixel_range: [-1, 1], latent_mean: [1, 0, -1], latent_std: [0.5, 1, 4], front_frames: 0, groups: null },
    length: { first: 0, multiple: 2 },
    encoder: { ...calls, first: 2, multiple: 2, flags: { first: ['first call'] } },
    decoder: calls,
  }
  const manifest = {
    ...{ format: 'vidtok-bundle', format_version: 2, family: 'toys', name: 'parts', config: {}, licence: '' },
    ...{ weights: { sha256: 'cd'.repeat(32) }, stream, weights_files, graphs },
  }
  /** @type {string[]} */
  const asked = []
  const read = async (/** @type {string} */ name) => {
    asked.push(name)
    return name === 'manifest.json' ? Buffer.from(JSON.stringify(manifest)) : Buffer.from(files[name])
  }
  return { manifest, files, read, asked }
}
