/**
 * node keyboard.mjs ADDRESS FOLDER: the whole way with the keyboard alone, on a phone's screen, light and dark.
 * Prints what was found; pictures go into FOLDER.
 */

import { onPage } from './launch.mjs'
import { status } from './use.mjs'

/** @import { Page } from 'playwright-core' */

const [address, folder] = process.argv.slice(2)
const PHONE = { viewport: { width: 360, height: 740 }, colorScheme: /** @type {const} */ ('dark') }

/**
 * Press Tab until the element is reached; throws where it is not, or where the focus cannot be seen.
 * @param {Page} page
 * @param {string} id
 */
async function reach(page, id) {
  for (let i = 0; i < 60; i++) {
    await page.keyboard.press('Tab')
    const { now, outline } = await page.evaluate(() => {
      const at = /** @type {Element} */ (document.activeElement)
      return { now: at.id, outline: getComputedStyle(at).outlineStyle }
    })
    if (now && outline === 'none') throw new Error(`the focus on ${now} cannot be seen`)
    if (now === id) return
  }
  throw new Error(`Tab does not reach ${id}`)
}

await onPage(address, PHONE, async (page) => {
  await page.locator('#bundle option').first().waitFor({ state: 'attached' })
  const { keyboard } = page
  await reach(page, 'test')
  await keyboard.press('Enter')
  await status(page, /^Ready/)
  await reach(page, 'short')
  for (let i = 0; i < 2; i++) await keyboard.press('ArrowDown') // 256: work enough to be cancelled, on a fast machine too
  await reach(page, 'frames')
  await keyboard.press('Control+A')
  await keyboard.type('300')
  await reach(page, 'run')
  await keyboard.press('Enter')
  await status(page, /^Encoding/)
  if ((await page.evaluate(() => document.activeElement?.id)) !== 'run') throw new Error('the focus is lost')
  await reach(page, 'cancel')
  await keyboard.press('Enter')
  await status(page, /^Cancelled/)

  await reach(page, 'short')
  await keyboard.press('Home')
  await reach(page, 'frames')
  await keyboard.press('Control+A')
  await keyboard.type('9')
  await keyboard.press('Enter') // submits
  await status(page, /^Done/)
  await reach(page, 'frame')
  await keyboard.press('End')
  const last = await page.locator('#frame-note').textContent()
  await keyboard.press('ArrowLeft')
  const before = await page.locator('#frame-note').textContent()
  await page.screenshot({ path: `${folder}/phone-dark.png`, fullPage: true })
  await page.emulateMedia({ colorScheme: 'light' })
  await page.screenshot({ path: `${folder}/phone-light.png`, fullPage: true })
  const wide = await page.evaluate(() => document.documentElement.scrollWidth)
  return { last, before, wide }
})
