import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, symlinkSync, cpSync, mkdirSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { after, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import * as native from 'onnxruntime-node'
import * as web from 'onnxruntime-web'
import { BundleError, InputError, ProviderError, Tokenizer } from '../src/index.js'
import { checkOnnxFile } from '../src/onnx_file.js'
import { FSQ, KL, changed } from './material.js'

const folder = mkdtempSync(`${tmpdir()}/vidtok-`)
after(() => rmSync(folder, { recursive: true }))

test('from a folder, its address, a server and a function', async () => {
  const server = createServer(async (request, answer) => {
    const name = /** @type {string} */ (request.url).split('/').pop()
    const content = await readFile(`${FSQ}/${name}`).catch(() => null)
    answer.writeHead(content ? 200 : 404).end(content)
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(undefined)))
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address())
  const address = `http://127.0.0.1:${port}/bundle`
  try {
    for (const source of [FSQ, `${FSQ}/`, pathToFileURL(FSQ), new URL(address), changed(FSQ, () => {})]) {
      const tok = await Tokenizer.load(source, { threads: 1 })
      assert.deepEqual([tok.provider, tok.precision, tok.isDiscrete], ['cpu', 'fp32', true])
      await tok.dispose()
    }
    const lost = changed(KL, (m) => (m.graphs[0].file = 'lost.onnx'))
    await assert.rejects(Tokenizer.load(lost), /lost.onnx cannot be read/)
    const aborted = AbortSignal.abort(new Error('enough'))
    await assert.rejects(Tokenizer.load(address, { signal: aborted }), /enough/)
  } finally {
    server.close()
  }
  await assert.rejects(Tokenizer.load(address), /cannot be read/)
  await assert.rejects(Tokenizer.load(`${folder}/none`), BundleError)
})

test('what is altered, or leads out of the bundle, is refused', async () => {
  const other = changed(FSQ, (m) => (m.graphs[0].sha256 = 'ab'.repeat(32)))
  await assert.rejects(Tokenizer.load(other), /altered: its size or SHA-256 is not the manifest's/)
  cpSync(FSQ, `${folder}/linked`, { recursive: true })
  rmSync(`${folder}/linked/encoder.local.onnx`)
  symlinkSync(`${FSQ}/encoder.local.onnx`, `${folder}/linked/encoder.local.onnx`)
  await assert.rejects(Tokenizer.load(`${folder}/linked`), /link out of the bundle/)
  mkdirSync(`${folder}/linked/x`)
  symlinkSync(`${folder}/linked`, `${folder}/whole`)
  rmSync(`${folder}/linked/encoder.local.onnx`)
  cpSync(`${FSQ}/encoder.local.onnx`, `${folder}/linked/encoder.local.onnx`)
  await (await Tokenizer.load(`${folder}/whole`, { threads: 1 })).dispose() // a link to the bundle itself is none
})

test('a graph that its manifest does not describe is refused', async () => {
  /** @type {[(m: any) => void, RegExp][]} */
  const wrong = [
    [(m) => m.graphs[0].states.pop(), /that only the graph has: \[state/],
    [(m) => (m.graphs[0].states[0].output = 'new'), /that only the manifest has: \[new\]/],
    [(m) => (m.graphs[0].states[0].axes = 'N 4 2 H W'), /\[N 4 2 H W\] in the manifest/],
    [(m) => (m.graphs[0].states[0].dtype = 'int8'), /is int8/],
    [(m) => m.graphs.forEach((/** @type {any} */ g) => (g.providers = ['openvino'])), /no encoder graph for cpu; it offers fp32 on openvino/],
  ]
  for (const [change, message] of wrong) {
    await assert.rejects(Tokenizer.load(changed(FSQ, change)), (error) => {
      assert.match(/** @type {Error} */ (error).message, message)
      return error instanceof BundleError
    })
  }
  await assert.rejects(Tokenizer.load(FSQ, { precision: 'fp16' }), /no fp16 encoder graph for cpu/)
})

test('weights in other files are refused', async () => {
  // A model whose graph has one tensor.
  const tensor = (/** @type {number[]} */ ...content) =>
    Uint8Array.from([0x3a, content.length + 2, 0x2a, content.length, ...content])
  checkOnnxFile(tensor(0x08, 1), 'x') // dims: 1
  assert.throws(() => checkOnnxFile(tensor(0x70, 1), 'x'), /does not say exactly where/) // data_location: 1
  assert.throws(() => checkOnnxFile(tensor(0x6a, 0), 'x'), /is no name and value/) // external_data
  for (const bytes of [[], [0x3a, 9], [0x3b], [0x3a, 1, 0xff], [0xff]]) {
    assert.throws(() => checkOnnxFile(Uint8Array.from(bytes), 'x'), /no ONNX file/)
  }
  checkOnnxFile(await readFile(`${KL}/decoder.local.onnx`), 'x')
})

test('a provider that is not there is an error, and nothing falls back', async () => {
  /** @type {[object, RegExp][]} */
  const wrong = [
    [{ ort: native, provider: 'wasm' }, /pass onnxruntime-web/],
    [{ ort: web, provider: 'cpu' }, /pass onnxruntime-node/],
    [{ ort: web, provider: 'webgpu' }, /no WebGPU here/],
    [{ provider: 'cuda' }, /no provider is called 'cuda'; choose cpu, wasm, webgpu/],
  ]
  for (const [options, message] of wrong) {
    await assert.rejects(Tokenizer.load(FSQ, options), (error) => {
      assert.match(/** @type {Error} */ (error).message, message)
      return error instanceof ProviderError
    })
  }
  await assert.rejects(Tokenizer.load(FSQ, { threads: 0 }), InputError)
  await assert.rejects(Tokenizer.load(FSQ, { roles: [] }), InputError)
})

test('an engine that is given is used, and WASM starts once', async () => {
  web.env.wasm.numThreads = 1
  const tok = await Tokenizer.load(FSQ, { ort: web, roles: ['encoder'] })
  assert.equal(tok.provider, 'wasm')
  await assert.rejects(Tokenizer.load(FSQ, { ort: web, threads: 2 }), /runs on 1 threads already/)
  const again = await Tokenizer.load(FSQ, { ort: web, threads: 1, roles: ['encoder'] })
  await Promise.all([tok.dispose(), again.dispose()])
})
