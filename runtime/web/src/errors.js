/** What can go wrong at run time. Every text says what was expected, what was found and what to do. */

/** Base of every error that this package throws on purpose. */
export class VidtokError extends Error {
  /** @override */
  get name() {
    return this.constructor.name
  }
}

/** A bundle that is missing, incomplete, altered, or that its manifest does not describe. */
export class BundleError extends VidtokError {}

/** A token file that is truncated, altered or not a token file. */
export class TokenFileError extends VidtokError {}

/** Tokens that belong to another model or to other weights than the bundle. */
export class MismatchError extends VidtokError {}

/** A video file that is no video, is damaged, or that this browser cannot read or write. */
export class VideoError extends VidtokError {}

/** A provider that is not there or does not load. */
export class ProviderError extends VidtokError {}

/** An array, size or option that does not fit. */
export class InputError extends VidtokError {}

/**
 * The first line of what an engine or the system throws.
 * @param {unknown} error
 */
export function firstLine(error) {
  const text = error instanceof Error ? error.message : String(error)
  return text.trim().split('\n', 1)[0]
}
