/** Attention in plain operators: what the operator computes, for any numbers of frames and of pixels. */
import assert from 'node:assert/strict'
import test from 'node:test'

import * as native from 'onnxruntime-node'
import * as web from 'onnxruntime-web'

import { BundleError } from '../src/index.js'
import { checkOnnxFile } from '../src/onnx_file.js'
import { plainAttention } from '../src/plain_attention.js'
import { largestDifference } from './material.js'
import { floats, model, node, port } from './onnx.js'

const C = 5

/**
 * A graph whose inputs meet in two attentions, one behind the other.
 * @param {string} operator
 */
function attending(operator) {
  const axes = ['B', 'L', C]
  const take = (/** @type {string[]} */ names, /** @type {string} */ y, /** @type {number} */ scale) =>
    node(operator, names, [y], { num_heads: 1, scale }, 'com.microsoft')
  return model({
    inputs: ['q', 'k', 'v'].map((name) => port(name, 'float32', axes)),
    outputs: [port('z', 'float32', axes)],
    nodes: [
      take(['q', 'k', 'v'], 'y', 0.4472136),
      node('Mul', ['y', 'two'], ['x']),
      take(['x', 'k', 'v'], 'z', 0.75),
    ],
    tensors: [floats('two', [1], [2])],
  })
}

/**
 * @param {typeof native | typeof web} ort
 * @param {Uint8Array} bytes
 * @param {number[]} shape
 */
async function run(ort, bytes, shape) {
  const session = await ort.InferenceSession.create(bytes, { logSeverityLevel: 3 })
  const [batch, length] = shape
  const feeds = ['q', 'k', 'v'].map((name, i) => {
    const data = Float32Array.from({ length: batch * length * C }, (_, j) => 2 * Math.sin(j * (j % 7) + 3 * i))
    return [name, new ort.Tensor('float32', data, [...shape, C])]
  })
  const { z } = await session.run(Object.fromEntries(feeds))
  await session.release()
  assert.deepEqual([...z.dims], [...shape, C])
  return /** @type {Float32Array} */ (z.data)
}

test('it computes what the operator does', async () => {
  web.env.wasm.numThreads = 1
  const fused = attending('MultiHeadAttention')
  const plain = plainAttention(fused, 'x')
  checkOnnxFile(plain, 'x')
  assert.ok(!Buffer.from(plain).includes('MultiHeadAttention'))
  const shapes = [[1, 1], [1, 1024], [1, 1025], [1, 3001], [2, 5], [3, 700], [1030, 2]]
  for (const shape of shapes) {
    const wanted = await run(native, fused, shape)
    assert.ok(wanted.some((value) => Math.abs(value) > 0.1))
    for (const ort of [native, web]) {
      const difference = largestDifference(await run(ort, plain, shape), wanted)
      assert.ok(difference < 1e-5, `${shape}: ${difference}`)
    }
  }
})

test('scores of all queries are never there at once', async () => {
  const [plain, length] = [plainAttention(attending('MultiHeadAttention'), 'x'), 16_000]
  const before = process.resourceUsage().maxRSS
  await run(native, plain, [1, length])
  const grown = (process.resourceUsage().maxRSS - before) * 1024
  assert.ok(grown < (4 * length ** 2) / 2, `${grown} bytes`)
})

test('a model without the operator stays as it is', () => {
  const bytes = attending('Attention')
  assert.equal(plainAttention(bytes, 'x'), bytes)
})

test('an operator that computes something else is refused', () => {
  const three = ['q', 'k', 'v']
  /**
   * @param {string[]} takes
   * @param {string[]} gives
   * @param {Record<string, number>} attributes
   */
  const plain = (takes, gives, attributes) => {
    const axes = ['B', 'L', C]
    const bytes = model({
      inputs: takes.map((name) => port(name, 'float32', axes)),
      outputs: gives.map((name) => port(name, 'float32', axes)),
      nodes: [node('MultiHeadAttention', takes, gives, attributes, 'com.microsoft')],
      tensors: [],
    })
    checkOnnxFile(bytes, 'x')
    return plainAttention(bytes, 'x')
  }
  assert.ok(plain(three, ['z'], { scale: 0.5, num_heads: 1 }))
  /** @type {[string[], string[], Record<string, number>][]} */
  const others = [
    [three, ['z'], { num_heads: 2, scale: 0.5 }],
    [three, ['z'], { num_heads: 129, scale: 0.5 }],
    [three, ['z'], { num_heads: 1 }],
    [three, ['z'], { scale: 0.5 }],
    [three, ['z'], { num_heads: 1, scale: 1e-60 }], // 0 as a float32
    [three, ['z'], { num_heads: 1, scale: 0.5, unidirectional: 1 }],
    [[...three, 'bias'], ['z'], { num_heads: 1, scale: 0.5 }],
    [['q', 'k'], ['z'], { num_heads: 1, scale: 0.5 }],
    [three, ['z', 'new_k'], { num_heads: 1, scale: 0.5 }],
  ]
  for (const other of others) {
    assert.throws(() => plain(...other), (error) => {
      assert.match(/** @type {Error} */ (error).message, /^x has attention that is not of three inputs with num_heads 1/)
      return error instanceof BundleError
    })
  }
})
