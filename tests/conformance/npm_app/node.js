import { Tokenizer } from 'vidtok-onnx-web'
import { video } from './clip.js'

const tok = await Tokenizer.load('public/tiny-fsq-32768', { threads: 1 })
console.log(JSON.stringify({ [tok.provider]: Array.from((await tok.encode(video)).data) }))
await tok.dispose()
