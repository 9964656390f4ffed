/** The public entry: a bundle on an engine. */
import { loadBundle } from './bundle.js'
import { StatefulChain } from './chain.js'
import { DecoderStream } from './decoder.js'
import { EncoderStream } from './encoder.js'
import { InputError } from './errors.js'
import { toFraction } from './fraction.js'
import { DecoderGroups, EncoderGroups } from './groups.js'
import { concat } from './items.js'
import { SURPLUS, exactSizes, inGops, inShortCalls, inWindows } from './stream_spec.js'
import { checkBundle } from './token_info.js'

/** @import { BundleSource, DecoderOptions, Description, EncodeOptions, Frames, Grouping, Groups } from './index.js' */
/** @import { GroupSpec, Latents, LoadOptions, PixelType, Provider, StreamSpec, TokenInfo, Tokens } from './index.js' */
/** @import { Role } from './graph_entry.js' */
/** @import { Manifest } from './manifest.js' */
/** @import { LoadedChain } from './chain.js' */

/** Encodes video to tokens and back. `Tokenizer.load` makes one. */
export class Tokenizer {
  /** @type {Map<Role, LoadedChain>} */
  #loaded
  #stream

  /**
   * @param {Manifest} manifest
   * @param {Provider} provider
   * @param {Map<Role, LoadedChain>} loaded
   */
  constructor(manifest, provider, loaded) {
    this.manifest = manifest
    this.provider = provider
    this.precision = [...loaded.values()][0].graphs[0].entry.precision
    this.#loaded = loaded
    const isTiled = [...loaded.values()].some(({ tiles }) => tiles)
    this.#stream = isTiled ? inShortCalls(manifest.stream) : manifest.stream
  }

  /**
   * Read a bundle's manifest, graphs and weights, check them and start the engine.
   *
   * Throws BundleError, ProviderError, InputError, and the signal's reason when it aborts.
   * @param {BundleSource} source
   * @param {LoadOptions} [options]
   */
  static async load(source, options = {}) {
    const { manifest, provider, chains } = await loadBundle(source, options)
    return new Tokenizer(manifest, provider, chains)
  }

  /** Whether this is a model with a codebook, whose tokens are whole numbers. */
  get isDiscrete() {
    return this.manifest.stream.codebookSize !== null
  }

  /**
   * Tokenize a clip of any length and size; throws InputError.
   *
   * gop, window: start anew every so many latents, or frames. normalize: apply the release's mean and scale of latents.
   * @param {Frames} video
   * @param {EncodeOptions & { fps?: number | string }} [options]
   * @returns {Promise<Tokens>}
   */
  async encode(video, { fps, ...options } = {}) {
    if (video.frames === 0) throw new InputError('the clip has no frames')
    const { frames: numFrames, height, width } = video
    const stream = this.encoder(height, width, options)
    const data = await ended(stream, async () => concat([await stream.push(video), await stream.finish()]))
    const pts = BigInt64Array.from({ length: numFrames }, (_, i) => BigInt(i))
    return { ...data, info: this.describe({ numFrames, height, width, fps, ...options }), pts }
  }

  /**
   * The clip back, as bytes or as float32 in -1..1; throws MismatchError, InputError.
   * @param {Latents & { info: TokenInfo }} tokens
   * @param {{ dtype?: PixelType }} [options]
   */
  async decode(tokens, options) {
    const stream = this.decoderOf(tokens.info, options)
    return ended(stream, async () => concat([await stream.push(tokens), await stream.finish()]))
  }

  /**
   * A new stream of frames to tokens, whose size may be left to the first push; options as those of `encode`. Throws
   * InputError.
   * @param {number} [height]
   * @param {number} [width]
   * @param {EncodeOptions} [options]
   */
  encoder(height, width, { normalize = false, ...grouping } = {}) {
    const spec = this.#spec(grouping)
    this.#checkScale(normalize)
    const start = () => new EncoderStream(spec, this.#chain('encoder'), { height, width, normalized: normalize })
    return spec.groups ? new EncoderGroups(start, spec.groups) : start()
  }

  /**
   * A new stream of tokens to frames; what is left out of `numFrames`, `height` and `width` keeps the tail and the edge
   * padding. gop, window, normalized: as they were encoded. Throws InputError.
   * @param {DecoderOptions & Grouping & { normalized?: boolean }} [options]
   */
  decoder({ gop, window, ...options } = {}) {
    this.#checkScale(options.normalized ?? false)
    return this.#decoder(this.#spec({ gop, window }), options, 0)
  }

  /**
   * A new stream of the tokens that `info` describes to their frames; throws MismatchError, InputError.
   * @param {TokenInfo} info
   * @param {{ dtype?: PixelType }} [options]
   */
  decoderOf(info, { dtype } = {}) {
    checkBundle(info, this.manifest)
    const { groups, numFrames, height, width, normalized, skip } = info
    const spec = { ...this.#stream, groups: groups && { ...groups, multiple: null } }
    return this.#decoder(spec, { numFrames, height, width, normalized, dtype }, skip)
  }

  /**
   * What tokens made by this tokenizer say about themselves; throws InputError.
   *
   * fps: frames a second, timeBase: seconds a unit of timestamps, as numbers or as text like `30000/1001`.
   * @param {Description} description
   * @returns {TokenInfo}
   */
  describe({ numFrames, height, width, fps, timeBase, normalize = false, ...grouping }) {
    this.#checkScale(normalize)
    const { family, name, weightsSha256 } = this.manifest
    const { timeFactor, frontFrames, lookAhead, length, codebookSize, groups, decoder } = this.#spec(grouping)
    return {
      family,
      name,
      weightsSha256,
      numFrames,
      height,
      width,
      timeFactor,
      frontFrames,
      lookAhead,
      length,
      codebookSize,
      groups: groups && withoutMultiple(groups),
      exact: exactSizes(decoder),
      surplus: decoder.drop === SURPLUS,
      fps: fps === undefined ? null : toFraction(fps),
      timeBase: timeBase === undefined ? null : toFraction(timeBase),
      precision: this.precision,
      provider: this.provider,
      skip: 0,
      sampled: null,
      normalized: normalize,
      display: null,
      lastDuration: null,
      resampling: null,
    }
  }

  /** Free the sessions and what streams keep on a device; nothing of this tokenizer can be used afterwards. */
  async dispose() {
    const loaded = [...this.#loaded.values()].flatMap(({ graphs }) => graphs)
    this.#loaded.clear()
    for (const { queue, session, live } of loaded) {
      await queue.run(async () => live.forEach((graph) => graph.dispose()))
      await queue.run(() => session.release())
    }
  }

  /**
   * @param {StreamSpec} spec
   * @param {DecoderOptions & { normalized?: boolean }} options
   * @param {number} skip
   */
  #decoder(spec, { numFrames, ...options }, skip) {
    if (numFrames !== undefined && !(Number.isSafeInteger(numFrames) && numFrames >= 0)) {
      throw new InputError(`numFrames must be a whole number of at least 0, got ${numFrames}`)
    }
    const start = (/** @type {number | undefined} */ frames) =>
      new DecoderStream(spec, this.#chain('decoder'), { ...options, numFrames: frames })
    return spec.groups || skip ? new DecoderGroups(start, spec.groups, numFrames, skip) : start(numFrames)
  }

  /**
   * The model's streams, in the groups that are asked for.
   * @param {Grouping} grouping
   * @returns {StreamSpec}
   */
  #spec({ gop, window }) {
    const stream = this.#stream
    if (gop !== undefined && window !== undefined) throw new InputError('gop and window exclude each other')
    if (gop !== undefined) return inGops(stream, gop)
    return window === undefined ? stream : inWindows(stream, window)
  }

  /** @param {boolean} isScaled */
  #checkScale(isScaled) {
    if (isScaled && (this.isDiscrete || this.manifest.stream.latentMean === null)) {
      throw new InputError(`${this.manifest.name} has no mean and scale of latents; leave normalize out`)
    }
  }

  /** @param {Role} role */
  #chain(role) {
    const loaded = this.#loaded.get(role)
    if (!loaded) throw new InputError(`the ${role} is not loaded; name it in roles, and use nothing after dispose()`)
    return new StatefulChain(loaded, this.manifest.stream[role].flags)
  }
}

/**
 * What `work` gives; the stream is freed even where it fails.
 * @template T
 * @param {{ dispose(): Promise<void> }} stream
 * @param {() => Promise<T>} work
 */
async function ended(stream, work) {
  try {
    return await work()
  } finally {
    await stream.dispose()
  }
}

/**
 * What a token file says about groups.
 * @param {GroupSpec} groups
 * @returns {Groups}
 */
function withoutMultiple({ multiple, ...groups }) {
  return groups
}
