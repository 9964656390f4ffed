/** Where the files of a bundle come from: a folder, an address, or a function. */
import { BundleError, ProviderError, firstLine } from './errors.js'
import { isNode } from './provider.js'

/** @import { BundleSource } from './index.js' */

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
  const local = isNode() && (base.startsWith('file:') || !/^[a-z][a-z0-9+.-]+:\/\//i.test(base))
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
  return (await import('./node.js')).readLocal(base, name)
}

/**
 * SHA-256 as hexadecimal digits; throws ProviderError in a page that is neither https nor localhost.
 * @param {Uint8Array<ArrayBuffer>} bytes
 */
export async function sha256(bytes) {
  if (isNode()) return (await import('./node.js')).sha256(bytes)
  if (!globalThis.crypto?.subtle) {
    throw new ProviderError('checksums need cryptography, which browsers give to https and localhost only; open it there')
  }
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('')
}
