/** Loading a bundle: every file is read and checked before an engine sees it. */
import { BundleError, InputError } from './errors.js'
import { readManifest } from './manifest.js'
import { checkOnnxFile } from './onnx_file.js'
import { MANIFEST_NAMES, chooseProvider } from './provider.js'
import { Queue } from './queue.js'
import { loadGraph } from './session.js'
import { openSource, sha256 } from './source.js'
import { tileLimit } from './tiled_graph.js'

/** @import { BundleSource, LoadOptions } from './index.js' */
/** @import { LoadedChain } from './chain.js' */
/** @import { GraphEntry, Role } from './graph_entry.js' */
/** @import { Manifest } from './manifest.js' */
/** @import { GraphFiles, Loaded } from './session.js' */

/** @typedef {ReturnType<typeof openSource>['read']} Read */

/**
 * The manifest, and the chains of the roles that are asked for, on an engine.
 *
 * Throws BundleError, ProviderError, InputError, and the signal's reason when it aborts.
 * @param {BundleSource} source
 * @param {LoadOptions} options
 */
export async function loadBundle(source, options) {
  const { threads, signal, precision, roles = ['encoder', 'decoder'], maxTile } = options
  const { ort, provider } = await chooseProvider(options.ort, options.provider, threads)
  const { place, read } = openSource(source, signal)
  const manifest = readManifest(await read('manifest.json'), place)
  const entries = [...new Set(roles)].map((role) => manifest.chain(role, MANIFEST_NAMES[provider], precision))
  if (!entries.length) throw new InputError("roles are 'encoder', 'decoder' or both, got none")
  const limits = entries.map((chain) => (maxTile === undefined ? null : tileLimit(chain, manifest, maxTile)))
  const files = await new Files(manifest, read).ofChains(entries)
  const queue = new Queue()
  /** @type {Map<Role, LoadedChain>} */
  const chains = new Map()
  try {
    for (const [n, chain] of files.entries()) {
      /** @type {Loaded[]} */
      const graphs = []
      chains.set(chain[0].entry.role, { graphs, tiles: limits[n] })
      for (const [i, graph] of chain.entries()) {
        signal?.throwIfAborted()
        graphs.push(await loadGraph(ort, provider, graph, i === chain.length - 1, queue, threads))
      }
    }
  } catch (error) {
    for (const { session } of [...chains.values()].flatMap(({ graphs }) => graphs)) await session.release()
    throw error
  }
  return { manifest, provider, chains }
}

/** Files of a bundle, each of which is read and checked once. */
class Files {
  /** @type {Map<string, Promise<Uint8Array<ArrayBuffer>>>} */
  #read = new Map()

  /**
   * @param {Manifest} manifest
   * @param {Read} read
   */
  constructor(manifest, read) {
    this.manifest = manifest
    this.read = read
    this.sizes = new Map(manifest.weightsFiles.map(({ file, size }) => [file, size]))
  }

  /**
   * @param {GraphEntry[][]} chains
   * @returns {Promise<GraphFiles[][]>}
   */
  ofChains(chains) {
    return Promise.all(chains.map((chain) => Promise.all(chain.map((entry) => this.#ofGraph(entry)))))
  }

  /**
   * @param {GraphEntry} entry
   * @returns {Promise<GraphFiles>}
   */
  async #ofGraph(entry) {
    const name = `${this.manifest.place}/${entry.file}`
    const bytes = await this.#checked(entry.file, entry.sha256)
    const needed = [...checkOnnxFile(bytes, name, this.sizes)]
    const rows = this.manifest.weightsFiles.filter(({ file }) => needed.includes(file))
    const weights = rows.map(async ({ file, sha256, size }) => ({
      path: file,
      data: await this.#checked(file, sha256, size),
    }))
    return { entry, name, bytes, weights: await Promise.all(weights) }
  }

  /**
   * @param {string} file
   * @param {string} hash
   * @param {number} [size]
   */
  #checked(file, hash, size) {
    const key = `${hash} ${file}`
    const found = this.#read.get(key) ?? this.#readChecked(file, hash, size)
    this.#read.set(key, found)
    return found
  }

  /**
   * @param {string} file
   * @param {string} hash
   * @param {number} [size]
   */
  async #readChecked(file, hash, size) {
    const bytes = await this.read(file)
    if (bytes.length !== (size ?? bytes.length) || (await sha256(bytes)) !== hash) {
      throw new BundleError(
        `${this.manifest.place}/${file} is altered: its size or SHA-256 is not the manifest's; copy or export the ` +
          'bundle again',
      )
    }
    return bytes
  }
}
