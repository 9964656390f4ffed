/** Bundles of vidtok-onnx in JavaScript: video to tokens and back, in Node and in the browser. */

/** `cpu` is onnxruntime-node's; `wasm` and `webgpu` are onnxruntime-web's. */
export type Provider = 'cpu' | 'wasm' | 'webgpu'
export type Role = 'encoder' | 'decoder'
export type PixelType = 'uint8' | 'float32'

/** A folder or an address, or what reads a file of the bundle by its name. */
export type BundleSource = string | URL | ((name: string) => Promise<Uint8Array | ArrayBuffer>)

/** Pixels `[frames, height, width, 3]`, RGB: bytes 0..255, or float32 in -1..1. */
export interface Frames {
  data: Uint8Array | Uint8ClampedArray | Float32Array
  frames: number
  height: number
  width: number
}

/** Float32 latents `[length, channels, h, w]`, or int32 tokens `[length, h, w]`, whose `channels` is 1. */
export interface Latents {
  data: Float32Array | Int32Array
  length: number
  channels: number
  h: number
  w: number
}

/** What a token file says about itself besides the numbers; null for what is not known or does not apply. */
export interface TokenInfo {
  variant: string
  weightsSha256: string
  numFrames: number
  /** Pixels. */
  height: number
  width: number
  timeFactor: number
  frontFrames: number
  lookAhead: number
  codebookSize: number | null
  /** Frames a second, like `25` or `30000/1001`. */
  fps: string | null
  /** Seconds a unit of the timestamps. */
  timeBase: string | null
  precision: string
  provider: string
  /** Frames a window of a non-causal variant. */
  window: number | null
  /** Latents after which the state starts anew. */
  gop: number | null
  /** Frames that decode before the first that counts. */
  skip: number
  /** Pixel shape and colours of the clip, as the command line writes them. */
  display: string | null
}

/** A tokenized clip. `pts` has the timestamp of every frame. */
export interface Tokens extends Latents {
  info: TokenInfo
  pts: BigInt64Array
}

export interface LoadOptions {
  /** Namespace of onnxruntime-node or onnxruntime-web; left out, the one for this place is imported. */
  ort?: typeof import('onnxruntime-common')
  /** Left out: `cpu` of onnxruntime-node, `wasm` of onnxruntime-web. */
  provider?: Provider
  /** CPU threads; left out: what the engine chooses. */
  threads?: number
  /** Ends the download. */
  signal?: AbortSignal
  /** As the manifest lists it; left out: its first. */
  precision?: string
  /** Graphs to load; left out: both. */
  roles?: Role[]
}

export interface DecoderOptions {
  numFrames?: number
  height?: number
  width?: number
  dtype?: PixelType
}

export interface Description {
  numFrames: number
  height: number
  width: number
  /** Frames a second, and seconds a unit of timestamps: numbers, or text like `30000/1001`. */
  fps?: number | string
  timeBase?: number | string
  gop?: number
}

/** How a stream is cut into graph calls, counted in frames (encoder) or latents (decoder). */
export interface CallRule {
  multiple: number
  most: number
  first: number | null
  drop: number
  flush: number
  keep: number
}

/** What manifest.json says. */
export interface Manifest {
  readonly place: string
  readonly raw: Record<string, unknown>
  readonly variant: string
  readonly regularizer: string
  readonly weightsSha256: string
  readonly source: string
  readonly licence: string
  /** Frames a latent. */
  readonly timeFactor: number
  /** Pixels a latent, in height and width. */
  readonly spatialMultiple: number
  readonly frontFrames: number
  /** Most frames or latents of one graph call. */
  readonly encoderChunk: number
  readonly decoderChunk: number
  readonly lookAhead: number
  readonly window: number | null
  readonly codebookSize: number | null
  readonly latentChannels: number
  rule(role: Role, window?: number | null): CallRule
}

/** A stream. Pushes that are not awaited wait for each other. */
export interface Stream<In, Out> {
  /** Take any number of frames or latents; gives all that are complete, perhaps none. */
  push(items: In): Promise<Out>
  /** End the stream; gives what waited. */
  finish(): Promise<Out>
  /** Give up a stream before `finish`. */
  dispose(): void
}

export interface EncoderStream extends Stream<Frames, Latents> {
  /** Frames taken so far. */
  readonly numFrames: number
}

/** Encodes video to tokens and back. */
export class Tokenizer {
  private constructor()
  /** Read a bundle's manifest and graphs, check them and start the engine. */
  static load(source: BundleSource, options?: LoadOptions): Promise<Tokenizer>
  readonly manifest: Manifest
  readonly provider: Provider
  readonly precision: string
  /** Whether tokens are whole numbers. */
  get isDiscrete(): boolean
  /** Tokenize a clip of any length and size. `gop`: start the state anew every so many latents. */
  encode(video: Frames, options?: { fps?: number | string; gop?: number }): Promise<Tokens>
  /** The clip back, as bytes or as float32 in -1..1. */
  decode(tokens: Latents & { info: TokenInfo }, options?: { dtype?: PixelType }): Promise<Frames>
  /** A new stream of frames to tokens; the size may be left to the first push. */
  encoder(height?: number, width?: number, options?: { gop?: number }): EncoderStream
  /** A new stream of tokens to frames; what is left out keeps the tail and the edge padding. */
  decoder(options?: DecoderOptions & { gop?: number }): Stream<Latents, Frames>
  /** A new stream of the tokens that `info` describes to their frames. */
  decoderOf(info: TokenInfo, options?: { dtype?: PixelType }): Stream<Latents, Frames>
  /** What tokens made by this tokenizer say about themselves. */
  describe(description: Description): TokenInfo
  /** Free the sessions and what streams keep on a device. */
  dispose(): Promise<void>
}

/** The bytes of a token file; `half` stores latents as float16. Throws InputError. */
export function saveTokens(
  tokens: Latents & { info: TokenInfo; pts?: BigInt64Array },
  options?: { half?: boolean },
): Promise<Uint8Array<ArrayBuffer>>

/** The tokens of a token file, its checksum compared. Throws TokenFileError. */
export function loadTokens(bytes: Uint8Array<ArrayBuffer>): Promise<Tokens>

/** Several pushes' results as one. Throws InputError. */
export function concat<T extends Frames | Latents>(parts: T[]): T

/** Base of every error that this package throws on purpose. */
export class VidtokError extends Error {}
/** A bundle that is missing, incomplete, altered, or that its manifest does not describe. */
export class BundleError extends VidtokError {}
/** A token file that is truncated, altered or not a token file. */
export class TokenFileError extends VidtokError {}
/** Tokens that belong to another variant or to other weights than the bundle. */
export class MismatchError extends VidtokError {}
/** A provider that is not there or does not load. */
export class ProviderError extends VidtokError {}
/** An array, size or option that does not fit. */
export class InputError extends VidtokError {}
