/** What a visitor does on the page. */

/** @import { Page } from 'playwright-core' */

/**
 * Fill in fields by their id.
 * @param {Page} page
 * @param {Record<string, string>} fields
 */
export async function fill(page, fields) {
  for (const [id, value] of Object.entries(fields)) {
    const field = page.locator(`#${id}`)
    if ((await field.evaluate((e) => e.tagName)) === 'SELECT') await field.selectOption(value)
    else await field.fill(value)
  }
}

/**
 * Wait for a status; throws with what the page says is wrong.
 * @param {Page} page
 * @param {RegExp} wanted
 */
export async function status(page, wanted) {
  await page.waitForFunction(
    (source) => {
      const text = (/** @type {string} */ id) => document.getElementById(id)?.textContent ?? ''
      return text('error') || new RegExp(source).test(text('status'))
    },
    wanted.source,
    { timeout: 480_000 },
  )
  const wrong = await page.locator('#error').textContent()
  if (wrong) throw new Error(`the page says: ${wrong}`)
}

/**
 * The figures shown, by their names.
 * @param {Page} page
 */
export function figures(page) {
  return page.locator('#numbers div').evaluateAll((rows) =>
    Object.fromEntries(rows.map((row) => [row.children[0].textContent, row.children[1].textContent])),
  )
}

/**
 * Save the files offered.
 * @param {Page} page
 * @param {string} folder
 */
export async function save(page, folder) {
  for (const [id, name] of [['save-tokens', 'tokens.safetensors'], ['save-frames', 'frames.rgb'], ['save-video', 'video.mp4']]) {
    if (await page.locator(`#${id}`).isHidden()) continue
    const [download] = await Promise.all([page.waitForEvent('download'), page.locator(`#${id}`).click()])
    await download.saveAs(`${folder}/${name}`)
  }
}
