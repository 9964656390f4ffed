/** JSON in, by the rules of docs/format.md: RFC 8259 and no second value of one name, which JSON.parse would take. */

/** Thrown for a value of another form; the reader of the file says which file it was. */
export class FormError extends Error {}

const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y
const MAX_NUMBER = 1e300
const MAX_DEPTH = 64 // objects and lists inside each other
/** @type {[string, unknown][]} */
const WORDS = [
  ['true', true],
  ['false', false],
  ['null', null],
]
/**
 * The members of an object or a list that are written with a fraction or an exponent: `5.0` is no whole number.
 * @type {WeakMap<object, Set<string | number>>}
 */
const decimals = new WeakMap()

/**
 * What UTF-8 JSON holds; throws FormError.
 * @param {Uint8Array} bytes
 * @returns {unknown}
 */
export function parseJson(bytes) {
  let text
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    throw new FormError('it is no JSON: it is not UTF-8 text')
  }
  return new Parser(text).document()
}

/**
 * Whether a member of what `parseJson` gave is a whole number that a float64 holds exactly.
 * @param {object} container
 * @param {string | number} name
 * @param {unknown} value the member
 * @returns {value is number}
 */
export function isWhole(container, name, value) {
  return Number.isSafeInteger(value) && !decimals.get(container)?.has(name)
}

class Parser {
  #at = 0
  #isDecimal = false // of the value that was read last

  /** @param {string} text */
  constructor(text) {
    this.text = text
  }

  document() {
    const value = this.#value(0)
    if (this.#peek() !== undefined) throw this.#error('more text after its value')
    return value
  }

  /** @param {string} what */
  #error(what) {
    return new FormError(`it is no JSON: ${what} at character ${this.#at}`)
  }

  /** The next character that is no space. */
  #peek() {
    while (' \t\n\r'.includes(this.text[this.#at] ?? '.')) this.#at++
    return this.text[this.#at]
  }

  /** @param {string} character */
  #take(character) {
    if (this.#peek() !== character) return false
    this.#at++
    return true
  }

  /** @param {string} character */
  #expect(character) {
    if (!this.#take(character)) throw this.#error(`no '${character}'`)
  }

  /**
   * @param {number} depth
   * @returns {unknown}
   */
  #value(depth) {
    const next = this.#peek()
    if (next === '{' || next === '[') {
      if (depth === MAX_DEPTH) throw this.#error('it is nested too deeply')
      const value = next === '{' ? this.#object(depth) : this.#list(depth)
      this.#isDecimal = false
      return value
    }
    this.#isDecimal = false
    if (next === '"') return this.#string()
    const word = WORDS.find(([name]) => this.text.startsWith(name, this.#at))
    if (!word) return this.#number()
    this.#at += word[0].length
    return word[1]
  }

  /** @param {number} depth */
  #object(depth) {
    /** @type {Record<string, unknown>} */
    const object = {}
    this.#expect('{')
    if (this.#take('}')) return object
    do {
      if (this.#peek() !== '"') throw this.#error('no name')
      const name = this.#string()
      if (Object.hasOwn(object, name)) throw this.#error('a second value of one name')
      this.#expect(':')
      const value = this.#value(depth + 1)
      // A plain assignment would give `__proto__` another meaning.
      Object.defineProperty(object, name, { value, configurable: true, enumerable: true, writable: true })
      this.#note(object, name)
    } while (this.#take(','))
    this.#expect('}')
    return object
  }

  /** @param {number} depth */
  #list(depth) {
    /** @type {unknown[]} */
    const list = []
    this.#expect('[')
    if (this.#take(']')) return list
    do {
      list.push(this.#value(depth + 1))
      this.#note(list, list.length - 1)
    } while (this.#take(','))
    this.#expect(']')
    return list
  }

  /**
   * @param {object} container
   * @param {string | number} name
   */
  #note(container, name) {
    if (this.#isDecimal) decimals.set(container, (decimals.get(container) ?? new Set()).add(name))
  }

  #string() {
    const start = this.#at
    while (this.text[++this.#at] !== '"') {
      if (this.text[this.#at] === '\\') this.#at++
      if (this.#at >= this.text.length) throw this.#error('text without an end')
    }
    this.#at++
    /** @type {string} */
    let value
    try {
      value = JSON.parse(this.text.slice(start, this.#at))
    } catch {
      throw this.#error('text with an unknown escape or a control character')
    }
    if (/\p{Surrogate}/u.test(value)) throw this.#error('half a character')
    return value
  }

  #number() {
    NUMBER.lastIndex = this.#at
    const match = NUMBER.exec(this.text)
    if (!match) throw this.#error('no value')
    const value = Number(match[0])
    if (!(Math.abs(value) < MAX_NUMBER)) throw this.#error('a number out of range')
    this.#at += match[0].length
    this.#isDecimal = match[1] !== undefined || match[2] !== undefined
    return value + 0 // not -0
  }
}
