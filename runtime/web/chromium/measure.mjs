/**
 * node measure.mjs ADDRESS FOLDER FIELDS: the test clip twice, then pictures of the page: light, dark, and on a phone.
 * FIELDS as in convert.mjs. Prints the figures of both runs, the bytes loaded for them, and how long the page took to
 * be ready.
 */

import { onPage } from './launch.mjs'
import { figures, fill, status } from './use.mjs'

const [address, folder, fields] = process.argv.slice(2)
const DESKTOP = { width: 1200, height: 900 }
const PHONE = { width: 360, height: 740 }

await onPage(address, { viewport: DESKTOP, colorScheme: 'light' }, async (page) => {
  let bytes = 0
  page.context().on('response', (response) => {
    bytes += Number(response.headers()['content-length'] ?? 0)
  })
  const since = performance.now()
  await page.reload()
  await page.locator('#bundle option').first().waitFor({ state: 'attached' })
  const ready = { seconds: (performance.now() - since) / 1000, bytes }
  await fill(page, JSON.parse(fields))
  await page.locator('#test').click()
  await status(page, /^Ready/)
  const runs = []
  for (let i = 0; i < 2; i++) {
    await page.locator('#run').click()
    await status(page, /^(?!Done)/) // the one before is over
    await status(page, /^Done/)
    runs.push({ ...(await figures(page)), bytes })
  }
  await page.locator('#frame').fill('12')
  await page.screenshot({ path: `${folder}/light.png`, fullPage: true })
  await page.emulateMedia({ colorScheme: 'dark' })
  await page.screenshot({ path: `${folder}/dark.png`, fullPage: true })
  await page.emulateMedia({ colorScheme: 'light' })
  await page.setViewportSize(PHONE)
  await page.screenshot({ path: `${folder}/phone.png`, fullPage: true })
  return { browser: page.context().browser()?.version(), ready, runs }
})
