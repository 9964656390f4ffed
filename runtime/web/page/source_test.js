/** A made-up clip in whole numbers, so that it is the same in every browser. */

import { USUAL_FPS } from './clip.js'

/** @import { Clip, Wanted } from './clip.js' */

/**
 * A triangle wave of period 256 and height 0..127.
 * @param {number} x
 */
const wave = (x) => ((x & 255) < 128 ? x & 255 : 255 - (x & 255))

/** Drifting colours, a disc that bounces and a striped square that crosses the picture. */
export class TestSource {
  label = 'test clip'
  name = 'test'

  /**
   * @param {Wanted} wanted
   * @param {AbortSignal} signal
   * @param {(done: number, total: number) => void} progress
   * @returns {Promise<Clip>}
   */
  async capture({ short, frames, fps }, signal, progress) {
    const [height, width] = [short, Math.round((short * 16) / 9)]
    const data = new Uint8Array(frames * height * width * 3)
    for (let t = 0, at = 0; t < frames; t++) {
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++, at += 3) paint(data, at, t, (x * 256) / short | 0, (y * 256) / short | 0)
      }
      progress(t + 1, frames)
      await new Promise((resolve) => setTimeout(resolve)) // the page stays alive
      signal.throwIfAborted()
    }
    return { data, frames, height, width, fps: fps ?? USUAL_FPS }
  }

  stop() {}
}

/**
 * Colour of the point x, y (256 is the picture's height) at frame t.
 * @param {Uint8Array} data
 * @param {number} at
 * @param {number} t
 * @param {number} x
 * @param {number} y
 */
function paint(data, at, t, x, y) {
  const [discX, discY] = [100 + 2 * wave(3 * t), 60 + wave(5 * t)]
  const left = ((6 * t) % 560) - 100
  if ((x - discX) ** 2 + (y - discY) ** 2 < 40 ** 2) {
    data.set([235, 196, 60], at)
  } else if (x >= left && x < left + 90 && y >= 160 && y < 220) {
    data.set((x - left) % 30 < 15 ? [40, 60, 150] : [225, 225, 230], at)
  } else {
    const [light, warm] = [60 + wave((x >> 1) + 2 * t), wave(y - t) >> 1] // 251 with what is added, at most
    data.set([light + warm, light + 30, light + 64 - warm], at)
  }
}
