/** Video files in the browser: frames of a file, and an MP4 of frames. */
import type { Frames, VidtokError } from '../index.js'

export interface VideoOptions {
  /** Namespace of mediabunny; left out, it is imported. */
  mediabunny?: typeof import('mediabunny')
}

/** One frame, RGB bytes; times in units of the time base, `duration` null where it is not known. */
export interface ReadFrame extends Frames {
  data: Uint8Array<ArrayBuffer>
  pts: bigint
  duration: bigint | null
}

export interface ReadOptions {
  /** Pixels; left out: as the video is shown. */
  height?: number
  width?: number
  /** Seconds since the first frame; frames from there on are read, and times count from there. */
  start?: number
  /** Frames a second, by repeating or leaving out; times then count frames. */
  fps?: number
}

/** A video file, of which frames come one after the other. */
export class VideoReader {
  private constructor()
  /** Open a file and decode its first frame. Throws VideoError where this cannot be read here, and says why. */
  static open(file: Blob, options?: VideoOptions): Promise<VideoReader>
  /** Pixels of the video as it is shown: upright, and square. */
  readonly height: number
  readonly width: number
  /** On average over the first frames. */
  readonly fps: number
  /** Seconds a unit of timestamps, like `1/12800`. */
  get timeBase(): string
  /** Seconds. */
  readonly duration: number
  /** Like `H.264`. */
  readonly codec: string
  /** Every frame once, in the order in which they are shown; or at a rate. Throws VideoError, InputError. */
  frames(options?: ReadOptions): AsyncGenerator<ReadFrame, void, undefined>
  /** Let go of the file. */
  dispose(): void
}

export interface WriteOptions extends VideoOptions {
  /** Pixels. */
  height: number
  width: number
  /** Frames a second, for frames without times and for the size of the file. */
  fps: number | string
  /** Seconds a unit of timestamps; left out: a frame. */
  timeBase?: string
}

/** Writes frames as an MP4: H.264 where the browser writes it at this size, else VP9 or AV1. */
export class VideoWriter {
  private constructor()
  /** Throws VideoError where this browser writes none of these. */
  static open(options: WriteOptions): Promise<VideoWriter>
  /** Like `H.264`. */
  readonly codec: string
  /** Add frames, RGB bytes; pts: their times, rising; left out: they follow each other. Throws VideoError, InputError. */
  push(frames: Frames, pts?: BigInt64Array): Promise<void>
  /** The file; lastDuration: how long the last frame is shown; left out: as long as others. Throws VideoError. */
  finish(lastDuration?: number | null): Promise<Uint8Array<ArrayBuffer>>
  /** Give up a file before `finish`. */
  dispose(): Promise<void>
}

/** A video file that is no video, is damaged, or that this browser cannot read or write. */
export class VideoError extends VidtokError {}
