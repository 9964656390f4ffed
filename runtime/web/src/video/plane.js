/** Planes of a picture at another size. */

/**
 * Numbers of one component of a picture: row by row, `stride` from one row to the next, `step` from one to the next.
 * across, down: pixels of the picture that each stands for; shift: how far they lie to the left of the middle of these,
 * in numbers of the row.
 * @typedef {object} Plane
 * @property {Uint8Array | Uint16Array} data
 * @property {number} offset
 * @property {number} stride
 * @property {number} step
 * @property {number} across
 * @property {number} down
 * @property {number} shift
 */

/**
 * A component for every pixel of a picture that is brought from `from` to `to`, as FFmpeg does it by area: along an axis
 * that becomes shorter the mean of what a pixel covers, along others straight lines between the numbers; where the size
 * stays, each number for all of its pixels. Float32, `to.height` rows.
 * @param {Plane} plane
 * @param {{ height: number, width: number }} from
 * @param {{ height: number, width: number }} to
 */
export function resampled({ data, offset, stride, step, across, down, shift }, from, to) {
  const rows = tapsOf(from.height, down, 0, to.height)
  const columns = tapsOf(from.width, across, shift, to.width)
  const row = new Float64Array(Math.ceil(from.width / across))
  const out = new Float32Array(to.height * to.width)
  for (let y = 0, i = 0; y < to.height; y++) {
    row.fill(0)
    for (; i < rows.ends[y]; i++) addTo(row, rows.weights[i], data, offset + rows.sources[i] * stride, step)
    sums(row, columns, out, y * to.width)
  }
  return out
}

/**
 * @param {Float64Array} row
 * @param {number} weight
 * @param {Plane['data']} data
 * @param {number} offset
 * @param {number} step
 */
function addTo(row, weight, data, offset, step) {
  for (let x = 0, k = offset; x < row.length; x++, k += step) row[x] += weight * data[k]
}

/**
 * @param {Float64Array} row
 * @param {Taps} taps
 * @param {Float32Array} out
 * @param {number} at
 */
function sums(row, { ends, sources, weights }, out, at) {
  for (let x = 0, i = 0; x < ends.length; x++) {
    let sum = 0
    for (const end = ends[x]; i < end; i++) sum += weights[i] * row[sources[i]]
    out[at + x] = sum
  }
}

/**
 * Along one axis, what pixels are made of: places in a plane and their weights, those of pixel i up to before `ends[i]`.
 * @typedef {{ ends: Uint32Array, sources: Uint32Array, weights: Float64Array }} Taps
 */

/** @type {Map<string, Taps>} those of the clip that is read, so that they are made once */
const made = new Map()

/**
 * @param {number} from pixels
 * @param {number} each pixels for which one number of the plane stands
 * @param {number} shift
 * @param {number} to pixels
 * @returns {Taps}
 */
function tapsOf(from, each, shift, to) {
  const key = `${from} ${each} ${shift} ${to}`
  const count = Math.ceil(from / each)
  const found =
    made.get(key) ??
    (to === from ? collect(to, (i) => [[Math.floor(i / each), 1]]) : (to < count ? means : lines)(count, shift, to))
  if (made.size > 100) made.clear()
  made.set(key, found)
  return found
}

/**
 * @param {number} count
 * @param {number} shift
 * @param {number} to
 */
function means(count, shift, to) {
  const scale = count / to
  return collect(to, (i) => {
    const [begin, end] = [i * scale + shift, (i + 1) * scale + shift]
    /** @type {[number, number][]} */
    const taps = []
    for (let k = Math.floor(begin); k < end; k++) {
      const covered = Math.min(end, k + 1) - Math.max(begin, k)
      if (covered > 1e-9) taps.push([Math.min(k, count - 1), covered / scale])
    }
    return taps
  })
}

/**
 * @param {number} count
 * @param {number} shift
 * @param {number} to
 */
function lines(count, shift, to) {
  return collect(to, (i) => {
    const place = Math.min(Math.max(((i + 0.5) * count) / to - 0.5 + shift, 0), count - 1)
    const [k, part] = [Math.floor(place), place % 1]
    return part ? [[k, 1 - part], [k + 1, part]] : [[k, 1]]
  })
}

/**
 * @param {number} count
 * @param {(i: number) => [number, number][]} tapsOf places and weights of pixel i
 * @returns {Taps}
 */
function collect(count, tapsOf) {
  let end = 0
  const all = Array.from({ length: count }, (_, i) => tapsOf(i))
  const flat = all.flat()
  return {
    ends: Uint32Array.from(all, (taps) => (end += taps.length)),
    sources: Uint32Array.from(flat, ([k]) => k),
    weights: Float64Array.from(flat, ([, weight]) => weight),
  }
}
