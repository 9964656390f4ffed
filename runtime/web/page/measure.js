/** How close two frames are, and what the tokens cost. */

/** Running mean over frames of PSNR, as `vidtok-run reconstruct` prints it; equal frames count as 100 dB. */
export class Psnr {
  frames = 0
  sum = 0

  get mean() {
    return this.sum / this.frames
  }

  /**
   * @param {Uint8Array} a one frame
   * @param {Uint8Array} b
   */
  add(a, b) {
    let error = 0
    for (let i = 0; i < a.length; i++) error += (a[i] - b[i]) ** 2
    this.sum += Math.min(100, 10 * Math.log10((255 ** 2 * a.length) / error))
    this.frames++
  }
}

/**
 * Bits that the tokens of a clip take, without a file's header: an index has log2(codes), a number of a latent 16.
 * @param {number} numbers
 * @param {number | null} codes
 */
export const bitsOf = (numbers, codes) => numbers * (codes === null ? 16 : Math.log2(codes))
