/** The release's scale of latents, which people who train on them ask for. */

/** @import { Latents, StreamSpec } from './index.js' */

const { fround } = Math

/**
 * `(latent - mean) / std` of each channel, in float32. The spec has both.
 * @param {Latents} latents `[length, channels, h, w]`
 * @param {StreamSpec} spec
 */
export function normalize(latents, spec) {
  return byChannel(latents, spec, (x, mean, std) => fround(x - mean) / std)
}

/**
 * The inverse.
 * @param {Latents} latents
 * @param {StreamSpec} spec
 */
export function denormalize(latents, spec) {
  return byChannel(latents, spec, (x, mean, std) => fround(x * std) + mean)
}

/**
 * @param {Latents} latents
 * @param {StreamSpec} spec
 * @param {(x: number, mean: number, std: number) => number} change
 * @returns {Latents}
 */
function byChannel(latents, { latentMean, latentStd }, change) {
  const [means, stds] = [latentMean, latentStd].map((scale) => Float32Array.from(scale ?? []))
  const plane = latents.h * latents.w
  const data = Float32Array.from(latents.data, (x, i) => {
    const channel = Math.floor(i / plane) % latents.channels
    return change(x, means[channel], stds[channel])
  })
  return { ...latents, data }
}
