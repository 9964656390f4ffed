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
  /** The system of tokenizers, and which of its models. */
  family: string
  name: string
  weightsSha256: string
  numFrames: number
  /** Pixels. */
  height: number
  width: number
  timeFactor: number
  frontFrames: number
  lookAhead: number
  length: Length
  codebookSize: number | null
  /** Frames a second, like `25` or `30000/1001`. */
  fps: string | null
  /** Seconds a unit of the timestamps. */
  timeBase: string | null
  precision: string
  provider: string
  /** Where the stream starts anew; null: nowhere. */
  groups: Groups | null
  /** Of what latents the decoder's calls take exactly so many, which programs that cut must keep; null: of none. */
  exact: Length | null
  /** Whether the decoder drops what a group gives beyond its frames, so that a cut must keep their number. */
  surplus: boolean
  /** Frames that decode before the first that counts. */
  skip: number
  /** Seed with which the latents were drawn from the posterior; null: they are its mean. */
  sampled: number | null
  /** Whether the release's mean and scale of latents were applied. */
  normalized: boolean
  /** Pixel shape and colours of the clip, as the command line writes them. */
  display: string | null
  /** How long the last frame is shown, in units of the time base. */
  lastDuration: number | null
  /** How frames got the size that was encoded, like `planes` or `rgb`. */
  resampling: string | null
}

/** Lengths of streams in frames: `first` plus a multiple of `multiple`. */
export interface Length {
  first: number
  multiple: number
}

/** Groups of frames and latents that are streams of their own, and what each has in common with the one before. */
export interface Groups {
  frames: number
  latents: number
  sharedFrames: number
  sharedLatents: number
  /** Whether the frames of a group need all of its latents. */
  whole: boolean
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
  /** What to load; left out: both. */
  roles?: Role[]
  /**
   * Pixels along an axis that are computed at once at most: larger frames are computed in tiles, and calls are as short
   * as the model allows. This takes less memory and gives the same but for the last float digits. Left out: whole frames.
   */
  maxTile?: number
}

export interface DecoderOptions {
  numFrames?: number
  height?: number
  width?: number
  dtype?: PixelType
}

/** Where a stream starts anew, so that parts decode on their own; left out: where the model does. */
export interface Grouping {
  /** Every so many latents, of a model that does not by itself. */
  gop?: number
  /** Every so many frames, of a model that allows other lengths than its own. */
  window?: number
}

export interface EncodeOptions extends Grouping {
  /** Apply the release's mean and scale of latents, which decoding undoes. */
  normalize?: boolean
}

export interface Description extends EncodeOptions {
  numFrames: number
  height: number
  width: number
  /** Frames a second, and seconds a unit of timestamps: numbers, or text like `30000/1001`. */
  fps?: number | string
  timeBase?: number | string
}

/** How a stream is cut into calls of the graphs of a role, counted in frames (encoder) or latents (decoder). */
export interface CallSpec {
  /** Exact size of the first call; null: as any other. */
  readonly first: number | null
  readonly multiple: number
  /** At most so many; null: a whole group in one call. */
  readonly max: number | null
  /** Whether every call but the first takes exactly `max`. */
  readonly exact: boolean
  /** What is thrown away of what comes out first; `surplus`: all that comes out beyond the frames of a stream. */
  readonly drop: number | 'surplus'
  /** At the end one more call with `size` copies of the last item, of whose output the first `keep` count. */
  readonly flush: { readonly size: number; readonly keep: number } | null
  /** Of each flag the calls in which it is true. */
  readonly flags: ReadonlyMap<string, readonly string[]>
}

/** `multiple`: another length in frames may be asked for, a multiple of this; null: not. */
export type GroupSpec = Groups & { multiple: number | null }

/** What a model says about its streams. */
export interface StreamSpec {
  /** Frames a latent. */
  readonly timeFactor: number
  /** Pixels a latent, in height and width. */
  readonly spatialMultiple: number
  /** Whether frames are padded to squares. */
  readonly square: boolean
  /** What height and width are padded to a multiple of; null: of `spatialMultiple`. */
  readonly paddingMultiple: number | null
  readonly latentChannels: number
  readonly codebookSize: number | null
  /** Values that each channel can take; empty where channels have none. */
  readonly levels: readonly number[]
  /** What the darkest and the lightest pixel become. */
  readonly pixelRange: readonly [number, number]
  /** The release's scale, a number a channel. */
  readonly latentMean: readonly number[] | null
  readonly latentStd: readonly number[] | null
  /** Copies of the first frame in front. */
  readonly frontFrames: number
  /** Frames that a decoder lags behind. */
  readonly lookAhead: number
  readonly length: Length
  readonly groups: GroupSpec | null
  readonly encoder: CallSpec
  readonly decoder: CallSpec
}

/** What manifest.json says. */
export interface Manifest {
  readonly place: string
  readonly raw: Record<string, unknown>
  /** The system of tokenizers, and which of its models. */
  readonly family: string
  readonly name: string
  readonly weightsSha256: string
  readonly licence: string
  readonly stream: StreamSpec
}

/**
 * A stream. Pushes that are not awaited wait for each other. What `push` refuses changes nothing; once a call has failed
 * otherwise, all later ones do, but for `dispose`.
 */
export interface Stream<In, Out> {
  /** Take any number of frames or latents; gives all that are complete, perhaps none. */
  push(items: In): Promise<Out>
  /** End the stream; gives what waited. */
  finish(): Promise<Out>
  /** Give up a stream before `finish`; pushes that are not done fail, and what is kept on a device is freed after them. */
  dispose(): Promise<void>
  /** Frames or latents that a graph call takes at most, which is a good size of a push. */
  readonly callSize: number
}

export interface EncoderStream extends Stream<Frames, Latents> {
  /** Frames taken so far. */
  readonly numFrames: number
}

/** Encodes video to tokens and back. */
export class Tokenizer {
  private constructor()
  /** Read a bundle's manifest, graphs and weights, check them and start the engine. */
  static load(source: BundleSource, options?: LoadOptions): Promise<Tokenizer>
  readonly manifest: Manifest
  readonly provider: Provider
  readonly precision: string
  /** Whether tokens are whole numbers. */
  get isDiscrete(): boolean
  /** Tokenize a clip of any length and size. */
  encode(video: Frames, options?: EncodeOptions & { fps?: number | string }): Promise<Tokens>
  /** The clip back, as bytes or as float32 in -1..1. */
  decode(tokens: Latents & { info: TokenInfo }, options?: { dtype?: PixelType }): Promise<Frames>
  /** A new stream of frames to tokens; the size may be left to the first push. */
  encoder(height?: number, width?: number, options?: EncodeOptions): EncoderStream
  /** A new stream of tokens to frames; what is left out keeps the tail and the edge padding. */
  decoder(options?: DecoderOptions & Grouping & { normalized?: boolean }): Stream<Latents, Frames>
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
/** Tokens that belong to another model or to other weights than the bundle. */
export class MismatchError extends VidtokError {}
/** A provider that is not there or does not load. */
export class ProviderError extends VidtokError {}
/** An array, size or option that does not fit. */
export class InputError extends VidtokError {}
