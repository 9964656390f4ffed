/** The same clip everywhere: 5 frames of 48x32. */
const [frames, height, width] = [5, 32, 48]
export const video = { data: Uint8Array.from({ length: frames * height * width * 3 }, (_, i) => i % 251), frames, height, width }
