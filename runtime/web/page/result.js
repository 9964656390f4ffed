/** What came of a clip: the four views, the figures, the files and the commands that do the same. */

import { commands } from './commands.js'
import { part } from './part.js'
import { Player } from './player.js'
import { drawDifference, drawFrame, TokenMap } from './views.js'

/** @import { StreamSpec } from '../src/index.js' */
/** @import { Clip } from './clip.js' */
/** @import { Written } from './video_output.js' */
/** @import { Figures, Job, Latents } from './worker.js' */

export class Result {
  /** @type {Clip | null} */
  clip = null
  name = ''
  /** @type {TokenMap | null} */
  map = null
  /** @type {Uint8Array} */
  file = new Uint8Array()
  decoded = new Uint8Array()
  ready = 0 // frames decoded
  player = new Player({ button: part('play'), slider: part('frame'), note: part('frame-note') }, (t) => this.show(t))

  /**
   * A new clip; what came of the one before goes.
   * @param {Clip} clip
   * @param {string} name
   */
  open(clip, name) {
    this.clip = clip
    this.name = name
    this.map = null
    this.decoded = new Uint8Array(clip.data.length)
    this.ready = 0
    part('numbers').replaceChildren()
    part('result').hidden = false
    part('downloads').hidden = part('check').hidden = true
    part('tokens-note').textContent = 'Tokens'
    part('tokens').style.aspectRatio = `${clip.width} / ${clip.height}` // the padding of the edges is not shown
    this.player.open(clip.frames, clip.fps)
  }

  /** @param {{ tokens: Latents, file: Uint8Array, stream: StreamSpec }} report */
  tokens({ tokens, file, stream }) {
    this.file = file
    this.map = new TokenMap(tokens, stream)
    part('tokens-note').textContent = this.map.note
    this.player.draw()
  }

  /** @param {{ data: Uint8Array, first: number, frames: number }} report */
  frames({ data, first, frames }) {
    const { height, width } = /** @type {Clip} */ (this.clip)
    this.decoded.set(data, first * height * width * 3)
    this.ready = first + frames
    this.player.draw()
  }

  /** @param {{ written: Written }} report */
  video({ written }) {
    const { height, width } = /** @type {Clip} */ (this.clip)
    const made = 'file' in written
    part('save-video').hidden = !made
    if (made) offer('save-video', written.file, `${this.name}.mp4`)
    part('video-note').textContent = !made
      ? `There is no MP4 of the reconstruction: ${written.reason}.`
      : written.codec === 'H.264'
        ? 'The MP4 holds H.264.'
        : `The MP4 holds ${written.codec}, which some players lack: this browser writes no H.264 of ${width} x ${height}.`
  }

  /** @param {number} t frame */
  show(t) {
    const clip = /** @type {Clip} */ (this.clip)
    drawFrame(part('original'), clip, t)
    const decoded = t < this.ready ? { ...clip, data: this.decoded } : null
    if (decoded) drawFrame(part('decoded'), decoded, t)
    if (decoded) drawDifference(part('difference'), clip, decoded, t)
    if (this.map) this.map.draw(part('tokens'), t)
    const empty = [...(decoded ? [] : ['decoded', 'difference']), ...(this.map ? [] : ['tokens'])]
    for (const id of empty) Object.assign(part(id), { width: clip.width, height: clip.height }) // clears it
  }

  /**
   * Figures, files and commands; returns one line that sums it up.
   * @param {Figures} figures
   * @param {Job} job
   */
  finish({ loading, encoding, decoding, psnr, provider, bits }, { bundle, threads, maxTile }) {
    const clip = /** @type {Clip} */ (this.clip)
    const { data, frames, height, width } = clip
    const perPixel = (bits / (frames * height * width)).toFixed(4)
    list({
      Clip: `${frames} frames, ${width} x ${height}`,
      PSNR: `${psnr.toFixed(2)} dB`,
      'Bits per pixel': perPixel,
      'Token file': `${this.file.length.toLocaleString('en')} bytes`,
      Encoding: `${(frames / encoding).toFixed(1)} frames/s`,
      Decoding: `${(frames / decoding).toFixed(1)} frames/s`,
      'Loading took': `${loading.toFixed(2)} s`,
      Engine: provider === 'wasm' ? `WASM, ${threads} thread${threads > 1 ? 's' : ''}` : 'WebGPU',
      'Computed in': maxTile === undefined ? 'whole frames' : `tiles of at most ${maxTile} x ${maxTile}`,
    })
    offer('save-tokens', this.file, `${this.name}.safetensors`)
    offer('save-frames', data, `${this.name}.rgb`)
    part('commands').textContent = commands(this.name, clip, bundle)
    part('downloads').hidden = part('check').hidden = false
    return `Done: ${frames} frames, ${psnr.toFixed(2)} dB, ${perPixel} bits per pixel.`
  }
}

/** @param {Record<string, string>} rows */
function list(rows) {
  const made = Object.entries(rows).map(([term, value]) => {
    const row = document.createElement('div')
    row.append(document.createElement('dt'), document.createElement('dd'))
    row.children[0].textContent = term
    row.children[1].textContent = value
    return row
  })
  part('numbers').replaceChildren(...made)
}

/**
 * Let a link save these bytes.
 * @param {string} id
 * @param {Uint8Array} bytes
 * @param {string} name
 */
function offer(id, bytes, name) {
  const link = part(id)
  if (link.href) URL.revokeObjectURL(link.href)
  link.href = URL.createObjectURL(new Blob([/** @type {BlobPart} */ (bytes)]))
  link.download = name
}
