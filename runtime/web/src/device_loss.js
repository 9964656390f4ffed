/** Graphics devices that browsers take away: a driver that crashed, a machine that slept, memory that ran out. */
import { ProviderError } from './errors.js'

/** @import { Ort } from './provider.js' */

const SOON = 100 // milliseconds in which a browser says that a device is lost, after calls have failed
const CURE = 'load the bundle again with a new engine, in a new worker or page'

/** @typedef {{ device: GPUDevice, reason: string | null }} Watched reason: why the device was lost; null: it is not */
/** @typedef {{ lost: Promise<{ message: string }> }} GPUDevice */

/** @type {WeakMap<Ort, Watched>} */
const watched = new WeakMap()

/**
 * Notice when the device of an engine that has a session on it is lost; the device of Node's engine is not shown.
 * @param {Ort} ort
 */
export async function watchDevice(ort) {
  const device = /** @type {GPUDevice | undefined} */ (await ort.env.webgpu?.device)
  if (!device || watched.get(ort)?.device === device) return
  /** @type {Watched} */
  const entry = { device, reason: null }
  watched.set(ort, entry)
  device.lost.then(({ message }) => (entry.reason = message.replace(/\.$/, '') || 'the browser says no more'))
}

/**
 * Throw ProviderError where an engine's device is lost, which is for good: the engine gets no other.
 * @param {Ort} ort
 */
export function checkDevice(ort) {
  const reason = watched.get(ort)?.reason
  if (reason) throw new ProviderError(`the graphics device was lost (${reason}); ${CURE}`)
}

/**
 * The same after a call failed, of which the loss may have been the cause.
 * @param {Ort} ort
 */
export async function checkDeviceAfterFailure(ort) {
  const entry = watched.get(ort)
  if (!entry) return
  await Promise.race([entry.device.lost, new Promise((resolve) => setTimeout(resolve, SOON))])
  checkDevice(ort)
}
