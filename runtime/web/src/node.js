/** What only Node has: its engines, files and cryptography. Bundlers for browsers leave this file out. */
import { createHash } from 'node:crypto'
import { open, realpath, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { BundleError } from './errors.js'

/** @import { Provider } from './index.js' */
/** @import { Ort } from './provider.js' */

const PIECE = 2 ** 26 // bytes

/**
 * The engine that a provider needs; left out: the CPU's.
 * @param {Provider | undefined} provider
 * @returns {Promise<Ort>}
 */
export async function importEngine(provider) {
  if (provider === 'wasm') return import('onnxruntime-web')
  // Else the first session writes an id and a record of its use to the home folder, for its makers.
  process.env.ORT_DISABLE_TELEMETRY ??= '1'
  return import('onnxruntime-node')
}

/**
 * A file of a bundle's folder; throws BundleError where it is a link out of it.
 * @param {string} base path or file address of the folder
 * @param {string} name
 */
export async function readLocal(base, name) {
  const folder = base.startsWith('file:') ? fileURLToPath(base) : base || '/'
  const path = join(folder, name)
  const found = await stat(path) // before it is opened: a pipe would be waited for
  if (!found.isFile()) throw new Error('it is no file')
  if (dirname(await realpath(path)) !== (await realpath(folder))) {
    throw new BundleError(`${path} is a link out of the bundle; copy the file into its place`)
  }
  const file = await open(path)
  try {
    // Piece by piece: Node reads no more than 2 GiB at once.
    const bytes = new Uint8Array(found.size)
    for (let done = 0, read; done < bytes.length; done += read) {
      read = (await file.read(bytes, done, Math.min(PIECE, bytes.length - done))).bytesRead
      if (!read) throw new Error('it became shorter while it was read')
    }
    return bytes
  } finally {
    await file.close()
  }
}

/**
 * SHA-256 as hexadecimal digits, piece by piece: Node's web cryptography takes no more than 256 MiB.
 * @param {Uint8Array} bytes
 */
export function sha256(bytes) {
  const hash = createHash('sha256')
  for (let done = 0; done < bytes.length; done += PIECE) hash.update(bytes.subarray(done, done + PIECE))
  return hash.digest('hex')
}
