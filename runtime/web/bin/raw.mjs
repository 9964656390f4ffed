/** Raw video files: RGB pixels one after the other and nothing else, `.rgb` as bytes, `.f32` as float32 in -1..1. */
import { randomBytes } from 'node:crypto'
import {
  closeSync,
  linkSync,
  lstatSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs'
import { basename } from 'node:path'
import { InputError } from '../src/index.js'

/** @import { Frames, PixelType } from '../src/index.js' */

const KEPT = 50 // bytes of a target's name in that of its part

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

/**
 * The size of a regular file in bytes; throws InputError where a pipe would be waited for and a device has no end.
 * @param {string} path
 */
function sizeOf(path) {
  const found = statSync(path)
  if (!found.isFile()) throw new InputError(`${path} is no file`)
  return found.size
}

/**
 * All bytes of a regular file; throws InputError.
 * @param {string} path
 */
export function readWhole(path) {
  sizeOf(path)
  return new Uint8Array(readFileSync(path))
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
    const size = sizeOf(path)
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

/**
 * A file that appears under its name only when it is complete. Without `force` the first of two writers to finish wins;
 * the other one's file does not appear. Throws InputError.
 */
export class PartFile {
  /**
   * @param {string} path
   * @param {boolean} force replace a regular file that is there; nothing else is replaced
   */
  constructor(path, force) {
    const there = lstatSync(path, { throwIfNoEntry: false })
    if (there && !force) throw exists(path)
    if (there?.isDirectory()) throw new InputError(`${path} is a folder; name a file`)
    if (there && !there.isFile()) {
      const what = there.isSymbolicLink() ? 'a link' : 'a device, pipe or socket'
      throw new InputError(`${path} is ${what}, and only regular files are replaced; name another output`)
    }
    this.path = path
    this.force = force
    // Random, since process ids repeat across containers.
    this.part = withCutName(path, `.${process.pid}-${randomBytes(4).toString('hex')}.part`)
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
    if (this.force) return renameSync(this.part, this.path)
    try {
      linkSync(this.part, this.path)
    } catch {
      if (lstatSync(this.path, { throwIfNoEntry: false })) throw exists(this.path)
      // A file system without links: an empty file holds the name until it is replaced.
      closeSync(openSync(this.path, 'wx'))
      return renameSync(this.part, this.path)
    }
    rmSync(this.part)
  }
}

/**
 * A path with an ending of its own, its name cut to whole characters where it is long: it may be as long as names can be.
 * @param {string} path
 * @param {string} ending
 */
function withCutName(path, ending) {
  const name = basename(path + ending).slice(0, -ending.length)
  const start = new TextEncoder().encode(name).subarray(0, KEPT)
  return path.slice(0, path.length - name.length) + new TextDecoder().decode(start, { stream: true }) + ending
}

/** @param {string} path */
function exists(path) {
  return new InputError(`${path} exists already; give --force to replace it`)
}
