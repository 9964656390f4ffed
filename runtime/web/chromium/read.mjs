/**
 * node read.mjs ADDRESS FOLDER OPTIONS FILE...: frames of video files, as the module reads them in the page.
 * OPTIONS: a JSON list, files are read with each in turn. Writes NAME.I.rgb into FOLDER; prints by NAME and in the order
 * of OPTIONS what was read, or why nothing was.
 */

import { writeFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { addTake, give } from './files.mjs'
import { onPage } from './launch.mjs'

const [address, folder, options, ...paths] = process.argv.slice(2)

/** @param {{ name: string, options: any }} job */
async function inPage({ name, options }) {
  const { VideoReader } = await import(String(new URL('/src/video/index.js', location.href)))
  const mediabunny = await import(String(new URL('/npm/mediabunny.min.mjs', location.href)))
  const file = new File([await (await fetch(`/given/${name}`)).blob()], name)
  try {
    const reader = await VideoReader.open(file, { mediabunny })
    const { height, width, fps, timeBase, duration, codec } = reader
    /** @type {[any[], any[], any[]]} */
    const [data, pts, durations] = [[], [], []]
    for await (const frame of reader.frames(options)) {
      data.push(frame.data)
      pts.push(Number(frame.pts))
      durations.push(frame.duration === null ? null : Number(frame.duration))
    }
    reader.dispose()
    const text = await /** @type {any} */ (globalThis).take(new Blob(data))
    return { text, facts: { height, width, fps, timeBase, duration, codec, pts, durations } }
  } catch (error) {
    const { name, message } = /** @type {Error} */ (error)
    return { facts: { error: `${name}: ${message}` } }
  }
}

await onPage(address, {}, async (page) => {
  await give(page, paths)
  await addTake(page)
  /** @type {Record<string, object[]>} */
  const found = {}
  for (const name of paths.map((path) => basename(path))) {
    found[name] = []
    for (const each of JSON.parse(options)) {
      const { text, facts } = await page.evaluate(inPage, { name, options: each })
      if (text !== undefined) await writeFile(`${folder}/${name}.${found[name].length}.rgb`, Buffer.from(text, 'base64'))
      found[name].push(facts)
    }
  }
  return found
})
