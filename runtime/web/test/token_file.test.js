import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { toFraction } from '../src/fraction.js'
import { fromHalf, toHalf } from '../src/half.js'
import { InputError, TokenFileError, loadTokens, saveTokens } from '../src/index.js'
import { sha256 } from '../src/source.js'
import { place } from './material.js'

/** @import { Tokens } from '../src/index.js' */

const KIT = 'tests/conformance/kit'

/** @returns {Tokens} */
function tokens() {
  const info = {
    family: 'vidtok',
    name: 'fsq-é',
    weightsSha256: 'ab'.repeat(32),
    numFrames: 5,
    height: 9,
    width: 16,
    timeFactor: 4,
    frontFrames: 3,
    lookAhead: 0,
    length: { first: 0, multiple: 4 },
    codebookSize: 99,
    fps: '30000/1001',
    timeBase: null,
    precision: 'fp32',
    provider: 'cpu',
    groups: null,
    skip: 0,
    sampled: null,
    normalized: false,
    exact: null,
    surplus: false,
    display: 'aspect=4/3 matrix=6 primaries=2 transfer=2 range=limited',
    lastDuration: 3,
    resampling: 'planes',
  }
  const data = Int32Array.of(0, 98, 1, 2, 3, 4, 5, 6)
  return { data, length: 2, channels: 1, h: 2, w: 2, info, pts: BigInt64Array.of(-3n, 0n, 1n, 2n, 2n ** 60n) }
}

/** @returns {Tokens} */
function latents() {
  const { info, ...rest } = tokens()
  const data = Float32Array.from({ length: 24 }, (_, i) => i / 3 - 1)
  return { ...rest, data, channels: 3, info: { ...info, codebookSize: null } }
}

test('tokens come back as they were', async () => {
  assert.deepEqual(await loadTokens(await saveTokens(tokens())), tokens())
  assert.deepEqual(await loadTokens(await saveTokens(latents())), latents())
  const many = { ...tokens(), info: { ...tokens().info, codebookSize: 2 ** 20 } }
  many.data[0] = 2 ** 20 - 1
  assert.deepEqual(await loadTokens(await saveTokens(many)), many)
})

test('what a description leaves out is not written', async () => {
  const { resampling, ...info } = tokens().info
  const found = await loadTokens(await saveTokens({ ...tokens(), info: /** @type {any} */ (info) }))
  assert.deepEqual(found.info, { ...info, resampling: null })
})

test('half precision keeps eleven bits, and padding keeps timestamps aligned', async () => {
  const file = await saveTokens(latents(), { half: true })
  const found = await loadTokens(file)
  found.data.forEach((value, i) => assert.ok(Math.abs(value - latents().data[i]) <= 2 ** -9))
  const one = { ...latents(), data: latents().data.slice(0, 3), length: 1, h: 1, w: 1, pts: BigInt64Array.of(7n) }
  one.info = { ...one.info, numFrames: 1 }
  const padded = await saveTokens(one, { half: true })
  assert.equal(padded.length, 2048 + 8 + 8)
  assert.match(new TextDecoder().decode(padded), /"padding":\{"dtype":"U8","shape":\[2\]/)
  assert.deepEqual((await loadTokens(padded)).pts, one.pts)
})

test('every half comes back, and rounding is half to even', () => {
  for (let bits = 0; bits < 65536; bits++) {
    if (!Number.isNaN(fromHalf(bits))) assert.equal(toHalf(fromHalf(bits)), bits)
  }
  assert.deepEqual([65519, 65520, 1 + 2 ** -11, 1 + 3 * 2 ** -11, 2 ** -25, 3 * 2 ** -25, 0.1].map(toHalf),
    [0x7bff, 0x7c00, 0x3c00, 0x3c02, 0, 2, 0x2e66])
})

test('rates are quotients in lowest terms', () => {
  const rates = [25, '50/2', 29.97, 24000 / 1001, 1 / 3, '30000/1001', 59.94005994005994]
  const texts = ['25', '25', '2997/100', '24000/1001', '1/3', '30000/1001', '60000/1001']
  assert.deepEqual(rates.map(toFraction), texts)
  for (const wrong of [0, -1, NaN, Infinity, 'x', '1/0', 1e12]) assert.throws(() => toFraction(wrong), InputError)
})

test('what does not fit its description is not written', async () => {
  const { info, ...rest } = tokens()
  /** @type {[Tokens, RegExp][]} */
  const wrong = [
    [{ ...rest, info: { ...info, numFrames: 6 } }, /need 3 latents/],
    [{ ...rest, info, data: rest.data.map((n) => n - 1) }, /0..98, got -1/],
    [{ ...rest, info, data: Float32Array.from(rest.data) }, /Int32Array/],
    [{ ...rest, info, data: rest.data.slice(1) }, /8 numbers/],
    [{ ...rest, info, pts: BigInt64Array.of(1n) }, /timestamps/],
    [{ ...rest, info, pts: BigInt64Array.of(0n, 1n, 2n, 3n, 3n) }, /do not rise/],
    [{ ...rest, info: { ...info, name: 'x'.repeat(301) } }, /printable/],
    [{ ...rest, info: { ...info, fps: '1.5' } }, /fps/],
  ]
  for (const [value, message] of wrong) {
    await assert.rejects(saveTokens(value), (error) => {
      assert.match(/** @type {Error} */ (error).message, message)
      return error instanceof InputError
    })
  }
  const large = { ...latents(), data: latents().data.map((x, i) => (i === 3 ? 70000 : x)) }
  await assert.rejects(saveTokens(large, { half: true }), /too large for float16/)
})

/**
 * A file whose header was changed.
 * @param {(header: any) => void} change
 */
async function altered(change) {
  const file = await saveTokens(tokens())
  const header = JSON.parse(new TextDecoder().decode(file.subarray(8, 2048)))
  change(header)
  file.fill(32, 8, 2048)
  file.set(new TextEncoder().encode(JSON.stringify(header)), 8)
  return file
}

/**
 * @param {number} frames
 * @param {number} latents
 */
const groups = (frames, latents, sharedFrames = 0, sharedLatents = 0) =>
  `frames=${frames} latents=${latents} shared_frames=${sharedFrames} shared_latents=${sharedLatents} whole=0`

test('groups, what cuts keep, a seed and a scale come back', async () => {
  const grouped = { frames: 5, latents: 2, sharedFrames: 0, sharedLatents: 0, whole: false }
  const cuts = { exact: { first: 3, multiple: 2 }, surplus: true }
  const info = { ...latents().info, groups: grouped, sampled: 2 ** 32 - 1, normalized: true, ...cuts }
  assert.deepEqual(await loadTokens(await saveTokens({ ...latents(), info })), { ...latents(), info })
})

test('log variances are read past', async () => {
  const sound = await saveTokens(latents())
  const header = JSON.parse(new TextDecoder().decode(sound.subarray(8, 2048)))
  const [data, pts] = [sound.subarray(2048, 2048 + 96), sound.subarray(2048 + 96)]
  const content = Buffer.concat([data, data, pts])
  header.log_variance = { ...header.latent, data_offsets: [96, 192] }
  header.pts.data_offsets = [192, 232]
  header.__metadata__.checksum = `sha256:${await sha256(new Uint8Array(content))}`
  const file = () => {
    const room = Buffer.alloc(8)
    const text = Buffer.from(JSON.stringify(header))
    room.writeBigUInt64LE(BigInt(text.length))
    return new Uint8Array(Buffer.concat([room, text, content]))
  }
  assert.deepEqual(await loadTokens(file()), latents())
  header.log_variance.shape = [2, 12]
  await assert.rejects(loadTokens(file()), /log_variance is not of the type and shape of the latents/)
})

test('files of version 2 are read, and written as version 3', async () => {
  const own = { frames: 8, latents: 2, sharedFrames: 0, sharedLatents: 0, whole: true }
  for (const [file, name, groups] of /** @type {const} */ ([
    ['fsq-causal', 'fsq-4096', null],
    ['fsq-noncausal', 'fsq-262144-noncausal', own],
    ['kl-causal-v1.1', 'kl-4chn-v1.1', null],
  ])) {
    const old = await loadTokens(new Uint8Array(readFileSync(place(`${KIT}/version-2/${file}.tokens.safetensors`))))
    assert.deepEqual([old.info.family, old.info.name, old.info.groups], ['vidtok', name, groups])
    assert.deepEqual([old.info.length, old.info.sampled, old.info.normalized], [{ first: 0, multiple: 4 }, null, false])
    const written = await saveTokens(old)
    assert.match(new TextDecoder().decode(written.subarray(8, 2048)), /"format_version":"3"/)
    assert.deepEqual(await loadTokens(written), old)
  }
  const change = (/** @type {any} */ h) => {
    const { family, name, length, ...rest } = h.__metadata__
    h.__metadata__ = { ...rest, variant: name, gop: '2', format_version: '2' }
  }
  const grouped = { frames: 5, latents: 2, sharedFrames: 0, sharedLatents: 0, whole: false }
  assert.deepEqual((await loadTokens(await altered(change))).info, { ...tokens().info, groups: grouped })
  await assert.rejects(altered((h) => change(h) ?? (h.__metadata__.window = '4')).then(loadTokens), /one with a gop/)
})

test('a damaged file is refused', async () => {
  const sound = await saveTokens(tokens())
  const flipped = sound.slice()
  flipped[2050] ^= 1
  /** @type {[Uint8Array<ArrayBuffer> | ((header: any) => void), RegExp][]} */
  const wrong = [
    [new Uint8Array(3), /no token file/],
    [new Uint8Array(100).fill(255), /truncated or no token file/],
    [sound.slice(0, 1000), /truncated/],
    [sound.slice(0, -1), /truncated/],
    [flipped, /checksum does not match/],
    [(h) => (h.__metadata__.format = 'pt'), /not of tokens/],
    [(h) => (h.__metadata__.format_version = '9'), /token format '9'/],
    [(h) => delete h.__metadata__.skip, /lacks skip/],
    [(h) => (h.__metadata__.num_frames = '1e3'), /num_frames/],
    [(h) => (h.__metadata__.height = '99999999'), /height/],
    [(h) => (h.__metadata__.front_frames = '4'), /front_frames is '4'/],
    [(h) => (h.__metadata__.look_ahead = '4'), /look_ahead is '4'/],
    [(h) => (h.__metadata__.length = 'first=0'), /length is 'first=0'/],
    [(h) => (h.__metadata__.length = 'first=0 multiple=0'), /multiple is '0'/],
    [(h) => (h.__metadata__.groups = groups(13, 3)), /do not fit each other/],
    [(h) => (h.__metadata__.groups = groups(13, 4, 13)), /do not fit each other/],
    [(h) => (h.__metadata__.groups = groups(13, 4, 0, 4)), /do not fit each other/],
    [(h) => (h.__metadata__.groups = groups(70000, 17501)), /frames is '70000'/],
    [(h) => (h.__metadata__.groups = 'frames=4'), /groups are 'frames=4'/],
    [(h) => (h.__metadata__.sampled = '1'), /neither drawn from a posterior nor scaled/],
    [(h) => (h.__metadata__.normalized = '2'), /normalized is '2'/],
    [(h) => (h.__metadata__.last_duration = '0'), /last_duration is '0'/],
    [(h) => (h.__metadata__.display = 'x'), /describes no picture/],
    [(h) => (h.__metadata__.resampling = 'x'.repeat(301)), /resampling of __metadata__ is .*, not short, printable text/],
    [(h) => (h.__metadata__.resampling = '\x1b[2J'), /resampling .* printable/],
    [(h) => (h.__metadata__.resampling = 1), /resampling .* printable/],
    [(h) => (h.__metadata__.checksum = 'sha256:x'), /no SHA-256/],
    [(h) => (h.indices.shape = [4, 2, 2]), /size of its shape/],
    [(h) => (h.indices.dtype = 'F16'), /do not go with/],
    [(h) => (h.indices.data_offsets = [0, 1]), /size of its shape/],
    [(h) => (h.indices.shape = [2 ** 53, 2 ** 53]), /list of at most 4 sizes/],
    [(h) => (h.pts.data_offsets = [24, 64]), /overlap or leave gaps/],
    [(h) => (h.log_variance = h.indices), /overlap/],
    [(h) => (h.more = h.pts), /either latents or indices/],
    [(h) => delete h.indices, /either latents or indices/],
    [(h) => (h.pts = { dtype: 'I64', shape: [1, 5], data_offsets: [16, 56] }), /timestamps are no I64/],
  ]
  for (const [change, message] of wrong) {
    const file = typeof change === 'function' ? await altered(change) : change
    await assert.rejects(loadTokens(file), (error) => {
      assert.match(/** @type {Error} */ (error).message, message)
      return error instanceof TokenFileError
    })
  }
})

test('other writers may use U32 and another header', async () => {
  const numbers = new Uint8Array(8 + 8)
  const view = new DataView(numbers.buffer)
  view.setUint32(0, 7, true)
  view.setUint32(4, 8, true)
  const metadata = {
    ...{ format: 'vidtok-tokens', format_version: '3', family: 'f', name: 'n', weights_sha256: 'cd'.repeat(32), skip: '0' },
    length: 'first=0 multiple=1',
    ...{ num_frames: '1', height: '1', width: '2', time_factor: '1', front_frames: '0', look_ahead: '0' },
    ...{ codebook_size: '100000', precision: 'fp32', provider: '', checksum: `sha256:${await sha256(numbers)}` },
  }
  const header = JSON.stringify({
    pts: { dtype: 'I64', shape: [1], data_offsets: [8, 16] },
    indices: { shape: [1, 1, 2], dtype: 'U32', data_offsets: [0, 8] },
    __metadata__: metadata,
  })
  const file = new Uint8Array(8 + header.length + 16)
  new DataView(file.buffer).setBigUint64(0, BigInt(header.length), true)
  file.set(new TextEncoder().encode(header), 8)
  file.set(numbers, 8 + header.length)
  const found = await loadTokens(file)
  assert.deepEqual([...found.data], [7, 8])
  assert.equal(found.info.groups, null)
})
