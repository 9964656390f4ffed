/** Pictures as the frames of a clip: several files in the order of their names, or one animated file. */

import { fitted, Grabber, USUAL_FPS } from './clip.js'

/** @import { Clip, Wanted } from './clip.js' */

export class ImageSource {
  /** @param {File[]} files */
  constructor(files) {
    this.files = [...files].sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }))
    this.label = files.length > 1 ? `${files.length} pictures` : files[0].name
    this.name = this.files[0].name.replace(/\.[^.]*$/, '')
  }

  /**
   * @param {Wanted} wanted
   * @param {AbortSignal} signal
   * @param {(done: number, total: number) => void} progress
   * @returns {Promise<Clip>}
   */
  async capture({ short, frames, fps: asked, start }, signal, progress) {
    const fps = asked ?? USUAL_FPS
    const first = Math.round(start * fps)
    const pictures = (this.files.length === 1 && (await animation(this.files[0]))) || several(this.files)
    const count = Math.min(frames, pictures.count - first)
    if (count < 1) throw new Error(`of ${pictures.count} pictures none is left after second ${start}`)
    /** @type {Grabber | null} */
    let grabber = null
    for (let i = 0; i < count; i++) {
      signal.throwIfAborted()
      const picture = await pictures.at(first + i)
      grabber ??= new Grabber(fitted(picture.width, picture.height, short), count)
      grabber.add(picture)
      picture.close()
      progress(i + 1, count)
    }
    return /** @type {Grabber} */ (grabber).clip(fps)
  }

  stop() {}
}

/** @typedef {{ count: number, at: (i: number) => Promise<ImageBitmap> }} Pictures */

/**
 * @param {File[]} files
 * @returns {Pictures}
 */
function several(files) {
  return { count: files.length, at: (i) => bitmap(files[i], files[i].name) }
}

/**
 * The frames of an animated picture; null where it is none, or the browser cannot take it apart.
 * @param {File} file
 * @returns {Promise<Pictures | null>}
 */
async function animation(file) {
  if (!('ImageDecoder' in globalThis) || !(await ImageDecoder.isTypeSupported(file.type))) return null
  const decoder = new ImageDecoder({ data: await file.arrayBuffer(), type: file.type, colorSpaceConversion: 'none' })
  try {
    await decoder.completed
  } catch {
    throw new Error(`${file.name} is no picture that this browser can read`)
  }
  const count = decoder.tracks.selectedTrack?.frameCount ?? 1
  if (count < 2) return null
  return {
    count,
    async at(i) {
      const { image } = await decoder.decode({ frameIndex: i })
      try {
        return await bitmap(image, file.name)
      } finally {
        image.close()
      }
    },
  }
}

/**
 * Pixels as they are in the file: without its colour profile.
 * @param {ImageBitmapSource} picture
 * @param {string} name
 */
async function bitmap(picture, name) {
  try {
    return await createImageBitmap(picture, { colorSpaceConversion: 'none' })
  } catch {
    throw new Error(`${name} is no picture that this browser can read`)
  }
}
