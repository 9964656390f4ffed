/** Start-up of the JavaScript runtime: `node scripts/start_javascript.mjs cpu|wasm BUNDLE`, a new process each time. */
const marks = [['process', performance.now()]]
const done = (name) => marks.push([name, performance.now()])
const [provider, bundle] = process.argv.slice(2)

const { Tokenizer } = await import('../runtime/web/src/index.js')
done('module')
const tok = await Tokenizer.load(bundle, { provider, threads: 1 })
done('engine and bundle')
const video = { data: new Uint8Array(17 * 64 * 64 * 3).map((_, i) => i * i), frames: 17, height: 64, width: 64 }
await tok.decode(await tok.encode(video))
done('17 frames of 64x64, there and back')

const { user, system } = process.cpuUsage()
const ms = marks.map(([name, at], i) => `${name} ${Math.round(at - (marks[i - 1]?.[1] ?? 0))} ms`)
const memory = Math.round(process.resourceUsage().maxRSS / 1024)
console.log(`${ms.join(', ')}; processor time ${Math.round((user + system) / 1000)} ms; peak memory ${memory} MiB`)
