// Waiting for a lost connection. One for all uploads of a page: the first request that works wakes all that wait.

import { aborted } from './failure.js'

/**
 * Seconds: `first` is the pause after a failed request; each next one is twice as long, up to `longest`; after
 * `patience` of pauses the upload fails, and the editor has to retry. `stalled`: without any progress a request counts
 * as lost.
 */
export const WAITING = { first: 1, longest: 30, patience: 30 * 60, stalled: 60 }

export class Connection {
  #wakes = new Set()
  #waiting = 0

  /** `told(waiting)` is called whenever somebody begins to wait, or nobody waits any more. */
  constructor(waiting = {}, told = () => {}) {
    this.waiting = { ...WAITING, ...waiting }
    this.told = told
  }

  /**
   * Tries again and again as long as it fails with `lost`. Any other failure is thrown, and `lost` when the patience is
   * at its end: pauses are counted, not the time, so that a laptop that was asleep for hours tries again.
   */
  async persist(attempt, signal) {
    const { first, longest, patience } = this.waiting
    let pause = first
    let waited = 0
    let waits = false
    try {
      for (;;) {
        try {
          const made = await attempt()
          this.#wakes.forEach((wake) => wake())
          return made
        } catch (failure) {
          if (failure.kind !== 'lost' || waited >= patience) throw failure
        }
        if (!waits) this.#count(1)
        waits = true
        await this.#pause(pause, signal)
        waited += pause
        pause = Math.min(2 * pause, longest)
      }
    } finally {
      if (waits) this.#count(-1)
    }
  }

  #count(by) {
    this.#waiting += by
    if (by > 0 || !this.#waiting) this.told(this.#waiting > 0)
  }

  #pause(seconds, signal) {
    return new Promise((resolve, reject) => {
      const over = () => {
        clearTimeout(timer)
        this.#wakes.delete(over)
        removeEventListener('online', over)
        signal?.removeEventListener('abort', over)
        if (signal?.aborted) reject(aborted())
        else resolve()
      }
      const timer = setTimeout(over, seconds * 1000)
      this.#wakes.add(over)
      addEventListener('online', over)
      signal?.addEventListener('abort', over)
      if (signal?.aborted) over()
    })
  }
}
