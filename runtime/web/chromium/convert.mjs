/**
 * node convert.mjs ADDRESS FOLDER FIELDS SOURCE...: choose files (or `test`, or `camera`), run, save the files offered.
 * FIELDS: JSON of the fields to fill in, by their ids; `without` names what the browser is to lack. Prints the figures
 * shown, and what the page says of the source and of the MP4.
 */

import { SOFTWARE_GPU, onPage } from './launch.mjs'
import { figures, fill, save, status } from './use.mjs'

const [address, folder, fields, ...sources] = process.argv.slice(2)
const { without, ...values } = JSON.parse(fields)

/** @param {import('playwright-core').Page} page */
async function convert(page) {
  if (without) {
    await lack(page, without)
  }
  await page.locator('#bundle option').first().waitFor({ state: 'attached' })
  await fill(page, values)
  if (sources[0] === 'test' || sources[0] === 'camera') await page.locator(`#${sources[0]}`).click()
  else await page.locator('#file').setInputFiles(sources)
  await status(page, /^Ready/)
  await page.locator('#run').click()
  await status(page, /^Done/)
  await save(page, folder)
  await page.screenshot({ path: `${folder}/page.png`, fullPage: true })
  const [source, video] = await page.locator('#source, #video-note').allTextContents()
  return { figures: await figures(page), source, video }
}

/**
 * Open the page again in a browser without something global, here and in workers.
 * @param {import('playwright-core').Page} page
 * @param {string} name
 */
async function lack(page, name) {
  await page.addInitScript((name) => Reflect.deleteProperty(globalThis, name), name)
  await page.route('**/worker.js', async (route) => {
    const answer = await route.fetch()
    await route.fulfill({ response: answer, body: `Reflect.deleteProperty(globalThis, '${name}')\n${await answer.text()}` })
  })
  await page.reload()
}

const screen = { viewport: { width: 1200, height: 1000 } }
await onPage(address, screen, convert, values.engine === 'webgpu' ? SOFTWARE_GPU : undefined)
