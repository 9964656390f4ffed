#!/usr/bin/env node
/** File to file: raw video to tokens and back. */
import { constants } from 'node:os'
import { parseArgs } from 'node:util'
import { Tokenizer, VidtokError, concat, loadTokens, saveTokens } from '../src/index.js'
import { PartFile, RawReader, pixelType, readWhole } from './raw.mjs'

/** @import { LoadOptions } from '../src/index.js' */

const HELP = `usage: vidtok encode BUNDLE CLIP.rgb TOKENS.safetensors --size WxH [options]
       vidtok decode BUNDLE TOKENS.safetensors CLIP.rgb [options]

BUNDLE is the folder of a bundle. Clips are raw RGB: .rgb holds bytes, .f32 little-endian float32 in -1..1.

  --size WxH         of the clip, in pixels
  --fps RATE         frames a second, like 30 or 30000/1001
  --gop N            start anew every N latents, where the model does not by itself
  --window N         start anew every N frames, where the model allows other lengths than its own
  --normalize        apply the release's mean and scale of latents
  --half             store latents as float16
  --pushes N,N,...   frames (or latents) to push at a time, until the clip ends; changes no result
  --provider NAME    cpu (the default), wasm or webgpu
  --threads N        CPU threads
  --max-tile N       pixels along an axis that are computed at once at most: less memory, the same result
  --force            replace what is there
  --help             this text

example: vidtok encode bundles/tiny-kl-16chn clip.rgb clip.safetensors --size 256x192 --fps 25
`

/** Thrown for a fault of the call. */
class UsageError extends Error {}

const OPTIONS = /** @type {const} */ ({
  size: { type: 'string' },
  fps: { type: 'string' },
  gop: { type: 'string' },
  window: { type: 'string' },
  normalize: { type: 'boolean', default: false },
  half: { type: 'boolean', default: false },
  pushes: { type: 'string' },
  provider: { type: 'string' },
  threads: { type: 'string' },
  'max-tile': { type: 'string' },
  force: { type: 'boolean', default: false },
  help: { type: 'boolean' },
})

/** @typedef {ReturnType<typeof parse>['values']} Values */

/** @param {string[]} args */
function parse(args) {
  try {
    return parseArgs({ args, options: OPTIONS, allowPositionals: true })
  } catch (error) {
    throw new UsageError(/** @type {Error} */ (error).message)
  }
}

/**
 * Whole numbers from 1 out of text like `1,4,7`.
 * @param {string} name
 * @param {string} text
 * @param {string} [separator]
 */
function numbers(name, text, separator = ',') {
  const found = text.split(separator).map((n) => (/^[1-9][0-9]{0,8}$/.test(n) ? Number(n) : 0))
  if (!found.every(Boolean)) throw new UsageError(`--${name} is '${text}', not whole numbers from 1`)
  return found
}

/**
 * @param {Values} values
 * @param {'threads' | 'gop' | 'window' | 'max-tile'} name
 */
function numberOf(values, name) {
  const text = values[name]
  if (text === undefined) return undefined
  const found = numbers(name, text)
  if (found.length > 1) throw new UsageError(`--${name} is '${text}', not one whole number`)
  return found[0]
}

/**
 * Sizes of pushes until `total` is reached: those asked for, and then the rest at once; or the default again and again.
 * @param {string | undefined} asked
 * @param {number} usual
 * @param {number} total
 */
function* pushes(asked, usual, total) {
  const sizes = asked === undefined ? [] : numbers('pushes', asked)
  for (let done = 0, i = 0; done < total; i++) {
    const next = asked === undefined ? usual : (sizes[i] ?? total)
    const size = Math.min(next, total - done)
    yield size
    done += size
  }
}

/**
 * @param {string} what
 * @param {number} done
 * @param {number} total
 */
function report(what, done, total) {
  if (process.stderr.isTTY) process.stderr.write(`\r${what} ${done}/${total}${done === total ? '\n' : ''}`)
}

/**
 * @param {string} bundle
 * @param {Values} values
 * @param {'encoder' | 'decoder'} role
 */
function load(bundle, values, role) {
  const provider = /** @type {LoadOptions['provider']} */ (values.provider)
  const [threads, maxTile] = [numberOf(values, 'threads'), numberOf(values, 'max-tile')]
  return Tokenizer.load(bundle, { provider, threads, maxTile, roles: [role] })
}

/**
 * @param {string} bundle
 * @param {string} clip
 * @param {string} out
 * @param {Values} values
 */
async function encode(bundle, clip, out, values) {
  const [width, height, ...rest] = numbers('size', values.size ?? '', 'x')
  if (!height || rest.length) throw new UsageError(`--size is '${values.size}', not like 256x192`)
  const reader = new RawReader(clip, height, width)
  const file = new PartFile(out, values.force)
  const tok = await load(bundle, values, 'encoder')
  const options = { gop: numberOf(values, 'gop'), window: numberOf(values, 'window'), normalize: values.normalize }
  const numFrames = reader.frames
  const info = tok.describe({ numFrames, height, width, fps: values.fps, ...options })
  const stream = tok.encoder(height, width, options)
  const results = []
  for (const size of pushes(values.pushes, stream.callSize, numFrames)) {
    results.push(await stream.push(reader.read(size)))
    report('encode', stream.numFrames, numFrames)
  }
  results.push(await stream.finish())
  file.write(await saveTokens({ ...concat(results), info }, { half: values.half }))
  file.commit()
}

/**
 * @param {string} bundle
 * @param {string} source
 * @param {string} out
 * @param {Values} values
 */
async function decode(bundle, source, out, values) {
  const dtype = pixelType(out)
  const tokens = await loadTokens(readWhole(source))
  const file = new PartFile(out, values.force)
  const tok = await load(bundle, values, 'decoder')
  const made = tokens.info.precision
  if (made !== tok.precision) {
    process.stderr.write(
      `vidtok: warning: tokens made in ${made} are decoded in ${tok.precision}, ` +
        'which gives slightly other frames\n',
    )
  }
  const stream = tok.decoderOf(tokens.info, { dtype })
  const row = tokens.data.length / tokens.length
  let done = 0
  for (const length of pushes(values.pushes, stream.callSize, tokens.length)) {
    const data = tokens.data.subarray(done * row, (done + length) * row)
    file.write((await stream.push({ ...tokens, data, length })).data)
    done += length
    report('decode', done, tokens.length)
  }
  file.write((await stream.finish()).data)
  file.commit()
}

async function main() {
  const { values, positionals } = parse(process.argv.slice(2))
  if (values.help) return void process.stdout.write(HELP)
  const [command, ...places] = positionals
  const work = { encode, decode }[command]
  if (!work) throw new UsageError(`the command is encode or decode, got '${command ?? ''}'`)
  if (places.length !== 3) throw new UsageError(`${command} needs BUNDLE, a file to read and one to write`)
  await work(places[0], places[1], places[2], values)
}

// By `exit`, so that no part is left.
for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
  process.on(signal, () => process.exit(128 + constants.signals[signal]))
}
try {
  await main()
} catch (error) {
  const ours = error instanceof VidtokError || error instanceof UsageError
  if (!ours && !(error instanceof Error && 'syscall' in error)) throw error
  process.stderr.write(`vidtok: ${error.message}${error instanceof UsageError ? '; see vidtok --help' : ''}\n`)
  process.exitCode = error instanceof UsageError ? 2 : 1
}
