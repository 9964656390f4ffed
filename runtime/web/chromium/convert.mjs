/**
 * node convert.mjs ADDRESS FOLDER FIELDS SOURCE...: choose files (or `test`, or `camera`), run, save both files.
 * FIELDS: JSON of the fields to fill in, by their ids. Prints the figures shown.
 */

import { onPage } from './launch.mjs'
import { figures, fill, save, status } from './use.mjs'

const [address, folder, fields, ...sources] = process.argv.slice(2)

await onPage(address, { viewport: { width: 1200, height: 1000 } }, async (page) => {
  await page.locator('#bundle option').first().waitFor({ state: 'attached' })
  await fill(page, JSON.parse(fields))
  if (sources[0] === 'test' || sources[0] === 'camera') await page.locator(`#${sources[0]}`).click()
  else await page.locator('#file').setInputFiles(sources)
  await status(page, /^Ready/)
  await page.locator('#run').click()
  await status(page, /^Done/)
  await save(page, folder)
  await page.screenshot({ path: `${folder}/page.png`, fullPage: true })
  return { figures: await figures(page), source: await page.locator('#source').textContent() }
})
