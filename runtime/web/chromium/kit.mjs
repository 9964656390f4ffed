/**
 * node kit.mjs ADDRESS KIT FOLDER PROVIDER [ENDING]: every case of the conformance kit in the page, by the served
 * module, or those whose names end so. PROVIDER: wasm, or webgpu, which runs on Chromium's software adapter.
 * Writes for each chunking NAME.I.safetensors (the tokens of the input) and NAME.I.f32 (the frames of the kit's tokens).
 */

import { readFile, writeFile } from 'node:fs/promises'
import { SOFTWARE_GPU, onPage } from './launch.mjs'

const [address, kit, folder, provider, ending = ''] = process.argv.slice(2)
const { cases } = JSON.parse(await readFile(`${kit}/cases.json`, 'utf8'))

/** @param {import('playwright-core').Page} page */
async function everyCase(page) {
  const written = []
  for (const row of cases) {
    if (!row.name.endsWith(ending)) continue
    const input = (await readFile(`${kit}/${row.input}`)).toString('base64')
    const file = (await readFile(`${kit}/${row.tokens}`)).toString('base64')
    for (let i = 0; i < Math.max(row.pushes.length, row.pulls.length); i++) {
      const pushes = row.pushes[Math.min(i, row.pushes.length - 1)]
      const pulls = row.pulls[Math.min(i, row.pulls.length - 1)]
      const found = await page.evaluate(inPage, { row, input, file, pushes, pulls, provider })
      for (const [suffix, text] of Object.entries(found)) {
        await writeFile(`${folder}/${row.name}.${i}.${suffix}`, Buffer.from(text, 'base64'))
      }
      written.push(`${row.name}.${i}`)
    }
  }
  return written
}

/**
 * Runs in the page: encodes the input push by push, and decodes the kit's own tokens pull by pull.
 * @param {{ row: any, input: string, file: string, pushes: number[], pulls: number[], provider: string }} job
 */
async function inPage({ row, input, file, pushes, pulls, provider }) {
  const bytes = (/** @type {string} */ text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0))
  const text = (/** @type {ArrayBufferView} */ data) => {
    const whole = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    let all = ''
    for (let at = 0; at < whole.length; at += 8192) all += String.fromCharCode(...whole.subarray(at, at + 8192))
    return btoa(all)
  }
  const { concat, loadTokens, saveTokens, Tokenizer } = await import(String(new URL('/src/index.js', location.href)))
  const ort = await import(String(new URL(`/npm/ort.${provider}.min.mjs`, location.href)))
  // One bundle stays loaded, since to load it takes longer than a case.
  const page = /** @type {{ loaded?: { name: string, tok: any } }} */ (globalThis)
  const same = page.loaded?.name === row.bundle ? page.loaded : undefined
  if (!same) await page.loaded?.tok.dispose()
  const tok = same?.tok ?? (await Tokenizer.load(`/bundles/${row.bundle}`, { ort, provider, threads: 1 }))
  page.loaded = { name: row.bundle, tok }

  const { height, width, frames, fps } = row
  const [video, size] = [bytes(input), height * width * 3]
  const encoder = tok.encoder(height, width)
  const outs = []
  let at = 0
  for (const count of pushes) {
    outs.push(await encoder.push({ data: video.subarray(at * size, (at + count) * size), frames: count, height, width }))
    at += count
  }
  outs.push(await encoder.finish())
  const info = tok.describe({ numFrames: frames, height, width, fps })
  const made = await saveTokens({ ...concat(outs), info })

  const tokens = await loadTokens(bytes(file))
  const decoder = tok.decoder({ numFrames: frames, height, width, dtype: 'float32' })
  const one = tokens.data.length / tokens.length
  const parts = []
  at = 0
  for (const length of pulls) {
    parts.push(await decoder.push({ ...tokens, data: tokens.data.slice(at * one, (at + length) * one), length }))
    at += length
  }
  parts.push(await decoder.finish())
  return { safetensors: text(made), f32: text(concat(parts).data) }
}

await onPage(address, {}, everyCase, provider === 'webgpu' ? SOFTWARE_GPU : undefined)
