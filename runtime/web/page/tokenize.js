/** Sends a job to the worker and its reports to whom they concern. */

/** @import { Job, Reports } from './worker.js' */

/** @type {Worker | null} */
let worker = null
let made = ''

/** Ends the worker, whatever it does, and frees its memory. */
function end() {
  worker?.terminate()
  worker = null
}

/**
 * Run one job; the worker keeps its engine and bundle for the next job that needs the same. An abort ends it at once.
 * @param {Job} job
 * @param {Reports} reports
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
export async function tokenize(job, reports, signal) {
  signal.throwIfAborted() // a listener hears of later aborts only
  const { clip, ...needs } = job
  const key = JSON.stringify(needs)
  if (made !== key) end()
  made = key
  const current = (worker ??= new Worker(new URL('worker.js', import.meta.url), { type: 'module' }))
  try {
    await new Promise((/** @type {(_: void) => void} */ resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason))
      current.onerror = (event) => reject(new Error(event.message || 'the worker did not start'))
      current.onmessage = ({ data: { kind, ...report } }) => {
        if (kind === 'error') return reject(new Error(report.text))
        reports[/** @type {keyof Reports} */ (kind)](report)
        if (kind === 'done') resolve()
      }
      current.postMessage(job)
    })
  } catch (error) {
    end()
    throw error
  }
}
