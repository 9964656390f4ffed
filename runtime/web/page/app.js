/** The page: what is chosen, and what runs. */

import { part } from './part.js'
import { Result } from './result.js'
import { CameraSource } from './source_camera.js'
import { ImageSource } from './source_images.js'
import { TestSource } from './source_test.js'
import { VideoSource } from './source_video.js'
import { tokenize } from './tokenize.js'

/** @typedef {TestSource | ImageSource | VideoSource | CameraSource} Source */

// WASM has 4 GB: frames with more pixels are computed in tiles, whose sides are this long at most.
const [MAX_WHOLE, MAX_TILE] = [512 * 256, 512]
const STAGES = { load: 'Loading engine and bundle', encode: 'Encoding', decode: 'Decoding' }

/** @type {Source | null} */
let source = null
let ready = false // whether the source is open
/** @type {AbortController | null} */
let running = null
/** @type {Record<'wasm' | 'webgpu' | 'video', { module: string }> | null} */
let packages = null
const result = new Result()

const number = (/** @type {string} */ id) => Number(part(id).value)

/** @param {'wasm' | 'webgpu' | 'video'} name */
const addressOf = (name) => new URL(`../npm/${packages?.[name].module}`, import.meta.url).href

/** @param {string} text */
function fail(text) {
  part('error').textContent = text
}

/**
 * @param {string} text
 * @param {boolean} working whether to show that it goes on
 */
function say(text, working = false) {
  part('status').textContent = text
  part('work').hidden = !working
  part('progress').removeAttribute('value')
  part('count').textContent = ''
}

/**
 * @param {number} done
 * @param {number} total
 */
function progress(done, total) {
  Object.assign(part('progress'), { max: total, value: done })
  part('count').textContent = `${done} of ${total} frames`
}

const canRun = () => !running && ready && Boolean(part('bundle').value)

/** Both stay in reach of the keyboard: a button that is disabled while it has the focus loses it. */
function buttons() {
  part('run').ariaDisabled = String(!canRun())
  part('cancel').ariaDisabled = String(!running)
}

function cancel() {
  running?.abort()
}

/** @param {() => Source} make */
async function choose(make) {
  cancel()
  source?.stop()
  ready = false
  buttons()
  fail('')
  say('Opening', true)
  const chosen = (source = make())
  try {
    if ('open' in chosen) await chosen.open()
    if (source !== chosen) return // another was chosen meanwhile
    ready = true
    part('source').textContent = `Chosen: ${chosen.label}`
    say('Ready.')
  } catch (error) {
    if (source !== chosen) return
    chosen.stop()
    part('source').textContent = 'Nothing chosen yet.'
    say('Choose a clip first.')
    fail(/** @type {Error} */ (error).message)
  }
  buttons()
}

/** @param {() => Source} make */
function chooseOther(make) {
  part('file').value = ''
  choose(make)
}

/** @param {FileList | null | undefined} list */
function chooseFiles(list) {
  const files = [...(list ?? [])]
  if (!files.length) return
  const pictures = files.every((file) => file.type.startsWith('image/'))
  if (!pictures && files.length > 1) fail('Choose one video, or pictures only.')
  else choose(() => (pictures ? new ImageSource(files) : new VideoSource(files[0], part('preview'), addressOf('video'))))
}

async function run() {
  if (!source || !canRun()) return
  const controller = (running = new AbortController())
  const { signal } = controller
  const [bundle, provider, threads] = [part('bundle').value, part('engine').value, number('threads')]
  buttons()
  fail('')
  say('Reading the clip', true)
  try {
    const fps = part('fps').value ? number('fps') : null
    const wanted = { short: number('short'), frames: number('frames'), fps, start: number('start') }
    const clip = await source.capture(wanted, signal, progress)
    result.open(clip, source.name)
    const maxTile = clip.height * clip.width > MAX_WHOLE ? MAX_TILE : undefined
    const [module, library] = [addressOf(provider), addressOf('video')]
    const job = { bundle, provider, module, library, threads, maxTile, clip }
    const reports = {
      stage: (/** @type {{ stage: keyof typeof STAGES }} */ { stage }) => say(STAGES[stage], true),
      progress: (/** @type {{ done: number, total: number }} */ { done, total }) => progress(done, total),
      tokens: result.tokens.bind(result),
      video: result.video.bind(result),
      /** @param {{ data: Uint8Array, first: number, frames: number }} report */
      frames(report) {
        result.frames(report)
        progress(report.first + report.frames, clip.frames)
      },
      done: (/** @type {import('./worker.js').Figures} */ figures) => say(result.finish(figures, job)),
    }
    await tokenize(job, reports, signal)
  } catch (error) {
    say(signal.aborted ? 'Cancelled.' : 'Stopped.')
    if (!signal.aborted) fail(/** @type {Error} */ (error).message)
  }
  running = null
  buttons()
}

/** What this browser has, and what is served. */
async function start() {
  const [bundles, listed, adapter] = await Promise.all([
    fetch('../bundles.json').then((answer) => answer.json()),
    fetch('packages.json').then((answer) => answer.json()),
    /** @type {any} */ (navigator).gpu?.requestAdapter().catch(() => null) ?? null,
  ])
  packages = listed
  for (const name of bundles) part('bundle').append(new Option(name))
  const most = crossOriginIsolated ? navigator.hardwareConcurrency : 1
  Object.assign(part('threads'), { max: most, value: Math.min(most, 8) })
  part('engine').options[1].disabled = !adapter
  part('engine-note').textContent = [
    crossOriginIsolated ? [] : 'One thread only: the browser gives more to pages of this machine (localhost) alone.',
    adapter ? 'What WebGPU cannot do runs in WASM.' : 'This browser offers no WebGPU.',
  ]
    .flat()
    .join(' ')
  buttons()
}

part('form').addEventListener('submit', (/** @type {Event} */ event) => {
  event.preventDefault()
  run()
})
part('cancel').addEventListener('click', cancel)
part('file').addEventListener('change', () => chooseFiles(part('file').files))
part('test').addEventListener('click', () => chooseOther(() => new TestSource()))
part('camera').addEventListener('click', () => chooseOther(() => new CameraSource(part('preview'))))
part('engine').addEventListener('change', () => {
  part('threads').disabled = part('engine').value !== 'wasm'
})
addEventListener('dragover', (event) => {
  event.preventDefault()
  part('drop').classList.add('over')
})
addEventListener('dragleave', () => part('drop').classList.remove('over'))
addEventListener('drop', (event) => {
  event.preventDefault()
  part('drop').classList.remove('over')
  chooseFiles(event.dataTransfer?.files)
})
start().catch((error) => fail(`The page did not start: ${error.message}`))
