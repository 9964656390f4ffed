/** Values out of JSON that may hold anything: each has the type and the range that was asked for, or it is an error. */

import { FormError, isWhole } from './json.js'

/** Controls, and what shows nothing or turns the direction of writing. */
const HIDDEN =
  /[\0-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\u{e0000}-\u{e0fff}]/u
const MAX_TEXT = 300 // characters, of which UTF-16 needs one or two units each

/**
 * Short text about any value.
 * @param {unknown} value
 */
function shown(value) {
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 60 ? `${text.slice(0, 57)}...` : text
}

/** An object out of JSON. Every method throws FormError that says where and what. */
export class Fields {
  /**
   * @param {unknown} raw
   * @param {string} where
   */
  constructor(raw, where) {
    if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) {
      throw new FormError(`${where} is ${shown(raw)}, not an object`)
    }
    this.raw = /** @type {Record<string, unknown>} */ (raw)
    this.where = where
  }

  /** All keys. */
  names() {
    return Object.keys(this.raw)
  }

  /** @param {string} name */
  has(name) {
    return Object.hasOwn(this.raw, name)
  }

  /**
   * A whole number of the range.
   * @param {string} name
   * @param {number} least
   * @param {number} most
   */
  integer(name, least, most) {
    const value = this.#get(name)
    if (!isWhole(this.raw, name, value) || value < least || value > most) {
      throw this.#wrong(name, `a whole number in ${least}..${most}`)
    }
    return value
  }

  /**
   * A whole number of the range, or null.
   * @param {string} name
   * @param {number} least
   * @param {number} most
   */
  integerOrNull(name, least, most) {
    return this.#get(name) === null ? null : this.integer(name, least, most)
  }

  /**
   * At most so many whole numbers from 0 to 2^53 - 1.
   * @param {string} name
   * @param {number} most
   * @returns {number[]}
   */
  integers(name, most) {
    const value = this.#get(name)
    if (!Array.isArray(value) || value.length > most || !value.every((n, i) => isWhole(value, i, n) && n >= 0)) {
      throw this.#wrong(name, `a list of at most ${most} sizes`)
    }
    return value
  }

  /**
   * At most so many numbers.
   * @param {string} name
   * @param {number} most
   * @returns {number[]}
   */
  numbers(name, most) {
    const value = this.#get(name)
    if (!Array.isArray(value) || value.length > most || !value.every((n) => typeof n === 'number')) {
      throw this.#wrong(name, `a list of at most ${most} numbers`)
    }
    return value
  }

  /**
   * At most so many numbers, or null.
   * @param {string} name
   * @param {number} most
   */
  numbersOrNull(name, most) {
    return this.#get(name) === null ? null : this.numbers(name, most)
  }

  /**
   * True or false.
   * @param {string} name
   */
  boolean(name) {
    const value = this.#get(name)
    if (typeof value !== 'boolean') throw this.#wrong(name, 'true or false')
    return value
  }

  /**
   * Short text that can be shown.
   * @param {string} name
   */
  text(name) {
    const value = this.#get(name)
    const short = typeof value === 'string' && value.length <= 2 * MAX_TEXT && [...value].length <= MAX_TEXT
    if (!short || HIDDEN.test(value)) throw this.#wrong(name, 'short, printable text')
    return value
  }

  /**
   * A list of such texts.
   * @param {string} name
   */
  texts(name) {
    const value = this.#get(name)
    if (!Array.isArray(value) || value.length > 100) throw this.#wrong(name, 'a list of texts')
    return value.map((item) => new Fields({ [name]: item }, this.where).text(name))
  }

  /**
   * An object of such lists.
   * @param {string} name
   */
  textsByName(name) {
    const lists = this.fields(name)
    return new Map(lists.names().map((key) => [key, lists.texts(key)]))
  }

  /**
   * 64 hexadecimal digits.
   * @param {string} name
   */
  sha256(name) {
    const value = this.text(name)
    if (!/^[0-9a-f]{64}$/.test(value)) throw this.#wrong(name, 'a SHA-256')
    return value
  }

  /**
   * The plain name of a file that lies in the bundle's folder itself and nowhere else.
   * @param {string} name
   * @param {'.onnx' | '.weights'} suffix
   */
  fileName(name, suffix) {
    const value = this.text(name)
    if (!/^[A-Za-z0-9_][A-Za-z0-9_.+-]*$/.test(value.slice(0, -suffix.length)) || !value.endsWith(suffix)) {
      throw this.#wrong(name, `the plain name of a ${suffix} file inside the bundle`)
    }
    return value
  }

  /**
   * One of the choices.
   * @template {string} T
   * @param {string} name
   * @param {readonly T[]} choices
   */
  oneOf(name, choices) {
    const value = this.text(name)
    const found = choices.find((choice) => choice === value)
    if (found === undefined) throw this.#wrong(name, `one of ${choices.join(', ')}`)
    return found
  }

  /**
   * An object inside.
   * @param {string} name
   */
  fields(name) {
    return new Fields(this.#get(name), name)
  }

  /**
   * An object inside, or null.
   * @param {string} name
   */
  fieldsOrNull(name) {
    return this.#get(name) === null ? null : this.fields(name)
  }

  /**
   * A list of objects.
   * @param {string} name
   */
  rows(name) {
    const value = this.#get(name)
    if (!Array.isArray(value) || value.length > 10000) throw this.#wrong(name, 'a list')
    return value.map((row, i) => new Fields(row, `${name}[${i}]`))
  }

  /** @param {string} name */
  #get(name) {
    if (!this.has(name)) throw new FormError(`${this.where} lacks ${name}`)
    return this.raw[name]
  }

  /**
   * @param {string} name
   * @param {string} wanted
   */
  #wrong(name, wanted) {
    return new FormError(`${name} of ${this.where} is ${shown(this.raw[name])}, not ${wanted}`)
  }
}
