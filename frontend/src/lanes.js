// So many at once, the others in order.

import { aborted } from './failure.js'

export class Lanes {
  #free
  #waiting = []

  constructor(number) {
    this.#free = number
  }

  /** Waits for a lane, which `leave` gives back. Throws an AbortError where the signal says so. */
  enter(signal) {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(aborted())
      if (this.#free) {
        this.#free -= 1
        return resolve()
      }
      const stop = () => {
        this.#waiting.splice(this.#waiting.indexOf(go), 1)
        reject(aborted())
      }
      const go = () => {
        signal.removeEventListener('abort', stop)
        resolve()
      }
      signal.addEventListener('abort', stop)
      this.#waiting.push(go)
    })
  }

  leave() {
    const next = this.#waiting.shift()
    if (next) next()
    else this.#free += 1
  }
}
