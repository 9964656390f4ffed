/** Every case of refusals.json, which all runtimes judge alike; $VIDTOK_REFUSALS names another file of the form. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { BundleError, TokenFileError, loadTokens } from '../src/index.js'
import { readManifest } from '../src/manifest.js'
import { checkOnnxFile } from '../src/onnx_file.js'
import { place } from './material.js'

const KIT = place('tests/conformance/kit')

/** @typedef {{ replace?: string, at?: number, delete?: number, with?: string, hex?: string, times?: number }} Edit */
/**
 * @typedef {{ name: string, file: string, part?: 'file' | 'header', edits: Edit[], verdict: string, why: string }}
 * Refusal
 */

/**
 * @param {Buffer} content
 * @param {Edit} edit
 */
function edited(content, edit) {
  const part = edit.hex === undefined ? Buffer.from(edit.with ?? '') : Buffer.from(edit.hex, 'hex')
  const added = Array.from({ length: edit.times ?? 1 }, () => part)
  const at = edit.replace === undefined ? (edit.at ?? content.length) : content.indexOf(edit.replace)
  assert.ok(at >= 0, `${edit.replace} is not there`)
  const size = edit.replace === undefined ? (edit.delete ?? 0) : Buffer.byteLength(edit.replace)
  return Buffer.concat([content.subarray(0, at), ...added, content.subarray(at + size)])
}

/** @param {Refusal} refusal */
function contentOf({ file, part, edits }) {
  const content = readFileSync(`${KIT}/${file}`)
  if (part !== 'header') return edits.reduce(edited, content)
  const end = 8 + Number(content.readBigUInt64LE())
  const header = edits.reduce(edited, content.subarray(8, end))
  const room = Buffer.alloc(8)
  room.writeBigUInt64LE(BigInt(header.length))
  return Buffer.concat([room, header, content.subarray(end)])
}

/**
 * What the readers say against a file; undefined when they take it.
 * @param {string} file
 * @param {Uint8Array<ArrayBuffer>} bytes
 */
async function refused(file, bytes) {
  try {
    if (file.endsWith('.json')) readManifest(bytes, 'there')
    else if (file.endsWith('.onnx')) checkOnnxFile(bytes, file)
    else await loadTokens(bytes)
  } catch (error) {
    assert.ok(error instanceof BundleError || error instanceof TokenFileError, `${error}`)
    return error.message
  }
}

test('refusals', async () => {
  const path = process.env.VIDTOK_REFUSALS ?? `${KIT}/refusals.json`
  const { format, version, cases } = JSON.parse(readFileSync(path, 'utf8'))
  assert.deepEqual([format, version], ['vidtok-refusals', 1])
  const wrong = []
  for (const one of /** @type {Refusal[]} */ (cases)) {
    const said = await refused(one.file, new Uint8Array(contentOf(one)))
    if ((said !== undefined) !== (one.verdict === 'refuse')) {
      wrong.push(`${one.name}: ${said ?? 'accept'}, must be: ${one.verdict} (${one.why})`)
    }
  }
  assert.deepEqual(wrong, [])
})
