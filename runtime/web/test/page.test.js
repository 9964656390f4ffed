/** Parts of the page that need no browser. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { commands, word } from '../page/commands.js'
import { tokenize } from '../page/tokenize.js'
import { DecodedVideo } from '../page/video_decoded.js'

test('a job that was cancelled before it begins is none', async () => {
  let started = 0
  class Worker {
    constructor() {
      started++
    }
    postMessage() {}
  }
  Object.assign(globalThis, { Worker })
  const cancelled = AbortSignal.abort(new Error('cancelled'))
  await assert.rejects(tokenize(/** @type {any} */ ({}), /** @type {any} */ ({}), cancelled), /cancelled/)
  assert.equal(started, 0)
})

test('a start behind the last frame is said, however near the end of the clip', async () => {
  async function* frames(/** @type {any} */ { start, height, width }) {
    for (let i = 0; i < 48; i++) {
      if (i / 24 < start) continue
      yield { data: new Uint8Array(height * width * 3), pts: BigInt(i), duration: 1n }
    }
  }
  const reader = { height: 8, width: 8, fps: 24, duration: 2, timeBase: '1/24', frames }
  const video = new DecodedVideo(/** @type {any} */ (reader))
  const capture = (/** @type {number} */ start) =>
    video.capture({ short: 8, frames: 9, fps: null, start }, new AbortController().signal, () => {})
  assert.equal((await capture(1.95)).frames, 1)
  await assert.rejects(capture(1.99), /no frame begins at 1.99 s or later: the clip ends at 2.0 s; begin before that/)
  await assert.rejects(capture(2), /^Error: the clip ends at 2.0 s; begin before that/)
})

test('names in commands are one word each, quoted only where a shell needs it', () => {
  const clip = { width: 12, height: 10, fps: 29.97 }
  assert.equal(
    commands('été-1.b', clip, 'tiny-kl-16chn'),
    'vidtok-run encode été-1.b.rgb --raw 12x10:rgb24:29.97 --bundle tiny-kl-16chn -o same.safetensors\n' +
      'vidtok-run decode été-1.b.safetensors --bundle tiny-kl-16chn -o été-1.b.mp4',
  )
  const odd = ['a;touch x;', "it's", 'my clip', '$(touch x)', '`touch x`', '"', 'a\\', '~', '#a', '*', '=ls', '!1', '']
  const line = odd.map(word).join(' ')
  const { stdout } = spawnSync('sh', ['-c', `printf '%s\\n' ${line}`], { encoding: 'utf8' })
  assert.deepEqual(stdout.split('\n').slice(0, -1), odd)
  assert.deepEqual([word('-o.rgb'), word('a\x1b[201~\nb')], ['./-o.rgb', "'a_[201~_b'"])
})
