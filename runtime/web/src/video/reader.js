/** Frames of a video file, by the browser's own decoders. */
import { InputError, VideoError, firstLine } from '../errors.js'
import { CODECS, openLibrary } from './library.js'
import { PictureReader } from './picture.js'
import { atRate } from './rate.js'

/** @import { Input, InputVideoTrack, VideoSample, VideoSampleSink } from 'mediabunny' */
/** @import { ReadFrame, ReadOptions, VideoOptions } from './index.js' */
/** @import { Size } from './picture.js' */

const PROBED = 256 // frames whose rate counts
// Decoders do not say it; it is what these codecs have where a file says nothing.
const OF_LEFT_CHROMA = [CODECS.avc, CODECS.hevc]
const FINEST = 10 ** 6 // units a second; browsers count microseconds

/** A video file, of which frames come one after the other. */
export class VideoReader {
  #name
  #input
  #sink
  #colours
  #units // of time, a second
  #first // time of the first frame

  /**
   * @param {string} name for messages
   * @param {Input} input
   * @param {VideoSampleSink} sink
   * @param {VideoColorSpaceInit} colours
   * @param {{ height: number, width: number, units: number, first: number, fps: number, duration: number, codec: string }} facts
   */
  constructor(name, input, sink, colours, { height, width, units, first, fps, duration, codec }) {
    this.#name = name
    this.#input = input
    this.#sink = sink
    this.#colours = colours
    this.#units = units
    this.#first = first
    this.height = height
    this.width = width
    this.fps = fps
    this.duration = duration
    this.codec = codec
  }

  /**
   * Open a file and decode its first frame; throws VideoError where this cannot be read here, and says why.
   * @param {Blob} file
   * @param {VideoOptions} [options]
   */
  static async open(file, { mediabunny } = {}) {
    const { ALL_FORMATS, BlobSource, Input, VideoSampleSink } = await openLibrary(mediabunny, 'VideoDecoder')
    const name = 'name' in file ? String(file.name) : 'the video'
    const input = new Input({ source: new BlobSource(file), formats: ALL_FORMATS })
    try {
      const track = await input.getPrimaryVideoTrack()
      if (!track) throw new VideoError(`${name} has no pictures`)
      await checkDecoder(track, name)
      const sink = new VideoSampleSink(track)
      const sample = await firstOf(sink, name)
      const facts = await factsOf(track, sample).finally(() => sample.close())
      return new VideoReader(name, input, sink, await track.getColorSpace(), facts)
    } catch (error) {
      input.dispose()
      throw asVideoError(error, name)
    }
  }

  /** Seconds a unit of timestamps. */
  get timeBase() {
    return `1/${this.#units}`
  }

  /**
   * Every frame once, in the order in which they are shown; or at a rate. Throws VideoError, InputError.
   * @param {ReadOptions} [options]
   * @returns {AsyncGenerator<ReadFrame, void, undefined>}
   */
  async *frames({ height = this.height, width = this.width, start, fps } = {}) {
    for (const [name, value] of Object.entries({ height, width })) {
      if (!Number.isSafeInteger(value) || value < 1) throw new InputError(`${name} is ${value}, not pixels from 1`)
    }
    if (start !== undefined && !(start >= 0)) throw new InputError(`the start is 0 or more seconds, got ${start}`)
    if (fps !== undefined && !(fps >= 0.01 && fps <= 1000)) throw new InputError(`a rate lies in 0.01..1000, got ${fps}`)
    const begin = this.#first + Math.round((start ?? 0) * this.#units)
    const origin = start === undefined ? 0 : begin
    const decoded = this.#decoded({ height, width }, begin / this.#units)
    if (fps !== undefined) {
      for await (const { frame, count } of atRate(decoded, begin, this.#units, fps)) {
        yield { data: frame.data, frames: 1, height, width, pts: BigInt(count), duration: 1n }
      }
      return
    }
    for await (const { data, pts, duration } of decoded) {
      if (pts < begin) continue
      yield { data, frames: 1, height, width, pts: BigInt(pts - origin), duration: duration ? BigInt(duration) : null }
    }
  }

  /**
   * Frames from the one on show at a time on, in seconds; their times in units.
   * @param {Size} size
   * @param {number} from
   */
  async *#decoded(size, from) {
    const pictures = new PictureReader(size, this.#colours, OF_LEFT_CHROMA.includes(this.codec))
    try {
      for await (const sample of this.#sink.samples(from)) {
        try {
          const [pts, duration] = [sample.timestamp, sample.duration].map((time) => Math.round(time * this.#units))
          yield { data: await pictures.read(sample), pts, duration }
        } finally {
          sample.close()
        }
      }
    } catch (error) {
      throw asVideoError(error, this.#name)
    }
  }

  /** Let go of the file. */
  dispose() {
    this.#input.dispose()
  }
}

/**
 * @param {InputVideoTrack} track
 * @param {string} name
 */
async function checkDecoder(track, name) {
  const codec = await track.getCodec()
  if (codec === null) throw new VideoError(`the codec of ${name} (${await track.getInternalCodecId()}) is not known`)
  if (await track.canDecode()) return
  throw new VideoError(`this browser does not decode ${CODECS[codec]} (${await track.getCodecParameterString()})`)
}

/**
 * @param {VideoSampleSink} sink
 * @param {string} name
 */
async function firstOf(sink, name) {
  for await (const sample of sink.samples(0)) {
    if (sample.timestamp >= 0) return sample
    sample.close() // cut off by an edit list
  }
  throw new VideoError(`${name} holds no frames`)
}

/**
 * @param {InputVideoTrack} track
 * @param {VideoSample} sample the first
 */
async function factsOf(track, sample) {
  const units = Math.min(Math.round(await track.getTimeResolution()), FINEST)
  return {
    units,
    first: Math.round(sample.timestamp * units),
    height: sample.displayHeight,
    width: sample.displayWidth,
    fps: (await track.computePacketStats(PROBED)).averagePacketRate,
    duration: ((await track.getDurationFromMetadata()) ?? (await track.computeDuration())) - sample.timestamp,
    codec: CODECS[/** @type {keyof typeof CODECS} */ (await track.getCodec())],
  }
}

/**
 * @param {unknown} error
 * @param {string} name
 */
function asVideoError(error, name) {
  if (error instanceof VideoError || error instanceof InputError) return error
  return new VideoError(`${name} cannot be read: ${firstLine(error)}`)
}
