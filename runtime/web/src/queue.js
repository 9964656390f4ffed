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
