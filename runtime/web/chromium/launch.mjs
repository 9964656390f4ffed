/** A headless Chromium on the served page, which fails on any error of the page and on any request to elsewhere. */

import { chromium } from 'playwright-core'

const FLAGS = [
  '--no-sandbox',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--use-fake-device-for-media-stream',
  '--use-fake-ui-for-media-stream',
]
const NO_GPU = ['--disable-gpu']
/** A graphics adapter that computes on the CPU, which may be busy: without the watchdog it is not given up for lost. */
export const SOFTWARE_GPU = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--disable-gpu-watchdog']

/**
 * Calls `use` with a page on `address`, and prints what it returns as JSON.
 * @param {string} address
 * @param {import('playwright-core').BrowserContextOptions} options
 * @param {(page: import('playwright-core').Page) => Promise<unknown>} use
 * @param {string[]} graphics the browser's flags of the adapter that WebGPU gets
 */
export async function onPage(address, options, use, graphics = NO_GPU) {
  const args = [...FLAGS, ...graphics]
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, headless: true, args })
  try {
    const context = await browser.newContext(options)
    /** @type {string[]} */
    const faults = []
    const { origin } = new URL(address)
    context.on('request', (request) => {
      const url = request.url()
      if (!url.startsWith(`${origin}/`) && !/^(blob|data):/.test(url)) faults.push(`a request to ${url}`)
    })
    const page = await context.newPage()
    page.on('pageerror', (error) => faults.push(`error: ${error.message}`))
    page.on('console', (message) => {
      if (message.type() === 'error') faults.push(`console: ${message.text()}`)
    })
    await page.goto(address)
    if (graphics === SOFTWARE_GPU && !(await page.evaluate(hasAdapter))) {
      throw new Error('this browser offers no graphics adapter')
    }
    const found = await use(page).catch((error) => {
      throw new Error([error.message, ...faults].join('\n'))
    })
    if (faults.length) throw new Error(faults.join('\n'))
    console.log(JSON.stringify(found))
  } finally {
    await browser.close()
  }
}

/** Whether the browser started the adapter that it was asked for; runs in the page. */
async function hasAdapter() {
  return Boolean(await /** @type {any} */ (navigator).gpu?.requestAdapter())
}
