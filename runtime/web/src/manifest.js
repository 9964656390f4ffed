/** The manifest of a bundle: its graphs, the files that they need, and how a clip becomes calls of them. */
import { BundleError } from './errors.js'
import { Fields } from './fields.js'
import { graphEntry } from './graph_entry.js'
import { FormError, parseJson } from './json.js'
import { streamSpec } from './stream_spec.js'

/** @import { StreamSpec } from './index.js' */
/** @import { GraphEntry, Port, Role } from './graph_entry.js' */

const FORMAT = 'vidtok-bundle'
const FORMAT_VERSION = 2
const MAX_BYTES = 2 ** 24 // of manifest.json
const ROLES = /** @type {const} */ (['encoder', 'decoder'])
const ENDS = ['video', 'latent', 'indices'] // names of what a role takes and gives, and of nothing in between

/** @typedef {{ file: string, sha256: string, size: number }} WeightsFile */

/** A bundle's description, read from manifest.json. */
export class Manifest {
  /**
   * Throws FormError.
   * @param {Fields} raw
   * @param {string} place for messages
   */
  constructor(raw, place) {
    this.place = place
    this.raw = raw.raw
    this.family = raw.text('family')
    this.name = raw.text('name')
    this.weightsSha256 = raw.fields('weights').sha256('sha256')
    this.licence = raw.text('licence')
    this.stream = streamSpec(raw.fields('stream'))
    this.weightsFiles = weightsFiles(raw)
    this.graphs = raw.rows('graphs').map(graphEntry)
    raw.fields('config')
    checkChains(this)
  }

  /**
   * The graphs that compute a role on an engine, in their order; throws BundleError. precision: left out, that of the
   * first row of the encoder that lists the engine.
   * @param {Role} role
   * @param {string} provider as manifests name them
   * @param {string} [precision]
   */
  chain(role, provider, precision) {
    const listed = this.graphs.filter((graph) => graph.providers.includes(provider))
    const chosen = precision ?? listed.find((graph) => graph.role === 'encoder')?.precision
    const found = listed.filter((graph) => graph.role === role && graph.precision === chosen)
    if (found.length) return found
    const rows = this.graphs.filter((graph) => graph.role === role)
    const offered = new Set(rows.map((graph) => `${graph.precision} on ${graph.providers.join('/')}`))
    throw new BundleError(
      `${this.place} has no ${chosen === undefined ? '' : `${chosen} `}${role} graph for ${provider}; it offers ` +
        [...offered].sort().join(', '),
    )
  }
}

/**
 * @param {Fields} raw
 * @returns {WeightsFile[]}
 */
function weightsFiles(raw) {
  const rows = raw.rows('weights_files').map((row) => ({
    file: row.fileName('file', '.weights'),
    sha256: row.sha256('sha256'),
    size: row.integer('size', 1, Number.MAX_SAFE_INTEGER),
  }))
  if (new Set(rows.map(({ file }) => file)).size !== rows.length) throw new FormError('two weights_files have one name')
  return rows
}

/**
 * Throw FormError unless the graphs of each role, engine and precision are a chain.
 * @param {Manifest} manifest
 */
function checkChains({ graphs, stream }) {
  /** @type {Map<string, GraphEntry[]>} */
  const chains = new Map()
  for (const graph of graphs) {
    for (const provider of new Set(graph.providers)) {
      const key = JSON.stringify([graph.role, provider, graph.precision])
      chains.set(key, [...(chains.get(key) ?? []), graph])
    }
  }
  for (const chain of chains.values()) checkChain(chain, stream)
  for (const role of ROLES) {
    if (![...chains.values()].some(([graph]) => graph.role === role)) throw new FormError(`no graph computes the ${role}`)
  }
  for (const { role, flags, file } of graphs) {
    const unknown = flags.find(({ name }) => !stream[role].flags.has(name))
    if (unknown) throw new FormError(`stream does not say when the flag ${unknown.name} of ${file} is set`)
  }
}

/**
 * @param {GraphEntry[]} chain
 * @param {StreamSpec} stream
 */
function checkChain(chain, { timeFactor, spatialMultiple, latentChannels, codebookSize }) {
  const [f, s] = [timeFactor, spatialMultiple].map((n) => (n === 1 ? '' : `/${n}`))
  const cells = `T${f} H${s} W${s}`
  /** @type {Port} */
  const video = { name: 'video', dtype: 'float32', axes: 'N 3 T H W' }
  /** @type {Port} */
  const tokens =
    codebookSize === null
      ? { name: 'latent', dtype: 'float32', axes: `N ${latentChannels} ${cells}` }
      : { name: 'indices', dtype: 'int32', axes: `N ${cells}` }
  const { role, outputs } = chain[chain.length - 1]
  const [taken, given] = role === 'encoder' ? [video, tokens] : [tokens, video]
  checkSame(chain[0].input, taken, `what the ${role} takes`)
  checkSame(outputs[0], given, `what the ${role} gives`)
  chain.slice(1).forEach(({ input }, i) => {
    if (ENDS.includes(input.name)) throw new FormError(`${input.name} goes from graph to graph of the ${role}`)
    checkSame(input, chain[i].outputs[0], `what a graph of the ${role} takes from the one before`)
  })
  const variance = outputs.find(({ name }) => name === 'log_variance')
  if (role === 'encoder' && codebookSize === null && variance) {
    checkSame(variance, { ...tokens, name: 'log_variance' }, 'the log-variance')
  }
}

/**
 * @param {Port} port
 * @param {Port} right
 * @param {string} what
 */
function checkSame(port, right, what) {
  for (const key of /** @type {const} */ (['name', 'dtype', 'axes'])) {
    if (port[key] !== right[key]) throw new FormError(`the ${key} of ${what} is '${port[key]}', not '${right[key]}'`)
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
