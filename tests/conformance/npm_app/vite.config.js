const isolated = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' }
export default { server: { headers: isolated }, preview: { headers: isolated }, worker: { format: 'es' } }
