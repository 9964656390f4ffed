/** What docs/javascript.md shows runs, in a folder that has a clip and the shipped bundles. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { after, before, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { clip, place } from './material.js'

const page = readFileSync(place('docs/javascript.md'), 'utf8')
const blocks = [...page.matchAll(/(<!-- [^\n]+ -->\n)?```(js|bash)\n(.*?)```/gs)]
const snippets = blocks.filter(([, mark]) => !mark?.includes('quoted from')) // those are run where they are quoted from
const folder = mkdtempSync(`${tmpdir()}/vidtok-`)
const back = process.cwd()

before(() => {
  mkdirSync(`${folder}/node_modules`)
  symlinkSync(place('runtime/web'), `${folder}/node_modules/vidtok-onnx-web`)
  symlinkSync(place('runtime/web/node_modules/onnxruntime-web'), `${folder}/node_modules/onnxruntime-web`)
  symlinkSync(place('runtime/vidtok_runtime/bundles'), `${folder}/bundles`)
  symlinkSync(place('runtime'), `${folder}/runtime`)
  writeFileSync(`${folder}/clip.rgb`, clip(10, 60, 80).data)
  const made = JSON.stringify(Array.from(clip(3, 60, 80).data))
  writeFileSync(
    `${folder}/camera.js`,
    `export async function* camera() {
      for (let i = 0; i < 4; i++) yield { data: Uint8Array.from(${made}), frames: 3, height: 60, width: 80 }
    }`,
  )
  writeFileSync(`${folder}/package.json`, '{ "type": "module" }')
  process.chdir(folder)
})
after(() => {
  process.chdir(back)
  rmSync(folder, { recursive: true })
})

test('the page has snippets', () => assert.ok(snippets.length >= 5))

for (const [i, [, mark, language, code]] of snippets.entries()) {
  test(`snippet ${i + 1}`, async () => {
    if (language === 'bash') return void execFileSync('bash', ['-ec', code], { cwd: folder })
    writeFileSync(`${folder}/snippet-${i}.js`, code)
    const run = () => import(pathToFileURL(`${folder}/snippet-${i}.js`).href)
    await (mark?.includes('in a page') ? served(run) : run())
  })
}

/**
 * Run what a page would run: names are relative to its address.
 * @param {() => Promise<unknown>} run
 */
async function served(run) {
  const server = createServer(async (request, answer) => answer.end(await readFile(`${folder}${request.url}`)))
  await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(undefined)))
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address())
  Object.assign(globalThis, { location: { href: `http://127.0.0.1:${port}/app/` } })
  try {
    await run()
  } finally {
    Reflect.deleteProperty(globalThis, 'location')
    server.close()
  }
}
