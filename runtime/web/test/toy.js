/**
 * A model small enough to see what its graphs are called with: every latent, and every frame that comes back, is the
 * size of its call, plus 100 in calls where the flag is set. One latent stands for f frames of 2x2 pixels.
 */
import { floats, model, node, port, sha256 } from './onnx.js'

/** @typedef {{ encoder?: object, decoder?: object } & Record<string, unknown>} StreamChanges of a manifest's `stream` */

const calls = { first: null, multiple: 1, max: 4, exact: false, drop: 0, flush: null, flags: { flag: ['first call'] } }

/**
 * What reads the bundle.
 * @param {number} f
 * @param {StreamChanges} changes
 */
export function toy(f, { encoder, decoder, ...stream }) {
  const t = f === 1 ? 'T' : `T/${f}`
  const latent = { name: 'latent', dtype: 'float32', axes: `N 3 ${t} H/2 W/2` }
  const video = { name: 'video', dtype: 'float32', axes: 'N 3 T H W' }
  /** @type {Record<string, Uint8Array>} */
  const files = { 'encoder.onnx': graph('video', 'latent', f), 'decoder.onnx': graph('latent', 'video', f) }
  const row = { part: 'global', precision: 'fp32', providers: ['cpu'], states: [], stages: [], receptive_field: 0 }
  const rest = { ...row, missing_kernels: {}, flags: [{ name: 'flag', dtype: 'bool', axes: '1' }] }
  const graphs = [
    { role: 'encoder', file: 'encoder.onnx', inputs: [video], outputs: [latent] },
    { role: 'decoder', file: 'decoder.onnx', inputs: [latent], outputs: [video] },
  ].map((row) => ({ ...rest, ...row, sha256: sha256(files[row.file]) }))
  const manifest = {
    format: 'vidtok-bundle',
    format_version: 2,
    family: 'toys',
    name: 'toy',
    config: {},
    weights: { sha256: 'ab'.repeat(32) },
    licence: '',
    stream: {
      ...{ time_factor: f, spatial_multiple: 2, square: false, latent_channels: 3, codebook_size: null, levels: [] },
      ...{ pixel_range: [0, 1000], latent_mean: null, latent_std: null, front_frames: 0, groups: null },
      length: { first: 0, multiple: 1 },
      encoder: { ...calls, multiple: f, ...encoder },
      decoder: { ...calls, ...decoder },
      ...stream,
    },
    weights_files: [],
    graphs,
  }
  return async (/** @type {string} */ name) =>
    name === 'manifest.json' ? Buffer.from(JSON.stringify(manifest)) : Buffer.from(files[name])
}

/**
 * @param {'video' | 'latent'} from
 * @param {'video' | 'latent'} to
 * @param {number} f
 */
function graph(from, to, f) {
  const window = [f, 2, 2]
  const cells = Array(12 * f).fill(1)
  const resize =
    from === 'video'
      ? node('AveragePool', ['video'], ['resized'], { kernel_shape: window, strides: window, ceil_mode: 1 })
      : node('ConvTranspose', ['latent', 'ones'], ['resized'], { kernel_shape: window, strides: window, group: 3 })
  return model({
    inputs: [port(from, 'float32', ['N', 3, 'a', 'b', 'c']), port('flag', 'bool', [1])],
    outputs: [port(to, 'float32', ['N', 3, 'd', 'e', 'f'])],
    nodes: [
      resize,
      node('Mul', ['resized', 'zero'], ['blank']),
      node('Shape', [from], ['size'], { start: 2, end: 3 }),
      node('Cast', ['size'], ['length'], { to: 1 }),
      node('Where', ['flag', 'hundred', 'zero'], ['mark']),
      node('Add', ['length', 'mark'], ['sum']),
      node('Add', ['blank', 'sum'], [to]),
    ],
    tensors: [floats('ones', [3, 1, ...window], cells), floats('zero', [1], [0]), floats('hundred', [1], [100])],
  })
}
