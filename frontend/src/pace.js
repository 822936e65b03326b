// How fast files are sent. The Dashboard's own estimate of the time left begins with the first few bytes, which come
// late, and says "17m left" for half a minute where ten seconds are left.

// Long enough that the end of one part and the beginning of another make no difference.
const WINDOW_MS = 10_000
const AT_LEAST_MS = 1000

/** Of the last ten seconds. */
export class Pace {
  #marks = []

  /** What comes next does not belong to what was before, as after a pause. */
  reset() {
    this.#marks = []
  }

  /** Bytes per second, where `bytes` are sent in all at `now`, in milliseconds; null: it is too early to say. */
  at(now, bytes) {
    this.#marks.push({ now, bytes })
    while (now - this.#marks[0].now > WINDOW_MS) this.#marks.shift()
    const [first] = this.#marks
    const passed = now - first.now
    return passed < AT_LEAST_MS ? null : Math.max(0, (bytes - first.bytes) / (passed / 1000))
  }
}
