/** Every case of a conformance kit with every chunking, on the engines of Node; $VIDTOK_KIT names another kit. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, test } from 'node:test'
import { ProviderError, Tokenizer, loadTokens, saveTokens } from '../src/index.js'
import { largestDifference, place, streamed } from './material.js'

/** @import { Frames, Latents, Provider } from '../src/index.js' */
/**
 * @typedef {object} Case
 * @property {string} name
 * @property {string} bundle
 * @property {number} frames
 * @property {number} height
 * @property {number} width
 * @property {string} fps
 * @property {string} input
 * @property {string} tokens
 * @property {string} video
 * @property {number[][]} pushes
 * @property {number[][]} pulls
 * @property {number} latent_tolerance
 * @property {number} video_tolerance
 * @property {boolean} tokens_exact
 */

const KIT = process.env.VIDTOK_KIT ?? place('tests/conformance/kit')
/** @type {Case[]} */
const cases = JSON.parse(readFileSync(`${KIT}/cases.json`, 'utf8')).cases
/** @type {Map<string, Tokenizer>} */
const loaded = new Map()

/** @param {string} name */
const file = (name) => new Uint8Array(readFileSync(`${KIT}/${name}`))

/**
 * @param {string} bundle
 * @param {Provider} provider
 */
async function tokenizer(bundle, provider) {
  const found = loaded.get(bundle + provider)
  const tok = found ?? (await Tokenizer.load(`${KIT}/${bundle}`, { provider, threads: 1 }))
  loaded.set(bundle + provider, tok)
  return tok
}

after(() => Promise.all([...loaded.values()].map((tok) => tok.dispose())))

for (const provider of /** @type {const} */ (['cpu', 'wasm', 'webgpu'])) {
  for (const c of cases) {
    test(`${c.name} on ${provider}`, async (t) => {
      const tok = await tokenizer(c.bundle, provider).catch((error) => {
        const isMissing = error instanceof ProviderError || /no encoder graph for cuda/.test(error.message)
        if (provider !== 'webgpu' || !isMissing) throw error
        t.skip(error.message) // a driver for Vulkan, even SwiftShader's, makes it run
      })
      if (!tok) return
      const input = { data: file(c.input), frames: c.frames, height: c.height, width: c.width }
      const wanted = await loadTokens(file(c.tokens))
      const video = new Float32Array(file(c.video).buffer)
      const shape = (/** @type {Latents} */ l) => [l.length, l.channels, l.h, l.w]
      /** @param {Latents} found */
      const checkTokens = (found) => {
        assert.deepEqual(shape(found), shape(wanted))
        const off = largestDifference(found.data, wanted.data)
        assert.ok(off <= (c.tokens_exact ? 0 : c.latent_tolerance), `tokens differ by ${off}`)
      }
      /** @param {Frames} found */
      const checkVideo = (found) => {
        assert.deepEqual([found.frames, found.height, found.width], [c.frames, c.height, c.width])
        const bytes = found.data instanceof Uint8Array
        const off = largestDifference(found.data, bytes ? video.map((x) => (x + 1) * 127.5) : video)
        assert.ok(off <= (bytes ? c.video_tolerance * 127.5 + 0.5 : c.video_tolerance), `frames differ by ${off}`)
      }
      const tokens = await tok.encode(input, { fps: c.fps })
      checkTokens(tokens)
      assert.deepEqual({ ...tokens.info, provider: wanted.info.provider, timeBase: wanted.info.timeBase }, wanted.info)
      checkTokens(await loadTokens(await saveTokens(tokens)))
      checkVideo(await tok.decode(wanted, { dtype: 'float32' }))
      checkVideo(await tok.decode(wanted))
      for (const sizes of c.pushes) checkTokens(await streamed(tok.encoder(), input, sizes))
      const { frames: numFrames, height, width } = c
      for (const sizes of c.pulls) {
        checkVideo(await streamed(tok.decoder({ numFrames, height, width, dtype: 'float32' }), wanted, sizes))
      }
    })
  }
}
