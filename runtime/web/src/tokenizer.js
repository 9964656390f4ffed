/** The public entry: a bundle on an engine. */
import { DecoderStream } from './decoder.js'
import { EncoderStream } from './encoder.js'
import { BundleError, InputError } from './errors.js'
import { toFraction } from './fraction.js'
import { DecoderGroups, EncoderGroups } from './groups.js'
import { concat } from './items.js'
import { readManifest } from './manifest.js'
import { checkOnnxFile } from './onnx_file.js'
import { MANIFEST_NAMES, chooseProvider } from './provider.js'
import { Queue } from './queue.js'
import { StatefulGraph, loadGraph } from './session.js'
import { openSource, sha256 } from './source.js'
import { Timing } from './timing.js'
import { checkBundle, timingOf } from './token_info.js'

/** @import { BundleSource, DecoderOptions, Description, Frames, Latents, LoadOptions, PixelType } from './index.js' */
/** @import { Provider, TokenInfo, Tokens } from './index.js' */
/** @import { GraphEntry, Role } from './graph_entry.js' */
/** @import { Manifest } from './manifest.js' */
/** @import { Loaded } from './session.js' */

/** Encodes video to tokens and back. `Tokenizer.load` makes one. */
export class Tokenizer {
  /** @type {Map<Role, Loaded>} */
  #loaded

  /**
   * @param {Manifest} manifest
   * @param {Provider} provider
   * @param {Map<Role, Loaded>} loaded
   */
  constructor(manifest, provider, loaded) {
    this.manifest = manifest
    this.provider = provider
    this.precision = [...loaded.values()][0].entry.precision
    this.#loaded = loaded
  }

  /**
   * Read a bundle's manifest and graphs, check them and start the engine.
   *
   * Throws BundleError, ProviderError, InputError, and the signal's reason when it aborts.
   * @param {BundleSource} source
   * @param {LoadOptions} [options]
   */
  static async load(source, options = {}) {
    const { threads, signal, precision, roles = ['encoder', 'decoder'] } = options
    const { ort, provider } = await chooseProvider(options.ort, options.provider, threads)
    const { place, read } = openSource(source, signal)
    const manifest = readManifest(await read('manifest.json'), place)
    const graphs = [...new Set(roles)].map((role) => manifest.graph(role, MANIFEST_NAMES[provider], precision))
    if (!graphs.length) throw new InputError("roles are 'encoder', 'decoder' or both, got none")
    const name = (/** @type {GraphEntry} */ entry) => `${place}/${entry.file}`
    const files = await Promise.all(
      graphs.map(async (entry) => {
        const bytes = await read(entry.file)
        if ((await sha256(bytes)) !== entry.sha256) {
          throw new BundleError(
            `${name(entry)} is altered: its SHA-256 is not the manifest's; copy or export the bundle again`,
          )
        }
        checkOnnxFile(bytes, name(entry))
        return bytes
      }),
    )
    const queue = new Queue()
    /** @type {Map<Role, Loaded>} */
    const loaded = new Map()
    try {
      for (const [i, entry] of graphs.entries()) {
        signal?.throwIfAborted()
        loaded.set(entry.role, await loadGraph(ort, provider, entry, files[i], name(entry), queue, threads))
      }
    } catch (error) {
      for (const { session } of loaded.values()) await session.release()
      throw error
    }
    return new Tokenizer(manifest, provider, loaded)
  }

  /** Whether this is a variant with a codebook, whose tokens are whole numbers. */
  get isDiscrete() {
    return this.manifest.codebookSize !== null
  }

  /**
   * Tokenize a clip of any length and size; throws InputError.
   *
   * gop: start the state anew every so many latents, so that parts can be cut out that decode on their own.
   * @param {Frames} video
   * @param {{ fps?: number | string, gop?: number }} [options]
   * @returns {Promise<Tokens>}
   */
  async encode(video, { fps, gop } = {}) {
    if (video.frames === 0) throw new InputError('the clip has no frames')
    const { frames: numFrames, height, width } = video
    const stream = this.encoder(height, width, { gop })
    const data = await ended(stream, async () => concat([await stream.push(video), await stream.finish()]))
    const pts = BigInt64Array.from({ length: numFrames }, (_, i) => BigInt(i))
    return { ...data, info: this.describe({ numFrames, height, width, fps, gop }), pts }
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
   * A new stream of frames to tokens, whose size may be left to the first push; with `gop` its state starts anew every
   * so many latents. Throws InputError.
   * @param {number} [height]
   * @param {number} [width]
   * @param {{ gop?: number }} [options]
   */
  encoder(height, width, { gop } = {}) {
    const start = () =>
      new EncoderStream(this.manifest, this.#graph('encoder'), this.manifest.rule('encoder'), height, width)
    return gop === undefined ? start() : new EncoderGroups(start, this.#timing(gop))
  }

  /**
   * A new stream of tokens to frames; what is left out of `numFrames`, `height` and `width` keeps the tail and the edge
   * padding. gop: as they were encoded. Throws InputError.
   * @param {DecoderOptions & { gop?: number }} [options]
   */
  decoder({ gop, numFrames, ...options } = {}) {
    const start = this.#decoders(options)
    return gop === undefined ? start(numFrames) : new DecoderGroups(start, this.#timing(gop), numFrames, 0)
  }

  /**
   * A new stream of the tokens that `info` describes to their frames; throws MismatchError, InputError.
   * @param {TokenInfo} info
   * @param {{ dtype?: PixelType }} [options]
   */
  decoderOf(info, { dtype } = {}) {
    checkBundle(info, this.manifest)
    const { height, width, numFrames, gop, skip, window } = info
    const start = this.#decoders({ height, width, dtype }, window)
    if (gop === null && skip === 0) return start(numFrames)
    // Windows follow each other in one stream, which needs no cutting.
    const timing = timingOf({ ...info, window: null })
    return new DecoderGroups(start, timing, numFrames, skip)
  }

  /**
   * What tokens made by this tokenizer say about themselves; throws InputError.
   *
   * fps: frames a second, timeBase: seconds a unit of timestamps, as numbers or as text like `30000/1001`.
   * @param {Description} description
   * @returns {TokenInfo}
   */
  describe({ numFrames, height, width, fps, timeBase, gop }) {
    const { variant, weightsSha256, timeFactor, frontFrames, lookAhead, codebookSize, window } = this.manifest
    return {
      variant,
      weightsSha256,
      numFrames,
      height,
      width,
      timeFactor,
      frontFrames,
      lookAhead,
      codebookSize,
      fps: fps === undefined ? null : toFraction(fps),
      timeBase: timeBase === undefined ? null : toFraction(timeBase),
      precision: this.precision,
      provider: this.provider,
      window,
      gop: gop ?? null,
      skip: 0,
      display: null,
    }
  }

  /** Free the sessions and what streams keep on a device; nothing of this tokenizer can be used afterwards. */
  async dispose() {
    const loaded = [...this.#loaded.values()]
    this.#loaded.clear()
    for (const { queue, session, live } of loaded) {
      await queue.run(async () => live.forEach((graph) => graph.dispose()))
      await queue.run(() => session.release())
    }
  }

  /**
   * What starts the stream of a group of so many frames.
   * @param {DecoderOptions} options
   * @param {number | null} [window]
   */
  #decoders(options, window) {
    return (/** @type {number | undefined} */ numFrames) =>
      new DecoderStream(this.manifest, this.#graph('decoder'), this.manifest.rule('decoder', window), {
        ...options,
        numFrames,
      })
  }

  /** @param {number} gop */
  #timing(gop) {
    const { variant, timeFactor, frontFrames, lookAhead, window } = this.manifest
    if (window !== null) {
      throw new InputError(`${variant} encodes windows that stand on their own already; leave gop out`)
    }
    if (!(Number.isSafeInteger(gop) && gop >= 1)) {
      throw new InputError(`a gop is a whole number of latents from 1, got ${gop}`)
    }
    return new Timing(timeFactor, frontFrames, lookAhead, gop, false)
  }

  /** @param {Role} role */
  #graph(role) {
    const loaded = this.#loaded.get(role)
    if (!loaded) throw new InputError(`the ${role} is not loaded; name it in roles, and use nothing after dispose()`)
    return new StatefulGraph(loaded)
  }
}

/**
 * What `work` gives; the stream is freed even where it fails.
 * @template T
 * @param {{ dispose(): void }} stream
 * @param {() => Promise<T>} work
 */
async function ended(stream, work) {
  try {
    return await work()
  } finally {
    stream.dispose()
  }
}
