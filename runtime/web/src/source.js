/** Where the files of a bundle come from: a folder, an address, or a function. */
import { BundleError, ProviderError, firstLine } from './errors.js'
import { isNode } from './provider.js'

/** @import { BundleSource } from './index.js' */

const PIECE = 2 ** 26 // bytes

/**
 * What messages call the bundle, and how to read a file of it; reading throws BundleError, or what aborted it.
 * @param {BundleSource} source
 * @param {AbortSignal | undefined} signal
 * @returns {{ place: string, read: (name: string) => Promise<Uint8Array<ArrayBuffer>> }}
 */
export function openSource(source, signal) {
  if (typeof source === 'function') {
    return {
      place: 'the bundle',
      read: (name) => attempt(name, signal, async () => new Uint8Array(await source(name))),
    }
  }
  const base = String(source).replace(/\/+$/, '')
  const local = base.startsWith('file:') || (isNode() && !/^[a-z][a-z0-9+.-]+:\/\//i.test(base))
  return {
    place: base,
    read: (name) => attempt(`${base}/${name}`, signal, () => (local ? readLocal : download)(base, name, signal)),
  }
}

/**
 * @template T
 * @param {string} what
 * @param {AbortSignal | undefined} signal
 * @param {() => Promise<T>} read
 */
async function attempt(what, signal, read) {
  signal?.throwIfAborted()
  try {
    return await read()
  } catch (error) {
    if (error instanceof BundleError || signal?.aborted) throw error
    throw new BundleError(`${what} cannot be read: ${firstLine(error)}`)
  }
}

/**
 * @param {string} base
 * @param {string} name
 * @param {AbortSignal | undefined} signal
 */
async function download(base, name, signal) {
  const page = globalThis.document?.baseURI ?? globalThis.location?.href
  const answer = await fetch(new URL(`${base}/${name}`, page), { signal })
  if (!answer.ok) throw new Error(`the server answers ${answer.status} ${answer.statusText}`.trim())
  return new Uint8Array(await answer.arrayBuffer())
}

/**
 * @param {string} base
 * @param {string} name
 */
async function readLocal(base, name) {
  const { open, realpath, stat } = await import('node:fs/promises')
  const { dirname, join } = await import('node:path')
  const { fileURLToPath } = await import('node:url')
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
 * SHA-256 as hexadecimal digits; throws ProviderError in a page that is neither https nor localhost.
 * @param {Uint8Array<ArrayBuffer>} bytes
 */
export async function sha256(bytes) {
  if (isNode()) {
    // Its web cryptography takes no more than 256 MiB.
    const hash = (await import('node:crypto')).createHash('sha256')
    for (let done = 0; done < bytes.length; done += PIECE) hash.update(bytes.subarray(done, done + PIECE))
    return hash.digest('hex')
  }
  if (!globalThis.crypto?.subtle) {
    throw new ProviderError('checksums need cryptography, which browsers give to https and localhost only; open it there')
  }
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('')
}
