/** Raw video files: RGB pixels one after the other and nothing else, `.rgb` as bytes, `.f32` as float32 in -1..1. */
import { closeSync, existsSync, openSync, readSync, renameSync, rmSync, statSync, writeSync } from 'node:fs'
import { InputError } from '../src/index.js'

/** @import { Frames, PixelType } from '../src/index.js' */

/**
 * What a file's name says about its numbers; throws InputError.
 * @param {string} path
 * @returns {PixelType}
 */
export function pixelType(path) {
  if (path.endsWith('.rgb')) return 'uint8'
  if (path.endsWith('.f32')) return 'float32'
  throw new InputError(`${path} ends neither in .rgb (bytes) nor in .f32 (float32)`)
}

/** Frames of a raw file, read as they are asked for. */
export class RawReader {
  /**
   * @param {string} path
   * @param {number} height
   * @param {number} width
   */
  constructor(path, height, width) {
    this.bytes = pixelType(path) === 'uint8'
    this.height = height
    this.width = width
    this.row = height * width * 3 * (this.bytes ? 1 : 4)
    const size = statSync(path).size
    this.frames = Math.floor(size / this.row)
    if (size % this.row || !this.frames) {
      throw new InputError(`${path} has ${size} bytes, which are no whole frames of ${width}x${height}; check --size`)
    }
    this.file = openSync(path, 'r')
  }

  /**
   * The next frames.
   * @param {number} frames
   * @returns {Frames}
   */
  read(frames) {
    const content = new Uint8Array(frames * this.row)
    if (readSync(this.file, content) !== content.length) throw new InputError('the clip became shorter; start again')
    const data = this.bytes ? content : new Float32Array(content.buffer)
    return { data, frames, height: this.height, width: this.width }
  }
}

/** A file that appears under its name only when it is complete. */
export class PartFile {
  /**
   * @param {string} path
   * @param {boolean} force replace what is there
   */
  constructor(path, force) {
    if (!force && existsSync(path)) throw new InputError(`${path} exists already; give --force to replace it`)
    this.path = path
    this.part = `${path}.${process.pid}.part`
    this.file = openSync(this.part, 'wx')
    process.on('exit', () => rmSync(this.part, { force: true }))
  }

  /** @param {Frames['data']} data */
  write({ buffer, byteOffset, byteLength }) {
    for (let done = 0; done < byteLength; ) {
      done += writeSync(this.file, new Uint8Array(buffer, byteOffset + done, byteLength - done))
    }
  }

  commit() {
    closeSync(this.file)
    renameSync(this.part, this.path)
  }
}
