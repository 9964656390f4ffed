import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { InputError, MismatchError, Tokenizer, concat } from '../src/index.js'
import { slice } from '../src/items.js'
import { FSQ, KL, changed, clip, largestDifference, place } from './material.js'

/** @type {Tokenizer} */
let tok
before(async () => {
  tok = await Tokenizer.load(FSQ, { threads: 1 })
})
after(() => tok.dispose())

const video = clip(14, 20, 28)

test('pushes that are not awaited are taken in order', async () => {
  const whole = await tok.encode(video)
  const stream = tok.encoder(20, 28)
  const pushes = [3, 6, 14].map((stop, i) => stream.push(slice(video, [0, 3, 6][i], stop)))
  const parts = await Promise.all([...pushes, stream.finish()])
  assert.deepEqual(concat(parts).data, whole.data)
  assert.equal(stream.numFrames, 14)
})

test('two streams of one tokenizer do not disturb each other', async () => {
  const other = { ...video, data: video.data.map((byte) => 255 - byte) }
  const [a, b] = await Promise.all([tok.encode(video), tok.encode(other)])
  assert.deepEqual((await tok.encode(video)).data, a.data)
  assert.deepEqual((await tok.encode(other)).data, b.data)
  assert.notDeepEqual(a.data, b.data)
})

test('nothing in gives nothing out, in the shape of what comes', async () => {
  const stream = tok.encoder()
  const nothing = await stream.push({ ...video, data: new Uint8Array(0), frames: 0 })
  assert.deepEqual(nothing, { data: new Int32Array(0), length: 0, channels: 1, h: 3, w: 4 })
  assert.equal((await stream.finish()).length, 0)
  assert.equal((await stream.finish()).length, 0)
  const frames = await tok.decoder({ height: 20, width: 28 }).push(nothing)
  assert.deepEqual(frames, { data: new Uint8Array(0), frames: 0, height: 20, width: 28 })
  await assert.rejects(tok.encode({ ...video, data: new Uint8Array(0), frames: 0 }), /no frames/)
})

test('a decoder that is told nothing keeps the tail and the padding', async () => {
  const tokens = await tok.encode(video)
  const stream = tok.decoder()
  const frames = concat([await stream.push(tokens), await stream.finish()])
  assert.deepEqual([frames.frames, frames.height, frames.width], [4 * tokens.length - 3, 24, 32])
  const cut = await tok.decode(tokens)
  assert.deepEqual(frames.data.subarray(0, 28 * 3), cut.data.subarray(0, 28 * 3))
})

test('what a stream gave does not change with the array that was pushed', async () => {
  const tokens = await tok.encode(video)
  const latents = { ...tokens, data: tokens.data.slice() }
  const decode = async (between = () => {}) => {
    const stream = tok.decoder({ numFrames: 14, height: 20, width: 28 })
    const first = await stream.push(slice(latents, 0, 1))
    between()
    return concat([first, await stream.push(slice(latents, 1, latents.length)), await stream.finish()])
  }
  const wanted = await decode()
  assert.deepEqual(await decode(() => latents.data.fill(0, 0, tokens.data.length / tokens.length)), wanted)
})

test('a gop gives parts that decode on their own', async () => {
  const tokens = await tok.encode(video, { gop: 2 })
  assert.equal(tokens.length, 6) // 5 frames a group of 2 latents: 5, 5, and 4, which begin a second latent
  const whole = await tok.decode(tokens)
  assert.deepEqual([whole.frames, tokens.info.groups?.latents, tokens.info.groups?.frames], [14, 2, 5])
  const second = await tok.encode(slice(video, 5, 10))
  assert.deepEqual(slice(tokens, 2, 4).data, second.data)
  // Frames 6..9 of the clip: the group that starts at 5, of which one frame is skipped.
  const part = slice(tokens, 2, 4)
  const decoded = await tok.decode({ ...part, info: { ...tokens.info, numFrames: 3, skip: 1 } })
  assert.deepEqual(decoded, slice(whole, 6, 9))
  const pieces = tok.encoder(20, 28, { gop: 2 })
  const pushes = [4, 5, 11, 14].map((stop, i) => pieces.push(slice(video, [0, 4, 5, 11][i], stop)))
  assert.deepEqual(concat([...(await Promise.all(pushes)), await pieces.finish()]).data, tokens.data)
  const decoder = tok.decoder({ numFrames: 14, height: 20, width: 28, gop: 2 })
  assert.deepEqual(concat([await decoder.push(tokens), await decoder.finish()]), whole)
  await assert.rejects(tok.encode(video, { gop: 0 }), /from 1, got 0/)
})

test('windows of another length than the model has by itself', async () => {
  const other = await Tokenizer.load(place('tests/conformance/kit/fsq-noncausal'), { threads: 1 })
  const usual = await other.encode(video)
  assert.equal(usual.info.groups?.frames, 8)
  const tokens = await other.encode(video, { window: 4 })
  const groups = { frames: 4, latents: 1, sharedFrames: 0, sharedLatents: 0, whole: true }
  assert.deepEqual([tokens.info.groups, tokens.length], [groups, 4])
  assert.notDeepEqual(tokens.data, usual.data)
  const second = await other.encode(slice(video, 4, 8), { window: 12 })
  assert.deepEqual(slice(tokens, 1, 2).data, second.data)
  const whole = await other.decode(tokens)
  assert.deepEqual(slice(whole, 4, 8), await other.decode(second))
  const stream = other.decoder({ window: 4, numFrames: 14, height: 20, width: 28 })
  const pieces = [await stream.push(slice(tokens, 0, 3)), await stream.push(slice(tokens, 3, 4)), await stream.finish()]
  assert.deepEqual(concat(pieces), whole)
  assert.throws(() => other.encoder(20, 28, { window: 6 }), /a multiple of 4 frames up to 65536, got 6/)
  assert.throws(() => other.encoder(20, 28, { gop: 2 }), /leave gop out/)
  assert.throws(() => tok.encoder(20, 28, { window: 8 }), /no windows of another length/)
  assert.throws(() => tok.encoder(20, 28, { gop: 1, window: 8 }), /exclude each other/)
  const wrong = { ...tokens.info, groups: { ...groups, frames: 6 } }
  assert.throws(() => other.decoderOf(wrong), /do not count frames or codes/)
  await other.dispose()
})

test('a clip that was cut decodes from its skip on', async () => {
  const tokens = await tok.encode(video)
  const whole = await tok.decode(tokens)
  const part = await tok.decode({ ...tokens, info: { ...tokens.info, numFrames: 4, skip: 10 } })
  assert.deepEqual(part, slice(whole, 10, 14))
})

test('what does not fit is refused', async () => {
  const tokens = await tok.encode(video)
  const encoder = tok.encoder(20, 28)
  await assert.rejects(encoder.push(clip(1, 20, 20)), /all 28x20, got frames of 20x20/)
  await encoder.finish()
  await assert.rejects(encoder.push(video), /finished/)
  const decoder = tok.decoder({ numFrames: 20, height: 20, width: 28 })
  await assert.rejects(decoder.push({ ...tokens, data: Float32Array.from(tokens.data) }), /Int32Array/)
  await assert.rejects(decoder.push({ ...tokens, data: tokens.data.map(() => 32768) }), /0..32767, got 32768/)
  await assert.rejects(decoder.push({ ...tokens, h: 4, w: 3 }), /a height of 20 pixels needs 3 latents, got 4/)
  await decoder.push(tokens)
  await assert.rejects(decoder.finish(), /3 frames too early/)
  await assert.rejects(decoder.push(tokens), /finished/)
  assert.throws(() => tok.decoder({ dtype: /** @type {any} */ ('int8') }), InputError)
  for (const numFrames of [-1, 2.5, NaN]) assert.throws(() => tok.decoder({ numFrames, gop: 2 }), /numFrames must be a whole/)
  assert.throws(() => concat([]), InputError)
  assert.throws(() => concat([tokens, { ...tokens, w: 5 }]), /one kind/)
})

test('a push that is refused changes nothing', async () => {
  const floats = { ...video, data: Float32Array.from(video.data, (byte) => byte / 127.5 - 1) }
  const broken = { ...floats, data: floats.data.slice() }
  broken.data[broken.data.length - 1] = NaN // in the last frame
  for (const gop of [undefined, 2]) {
    const tokens = await tok.encode(floats, { gop })
    const encoder = tok.encoder(undefined, 28, { gop })
    const pieces = []
    for (const [start, stop] of [[0, 7], [7, 14]]) {
      await assert.rejects(encoder.push(clip(4, 24, 20)), InputError)
      await assert.rejects(encoder.push(broken), /NaN or infinite/)
      pieces.push(await encoder.push(slice(floats, start, stop)))
    }
    assert.deepEqual(concat([...pieces, await encoder.finish()]).data, tokens.data)
    const frames = await tok.decode(tokens)
    const decoder = tok.decoder({ numFrames: 14, height: 20, width: 28, gop })
    const wrong = { ...tokens, data: tokens.data.slice() }
    wrong.data[wrong.data.length - 1] = -1
    const parts = []
    for (const [start, stop] of [[0, 3], [3, tokens.length]]) {
      await assert.rejects(decoder.push({ ...tokens, h: 4, w: 3 }), InputError)
      await assert.rejects(decoder.push(wrong), /0..32767, got -1/)
      parts.push(await decoder.push(slice(tokens, start, stop)))
    }
    assert.deepEqual(concat([...parts, await decoder.finish()]), frames)
  }
})

test('tokens of other weights are refused, and both are named', async () => {
  const kl = await Tokenizer.load(KL, { threads: 1, roles: ['decoder'] })
  const tokens = await tok.encode(video)
  await assert.rejects(kl.decode(tokens), (error) => {
    for (const { family, name, weightsSha256 } of [tok.manifest, kl.manifest]) {
      assert.ok(/** @type {Error} */ (error).message.includes(`${family} ${name} with weights ${weightsSha256.slice(0, 12)}`))
    }
    return error instanceof MismatchError
  })
  const alike = { ...tokens.info, name: kl.manifest.name, weightsSha256: kl.manifest.weightsSha256 }
  assert.throws(() => kl.decoderOf(alike), /do not count frames or codes/)
  assert.throws(() => kl.encoder(), /the encoder is not loaded/)
  await kl.dispose()
  assert.throws(() => kl.decoder(), /dispose/)
})

test('longer and shorter calls give the same', async () => {
  const short = await Tokenizer.load(
    changed(KL, (m) => Object.assign(m.stream.encoder, { max: 4 }) && Object.assign(m.stream.decoder, { max: 1 })),
    { threads: 1 },
  )
  const long = await Tokenizer.load(KL, { threads: 1 })
  const [a, b] = [await short.encode(video), await long.encode(video)]
  assert.ok(largestDifference(a.data, b.data) < 1e-4)
  assert.ok(largestDifference((await short.decode(b)).data, (await long.decode(b)).data) <= 1)
  await Promise.all([short.dispose(), long.dispose()])
})
