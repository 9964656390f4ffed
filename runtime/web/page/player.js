/** The frame slider and the play button. */

export class Player {
  /**
   * @param {{ button: HTMLButtonElement, slider: HTMLInputElement, note: HTMLElement }} parts
   * @param {(frame: number) => void} show
   */
  constructor({ button, slider, note }, show) {
    this.button = button
    this.slider = slider
    this.note = note
    this.show = show
    this.fps = 24
    this.timer = 0
    button.addEventListener('click', () => (this.timer ? this.pause() : this.play()))
    slider.addEventListener('input', () => this.draw())
  }

  /**
   * A new clip.
   * @param {number} frames
   * @param {number} fps
   */
  open(frames, fps) {
    this.pause()
    this.fps = fps
    this.slider.max = String(frames - 1)
    this.button.disabled = frames < 2
    this.go(0)
  }

  /** @param {number} frame */
  go(frame) {
    this.slider.value = String(frame)
    this.draw()
  }

  draw() {
    const [frame, last] = [Number(this.slider.value), Number(this.slider.max)]
    this.note.textContent = `${frame + 1} of ${last + 1}`
    this.slider.setAttribute('aria-valuetext', this.note.textContent)
    this.show(frame)
  }

  play() {
    this.button.textContent = 'Pause'
    this.timer = window.setInterval(() => {
      const [frame, last] = [Number(this.slider.value), Number(this.slider.max)]
      this.go(frame < last ? frame + 1 : 0)
    }, 1000 / this.fps)
  }

  pause() {
    clearInterval(this.timer)
    this.timer = 0
    this.button.textContent = 'Play'
  }
}
