/**
 * node lost.mjs ADDRESS BUNDLE WAY PICTURE...: the page on WebGPU loses its graphics device between two runs, by
 * WAY: destroy, or crash, that of the browser's graphics process. Prints what the page says of three runs.
 */

import { SOFTWARE_GPU, onPage } from './launch.mjs'
import { fill, status } from './use.mjs'

const [address, bundle, way, ...pictures] = process.argv.slice(2)

/** @param {import('playwright-core').Page} page */
async function run(page) {
  await page.locator('#run').click()
  await page.locator('#work').waitFor({ state: 'visible' })
  await status(page, /^Done/)
  return page.locator('#status').textContent()
}

/** @param {import('playwright-core').Page} page */
async function destroy(page) {
  const module = new URL('/npm/ort.webgpu.min.mjs', address).href
  await page.workers()[0].evaluate(async (module) => (await (await import(module)).env.webgpu.device).destroy(), module)
}

/** @param {import('playwright-core').Page} page */
async function crash(page) {
  const session = await page.context().browser()?.newBrowserCDPSession()
  await session?.send('Browser.crashGpuProcess')
}

/** @param {import('playwright-core').Page} page */
async function lose(page) {
  await page.locator('#bundle option').first().waitFor({ state: 'attached' })
  await page.locator('#short').evaluate((field) => field.append(new Option('16'))) // a software device is slow
  await fill(page, { engine: 'webgpu', bundle, short: '16' })
  await page.locator('#file').setInputFiles(pictures)
  await status(page, /^Ready/)
  const said = [await run(page)]
  await (way === 'crash' ? crash : destroy)(page)
  for (let i = 0; i < 2; i++) said.push(await run(page).catch((error) => error.message))
  return said
}

await onPage(address, {}, lose, SOFTWARE_GPU)
