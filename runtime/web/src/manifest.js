/** The manifest of a bundle: what its graphs take, give and remember. Runtimes loop over it. */
import { BundleError } from './errors.js'
import { Fields } from './fields.js'
import { graphEntry } from './graph_entry.js'
import { FormError, parseJson } from './json.js'

/** @import { GraphEntry, Role } from './graph_entry.js' */

const FORMAT = 'vidtok-bundle'
const FORMAT_VERSION = 1
const MAX_BYTES = 2 ** 24 // of manifest.json
const MAX_CHUNK = 2 ** 16

/**
 * How a stream is cut into graph calls, counted in frames (encoder) or latents (decoder).
 *
 * multiple: every call takes a multiple of it, but for the last; most: at most so many; first: exactly so many in the
 * first call. Of what comes out (latents or frames), `drop` are thrown away at the start. flush: at the end, one more
 * call with so many dummies, of whose output only the first `keep` count.
 * @typedef {import('./index.js').CallRule} CallRule
 */

/** A bundle's description, read from manifest.json. */
export class Manifest {
  /**
   * Throws FormError.
   * @param {Fields} raw
   * @param {string} place for messages
   */
  constructor(raw, place) {
    const [variant, weights, chunk] = [raw.fields('variant'), raw.fields('weights'), raw.fields('chunk')]
    const [flush, window] = [raw.fieldsOrNull('flush'), raw.fieldsOrNull('window')]
    const f = raw.integer('time_factor', 1, 64)
    this.place = place
    this.raw = raw.raw
    this.variant = variant.text('name')
    this.regularizer = variant.text('regularizer')
    this.weightsSha256 = weights.sha256('sha256')
    this.source = weights.text('source')
    this.licence = raw.text('licence')
    this.timeFactor = f
    this.spatialMultiple = raw.integer('spatial_multiple', 1, 256)
    this.frontFrames = raw.fields('front_padding').integer('frames', 0, f - 1)
    this.encoderChunk = chunk.integer('encoder_frames', f, MAX_CHUNK)
    this.decoderChunk = chunk.integer('decoder_latents', 1, MAX_CHUNK)
    this.decoderFirst = chunk.integerOrNull('first_decoder_latents', 1, MAX_CHUNK)
    this.decoderDrop = raw.integer('drop_decoded_frames', 0, 2 * f)
    this.decoderFlush = flush ? flush.integer('decoder_latents', 1, 64) : 0
    this.lookAhead = raw.integer('look_ahead', 0, f - 1)
    this.window = window ? window.integer('frames', f, MAX_CHUNK) : null
    this.codebookSize = raw.integerOrNull('codebook_size', 1, 2 ** 31 - 1)
    this.latentChannels = variant.integer('z_channels', 1, 1024)
    /** @type {GraphEntry[]} */
    this.graphs = raw.rows('graphs').map(graphEntry)
    if (flush && flush.integer('keep_frames', 0, f - 1) !== this.lookAhead) {
      throw new FormError('flush does not keep as many frames as the decoder looks ahead')
    }
    checkUnused(raw)
    if (this.encoderChunk % f || (this.window ?? 0) % f) {
      throw new FormError(`a chunk or window of frames is no multiple of ${f}`)
    }
    const expected = this.codebookSize === null ? 'latent' : 'indices'
    const names = new Set(this.graphs.flatMap((graph) => [graph.input.name, graph.outputs[0].name]))
    names.delete('video')
    if ([...names].some((name) => name !== expected)) {
      throw new FormError(`its graphs use ${[...names].sort().join(', ')}, its codebook size is ${this.codebookSize}`)
    }
    this.#checkAxes()
  }

  /** Throw FormError unless data have the axes that follow from the factors. */
  #checkAxes() {
    const [f, m] = [this.timeFactor, this.spatialMultiple].map((n) => (n === 1 ? '' : `/${n}`))
    const tokens = `T${f} H${m} W${m}`
    /** @type {Record<string, string>} */
    const right = { video: 'N 3 T H W', latent: `N ${this.latentChannels} ${tokens}`, indices: `N ${tokens}` }
    for (const { input, outputs } of this.graphs) {
      for (const { name, axes } of [input, outputs[0]]) {
        if (axes !== right[name]) throw new FormError(`the axes of ${name} are '${axes}', not '${right[name]}'`)
      }
    }
  }

  /**
   * How to call the graph of a role; `window` (frames) replaces that of a non-causal bundle.
   * @param {Role} role
   * @param {number | null} [window]
   * @returns {CallRule}
   */
  rule(role, window) {
    const plain = { first: null, drop: 0, flush: 0, keep: 0 }
    if (this.window !== null) {
      const frames = window ?? this.window
      const length = role === 'encoder' ? frames : frames / this.timeFactor
      return { ...plain, multiple: length, most: length }
    }
    if (role === 'encoder') return { ...plain, multiple: this.timeFactor, most: this.encoderChunk }
    return {
      multiple: 1,
      most: this.decoderChunk,
      first: this.decoderFirst,
      drop: this.decoderDrop,
      flush: this.decoderFlush,
      keep: this.lookAhead,
    }
  }

  /**
   * The graph of a role for a provider and a precision (left out: the first listed); throws BundleError.
   * @param {Role} role
   * @param {string} provider as manifests name them
   * @param {string} [precision]
   */
  graph(role, provider, precision) {
    const listed = this.graphs.filter((graph) => graph.role === role)
    const found = listed.find((g) => g.providers.includes(provider) && (precision ?? g.precision) === g.precision)
    if (found) return found
    const offered = listed.map((graph) => `${graph.precision} on ${graph.providers.join('/')}`).sort()
    const wanted = precision === undefined ? role : `${precision} ${role}`
    throw new BundleError(`${this.place} has no ${wanted} graph for ${provider}; it offers ${offered.join(', ')}`)
  }
}

/**
 * What other runtimes use: a manifest is sound to all of them or to none. Throws FormError.
 * @param {Fields} raw
 */
function checkUnused(raw) {
  for (const role of ['encoder', 'decoder']) {
    for (const name of ['pixel', 'pixel_squared']) raw.fields('operations').fields(role).number(name)
  }
  for (const row of raw.fields('parity').rows('rows')) {
    row.text('provider')
    row.number('video_max_diff')
    for (const name of ['latent_max_diff', 'psnr_lost']) if (row.has(name)) row.number(name)
    for (const name of ['tokens', 'tokens_differing']) {
      if (row.has(name)) row.integer(name, 0, Number.MAX_SAFE_INTEGER)
    }
    if (row.has('precision')) row.text('precision')
  }
}

/**
 * Check what `manifest.json` holds; throws BundleError.
 * @param {Uint8Array} bytes
 * @param {string} place
 */
export function readManifest(bytes, place) {
  const name = `${place}/manifest.json`
  try {
    if (bytes.length > MAX_BYTES) throw new FormError(`it has more than ${MAX_BYTES} bytes`)
    const raw = new Fields(parseJson(bytes), 'the manifest')
    const format = raw.text('format')
    if (format !== FORMAT) {
      throw new BundleError(`${name} is not a bundle manifest: its format is '${format}', not '${FORMAT}'`)
    }
    const version = raw.integer('format_version', 0, 1e6)
    if (version !== FORMAT_VERSION) {
      throw new BundleError(
        `${name} has format version ${version}, this runtime reads ${FORMAT_VERSION}; ` +
          'export again or update vidtok-onnx-web',
      )
    }
    return new Manifest(raw, place)
  } catch (error) {
    if (!(error instanceof FormError)) throw error
    throw new BundleError(`${name} is damaged: ${error.message}; export the bundle again`)
  }
}
