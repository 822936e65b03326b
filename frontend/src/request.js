// One request with a body whose progress is seen: `fetch` tells none of an upload.

import { aborted, Failure } from './failure.js'

/**
 * Sends, and gives the answer as `{ status, text }` whatever its status is.
 *
 * `progress(bytes, total)`: of the body; `stalled`: seconds without progress after which it counts as lost;
 * `answers`: the same for the answer to a body that has been sent; 0: as long as it takes.
 * Throws a Failure `lost`, and an AbortError where the signal says so.
 */
export function send(method, url, body, { headers = {}, signal, progress = () => {}, stalled, answers = stalled }) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(aborted())
    const xhr = new XMLHttpRequest()
    let timer
    const over = (settle, value) => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', stop)
      settle(value)
    }
    const stop = () => {
      xhr.abort()
      over(reject, aborted())
    }
    const lost = () => over(reject, new Failure('lost'))
    const within = (seconds) => {
      clearTimeout(timer)
      if (seconds) {
        timer = setTimeout(() => {
          xhr.abort()
          lost()
        }, seconds * 1000)
      }
    }
    xhr.upload.addEventListener('progress', (event) => {
      within(stalled)
      progress(event.loaded, event.total)
    })
    xhr.upload.addEventListener('load', () => within(answers))
    xhr.addEventListener('load', () => over(resolve, { status: xhr.status, text: xhr.responseText }))
    xhr.addEventListener('error', lost)
    signal?.addEventListener('abort', stop)
    xhr.open(method, url)
    for (const [name, value] of Object.entries(headers)) xhr.setRequestHeader(name, value)
    within(stalled)
    xhr.send(body)
  })
}
