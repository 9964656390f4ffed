import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import fs, { lstatSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { syncBuiltinESMExports } from 'node:module'
import { constants, tmpdir } from 'node:os'
import { after, mock, test } from 'node:test'
import { PartFile } from '../bin/raw.mjs'
import { loadTokens, saveTokens } from '../src/index.js'
import { FSQ, KL, clip, largestDifference, place } from './material.js'

const folder = mkdtempSync(`${tmpdir()}/vidtok-`)
after(() => rmSync(folder, { recursive: true }))
const video = clip(9, 10, 12)
writeFileSync(`${folder}/clip.rgb`, video.data)

/** @param {string[]} args */
function vidtok(...args) {
  const command = [place('runtime/web/bin/vidtok.mjs'), ...args]
  const { status, stderr, stdout } = spawnSync(process.execPath, command, { cwd: folder, encoding: 'utf8' })
  return { status, stderr, stdout }
}

const silent = { status: 0, stderr: '', stdout: '' }
const size = ['--size', '12x10', '--threads', '1']

test('raw video to tokens and back', async () => {
  assert.deepEqual(vidtok('encode', FSQ, 'clip.rgb', 'one.safetensors', ...size, '--fps', '50/2'), silent)
  const pushed = ['two.safetensors', ...size, '--fps', '25', '--pushes', '1,4']
  assert.deepEqual(vidtok('encode', FSQ, 'clip.rgb', ...pushed), silent)
  assert.deepEqual(readFileSync(`${folder}/one.safetensors`), readFileSync(`${folder}/two.safetensors`))
  assert.deepEqual(vidtok('decode', FSQ, 'one.safetensors', 'back.rgb', '--threads', '1'), silent)
  assert.deepEqual(vidtok('decode', FSQ, 'one.safetensors', 'back.f32', '--pushes', '2'), silent)
  const floats = new Float32Array(new Uint8Array(readFileSync(`${folder}/back.f32`)).buffer)
  const bytes = readFileSync(`${folder}/back.rgb`)
  assert.ok(largestDifference(bytes, floats.map((x) => (x + 1) * 127.5)) < 0.5001)
  assert.deepEqual(vidtok('encode', FSQ, 'back.f32', 'three.safetensors', ...size), silent)
})

test('options reach the tokens', async () => {
  assert.deepEqual(vidtok('encode', KL, 'clip.rgb', 'kl.safetensors', ...size, '--gop', '2', '--half'), silent)
  const { info, length } = await loadTokens(new Uint8Array(readFileSync(`${folder}/kl.safetensors`)))
  assert.deepEqual([info.groups?.latents, info.groups?.frames, info.numFrames, info.fps, length], [2, 5, 9, null, 4])
})

test('tokens of another precision are decoded, and it is said', async () => {
  assert.equal(vidtok('encode', KL, 'clip.rgb', 'fp32.safetensors', ...size).status, 0)
  const tokens = await loadTokens(new Uint8Array(readFileSync(`${folder}/fp32.safetensors`)))
  const other = { ...tokens, info: { ...tokens.info, precision: 'int8' } }
  writeFileSync(`${folder}/int8.safetensors`, await saveTokens(other))
  const { status, stderr } = vidtok('decode', KL, 'int8.safetensors', 'int8.rgb', '--threads', '1')
  const said = 'vidtok: warning: tokens made in int8 are decoded in fp32, which gives slightly other frames\n'
  assert.deepEqual([status, stderr], [0, said])
  assert.deepEqual(vidtok('decode', KL, 'fp32.safetensors', 'fp32.rgb', '--threads', '1'), silent)
  assert.deepEqual(readFileSync(`${folder}/int8.rgb`), readFileSync(`${folder}/fp32.rgb`))
})

test('only regular files are replaced, and no pipe is waited for', () => {
  spawnSync('mkfifo', [`${folder}/pipe.safetensors`, `${folder}/pipe.rgb`])
  symlinkSync('clip.rgb', `${folder}/link.safetensors`)
  mkdirSync(`${folder}/folder.safetensors`)
  const before = readdirSync(folder)
  for (const [name, message] of /** @type {const} */ ([
    ['pipe.safetensors', /is a device, pipe or socket, and only regular files/],
    ['link.safetensors', /is a link, and only regular files/],
    ['folder.safetensors', /is a folder; name a file/],
  ])) {
    const { status, stderr } = vidtok('encode', FSQ, 'clip.rgb', name, ...size, '--force')
    assert.equal(status, 1)
    assert.match(stderr, message)
    assert.match(stderr, /^vidtok: [^\n]+\n$/)
  }
  assert.match(vidtok('decode', FSQ, 'pipe.safetensors', 'x.rgb').stderr, /pipe.safetensors is no file\n$/)
  assert.match(vidtok('encode', FSQ, 'pipe.rgb', 'x.safetensors', ...size).stderr, /pipe.rgb is no file\n$/)
  assert.deepEqual(readdirSync(folder), before)
  assert.ok(lstatSync(`${folder}/pipe.safetensors`).isFIFO() && lstatSync(`${folder}/link.safetensors`).isSymbolicLink())
})

test('of two writers the first to finish wins, unless the other may replace its file', () => {
  const noLinks = () => {
    throw Object.assign(new Error('links are not permitted'), { code: 'EPERM' })
  }
  for (const links of [true, false]) {
    const path = `${folder}/links-${links}.rgb`
    const [first, second, third] = [false, false, true].map((force) => new PartFile(path, force))
    if (!links) mock.method(fs, 'linkSync', noLinks)
    syncBuiltinESMExports()
    try {
      first.write(Uint8Array.of(1))
      second.write(Uint8Array.of(2))
      third.write(Uint8Array.of(3))
      first.commit()
      assert.throws(() => second.commit(), /^InputError: .* exists already; give --force to replace it$/)
      assert.deepEqual([...readFileSync(path)], [1])
      third.commit()
      assert.deepEqual([...readFileSync(path)], [3])
    } finally {
      mock.restoreAll()
      syncBuiltinESMExports()
    }
    assert.deepEqual(readdirSync(folder).filter((name) => name.endsWith('.part')), [second.part.slice(folder.length + 1)])
    rmSync(second.part)
  }
})

test('names of outputs may be as long as names can be', async () => {
  const before = readdirSync(folder)
  const names = ['é', '漢', '😀'].map((letter) => `o${letter.repeat(250 / Buffer.byteLength(letter))}.rgb`)
  for (const name of names) {
    assert.ok(Buffer.byteLength(name) > 250)
    const file = new PartFile(`${folder}/${name}`, false)
    const part = file.part.slice(folder.length + 1)
    assert.match(part, /^[oé漢😀]+\.\d+-[0-9a-f]{8}\.part$/u)
    assert.ok(part.startsWith(name.slice(0, 12)) && Buffer.byteLength(part) < 100)
    file.write(Uint8Array.of(1))
    file.commit()
  }
  assert.deepEqual(readdirSync(folder).sort(), [...before, ...names].sort())
  assert.throws(() => new PartFile(`${folder}/none/`, false), /ENOENT/)
  for (const name of names) rmSync(`${folder}/${name}`)
})

for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
  test(`${signal} ends it and leaves no part`, async (context) => {
    const before = readdirSync(folder)
    const server = createServer().listen(0, '127.0.0.1') // gives no answer, so that the program waits for its bundle
    context.after(() => server.close().closeAllConnections())
    await once(server, 'listening')
    const { port } = /** @type {import('node:net').AddressInfo} */ (server.address())
    const args = ['encode', `http://127.0.0.1:${port}`, 'clip.rgb', 'x.safetensors', ...size]
    const program = spawn(process.execPath, [place('runtime/web/bin/vidtok.mjs'), ...args], { cwd: folder, stdio: 'ignore' })
    const ended = once(program, 'exit')
    await Promise.race([once(server, 'request'), ended])
    assert.match(readdirSync(folder).join(), /x\.safetensors\.[^,]+\.part/)
    program.kill(signal)
    assert.deepEqual(await ended, [128 + constants.signals[signal], null])
    assert.deepEqual(readdirSync(folder), before)
  })
}

test('faults are one line, and nothing is left behind', () => {
  writeFileSync(`${folder}/there.safetensors`, 'mine')
  const before = readdirSync(folder)
  /** @type {[number, RegExp, ...string[]][]} */
  const wrong = [
    [2, /command is encode or decode, got ''/],
    [2, /encode needs BUNDLE/, 'encode', FSQ],
    [2, /--size is '', not whole/, 'encode', FSQ, 'clip.rgb', 'x.safetensors'],
    [2, /'--wrong'/, 'encode', '--wrong'],
    [2, /--threads is 'x'/, 'encode', FSQ, 'clip.rgb', 'x.safetensors', '--size', '12x10', '--threads', 'x'],
    [2, /--gop is '2,3', not one/, 'encode', FSQ, 'clip.rgb', 'x.safetensors', ...size, '--gop', '2,3'],
    [1, /no windows of another length/, 'encode', FSQ, 'clip.rgb', 'x.safetensors', ...size, '--window', '8'],
    [1, /no mean and scale of latents/, 'encode', KL, 'clip.rgb', 'x.safetensors', ...size, '--normalize'],
    [1, /no whole frames of 12x11/, 'encode', FSQ, 'clip.rgb', 'x.safetensors', '--size', '12x11'],
    [1, /ENOENT/, 'encode', FSQ, 'none.rgb', 'x.safetensors', ...size],
    [1, /ends neither/, 'encode', FSQ, 'clip.mp4', 'x.safetensors', ...size],
    [1, /exists already; give --force/, 'encode', FSQ, 'clip.rgb', 'there.safetensors', ...size],
    [1, /no provider is called 'fast'/, 'encode', FSQ, 'clip.rgb', 'x.safetensors', ...size, '--provider', 'fast'],
    [1, /is no rate/, 'encode', FSQ, 'clip.rgb', 'x.safetensors', ...size, '--fps', 'x'],
    [1, /manifest.json cannot be read/, 'encode', 'none', 'clip.rgb', 'x.safetensors', ...size],
    [1, /no token file/, 'decode', FSQ, 'clip.rgb', 'x.rgb'],
  ]
  for (const [status, message, ...args] of wrong) {
    const found = vidtok(...args)
    assert.equal(found.status, status, found.stderr)
    assert.match(found.stderr, message)
    assert.match(found.stderr, /^vidtok: [^\n]+\n$/)
  }
  assert.deepEqual(readdirSync(folder), before)
  assert.equal(readFileSync(`${folder}/there.safetensors`, 'utf8'), 'mine')
  assert.match(vidtok('--help').stdout, /example: vidtok encode/)
})
