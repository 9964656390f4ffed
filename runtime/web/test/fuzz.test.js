/** Damaged files give a BundleError or a TokenFileError, or are read; nothing else happens. Seeded: it can be repeated. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { BundleError, TokenFileError, loadTokens } from '../src/index.js'
import { readManifest } from '../src/manifest.js'
import { checkOnnxFile } from '../src/onnx_file.js'
import { FSQ, place } from './material.js'

let seed = 1
/** @param {number} below */
function random(below) {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
  return Math.floor((seed / 2 ** 32) * below)
}

/**
 * A copy with some of its first bytes changed, perhaps cut.
 * @param {string} path
 * @param {number} most
 */
function* damaged(path, most) {
  const sound = new Uint8Array(readFileSync(path))
  for (let i = 0; i < 400; i++) {
    const bytes = sound.slice(0, i % 4 ? sound.length : random(sound.length))
    for (let k = random(4); k >= 0; k--) {
      bytes[random(Math.min(most, bytes.length))] = i % 2 ? random(256) : 48 + random(10)
    }
    yield bytes
  }
}

test('manifests', () => {
  let refused = 0
  for (const bytes of damaged(`${FSQ}/manifest.json`, Infinity)) {
    try {
      readManifest(bytes, 'there')
    } catch (error) {
      assert.ok(error instanceof BundleError, `${error}`)
      refused++
    }
  }
  assert.ok(refused > 100)
})

test('graphs', () => {
  for (const bytes of damaged(`${FSQ}/encoder.local.onnx`, 2 ** 17)) {
    try {
      checkOnnxFile(bytes, 'there')
    } catch (error) {
      assert.ok(error instanceof BundleError, `${error}`)
    }
  }
})

test('token files', async () => {
  let refused = 0
  for (const bytes of damaged(place('tests/conformance/kit/fsq-causal.tokens.safetensors'), 1200)) {
    await loadTokens(bytes).catch((error) => {
      assert.ok(error instanceof TokenFileError, `${error}`)
      refused++
    })
  }
  assert.ok(refused > 200)
})
