/** Files of this machine in the page, and bytes of the page here. */

import { readFile } from 'node:fs/promises'
import { basename } from 'node:path'

/**
 * The page may fetch these as `/given/NAME`.
 * @param {import('playwright-core').Page} page
 * @param {string[]} paths
 */
export async function give(page, paths) {
  const places = new Map(paths.map((path) => [basename(path), path]))
  await page.route('**/given/*', async (route) => {
    const name = decodeURIComponent(basename(new URL(route.request().url()).pathname))
    await route.fulfill({ body: await readFile(/** @type {string} */ (places.get(name))) })
  })
}

/**
 * Bytes as text that leaves the page, for the page itself to call: `page.evaluate(given, ...)` has no way for bytes.
 * @param {import('playwright-core').Page} page
 */
export async function addTake(page) {
  await page.evaluate(() => {
    Object.assign(globalThis, {
      take: (/** @type {Blob} */ blob) =>
        new Promise((resolve) => {
          const reader = new FileReader()
          reader.onload = () => resolve(/** @type {string} */ (reader.result).split(',')[1])
          reader.readAsDataURL(blob)
        }),
    })
  })
}
