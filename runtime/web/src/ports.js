/** Is a loaded graph the one that its manifest describes? */
import { BundleError } from './errors.js'
import { portsOf } from './graph_entry.js'

/** @import { InferenceSession } from 'onnxruntime-common' */
/** @import { GraphEntry, Port } from './graph_entry.js' */

/**
 * Throw BundleError where names, types or sizes of a graph are not those of the manifest.
 * @param {GraphEntry} entry
 * @param {InferenceSession} session
 * @param {string} name
 */
export function checkPorts(entry, session, name) {
  const where = `${name} does not fit its manifest`
  const ports = portsOf(entry)
  for (const kind of /** @type {const} */ (['inputs', 'outputs'])) {
    const [expected, found] = [ports[kind], kind === 'inputs' ? session.inputMetadata : session.outputMetadata]
    const names = found.map((port) => port.name)
    const missing = [...expected.keys()].filter((port) => !names.includes(port))
    const surplus = names.filter((port) => !expected.has(port))
    if (missing.length || surplus.length) {
      throw new BundleError(
        `${where}: ${kind} that only the manifest has: [${missing}], that only the graph has: [${surplus}]`,
      )
    }
    for (const port of found) {
      const said = /** @type {Port} */ (expected.get(port.name))
      const [dtype, shape] = port.isTensor ? [port.type, port.shape] : ['no tensor', []]
      if (dtype !== said.dtype || !fits(said.axes.split(' '), shape)) {
        throw new BundleError(
          `${where}: ${port.name} is ${said.dtype} [${said.axes}] in the manifest, ${dtype} [${shape.join(' ')}] in ` +
            'the graph',
        )
      }
    }
  }
}

/**
 * Whether the manifest's axes agree with a graph's sizes; only numbers can contradict each other.
 * @param {string[]} axes
 * @param {readonly (number | string)[]} shape
 */
function fits(axes, shape) {
  if (axes.length !== shape.length) return false
  return axes.every((axis, i) => axis >= 'A' || typeof shape[i] === 'string' || Number(axis) === shape[i])
}
