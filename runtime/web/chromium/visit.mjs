/** node visit.mjs ADDRESS [webgpu]: prints what the page writes into its #found; webgpu: with the software adapter. */

import { SOFTWARE_GPU, onPage } from './launch.mjs'

const [address, webgpu] = process.argv.slice(2)

await onPage(
  address,
  {},
  async (page) => {
    const found = page.locator('#found:not(:empty)')
    await found.waitFor({ timeout: 240_000 })
    return JSON.parse((await found.textContent()) ?? '')
  },
  webgpu ? SOFTWARE_GPU : undefined,
)
