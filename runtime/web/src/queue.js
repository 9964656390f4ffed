import { InputError } from './errors.js'

/** Runs tasks one after the other in the order in which they came. */
export class Queue {
  /** @type {Promise<unknown>} */
  #last = Promise.resolve()

  /**
   * @template T
   * @param {() => Promise<T>} task
   * @returns {Promise<T>}
   */
  run(task) {
    const result = this.#last.then(task)
    this.#last = result.catch(() => {})
    return result
  }
}

/** The calls of one stream. Work that fails leaves a stream half way, so that nothing after it could be right. */
export class StreamQueue extends Queue {
  #failed = false

  /**
   * Run `work`, unless `check`, which changes nothing, refuses or earlier work has failed.
   * @template T
   * @param {() => void} check
   * @param {() => Promise<T>} work
   * @returns {Promise<T>}
   */
  runChecked(check, work) {
    return this.run(async () => {
      check()
      if (this.#failed) {
        throw new InputError('an earlier call with this stream has failed; ask the tokenizer for a new one')
      }
      try {
        return await work()
      } catch (error) {
        this.#failed = true
        throw error
      }
    })
  }
}
