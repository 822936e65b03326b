// The service @blob-upload of one place (docs/rest.md), as a client. Every method throws a Failure, or an AbortError
// where its signal says so.

import { aborted, asJson, Failure, failureOf } from './failure.js'

const HEADERS = { Accept: 'application/json', 'Content-Type': 'application/json' }
const ITEMS_AT_ONCE = 1000 // as many as the service lists in one answer

export class Service {
  /**
   * `place`: address with ++api++ of the container, or of the content whose file is replaced.
   * `seconds`: how long an answer may take; completing is asked without end, since the store copies meanwhile.
   */
  constructor(settings, { place = settings.place, seconds = 60 } = {}) {
    this.place = place
    this.address = `${place}/@blob-upload`
    this.seconds = seconds
  }

  /** What this user may upload here. */
  allowed(signal) {
    return this.#ask('GET', '', { signal })
  }

  /**
   * Begins an upload. `about`: `{ name, size, mime, type, field, replaces }`.
   * Gives what the service says of it: `id` (its token), `part-size`, `parts`, `expires`, and the first `requests`.
   */
  begin({ name, size, mime, type, field, replaces }, signal) {
    // In parts, also a small file: what goes in one request is not gone on with, and completes seconds later.
    const body = { filename: name, size, method: 'multipart', ...(replaces ? { replace: true } : { '@type': type }) }
    if (field) body.field = field
    if (mime) body['content-type'] = mime
    return this.#ask('POST', '', { body, signal })
  }

  /** Signed requests for these parts: `[{ part, size, method, url, headers }]`. */
  async requests(token, parts, signal) {
    return (await this.#ask('PUT', `/${token}`, { body: { parts }, signal })).requests
  }

  /** What the service says of an upload, with `arrived`: a Map of part → bytes that the store has. */
  async upload(token, signal) {
    const arrived = new Map()
    for (;;) {
      const told = await this.#ask('GET', `/${token}?b_size=${ITEMS_AT_ONCE}&b_start=${arrived.size}`, { signal })
      for (const { part, size } of told.items) arrived.set(part, size)
      if (!told.items.length || arrived.size >= told.items_total) return { ...told, arrived }
    }
  }

  /** Bytes of an upload that have arrived; null where there is no such upload any more. */
  async sent(token) {
    try {
      return [...(await this.upload(token)).arrived.values()].reduce((sum, size) => sum + size, 0)
    } catch (failure) {
      if (failure.kind === 'ended') return null
      throw failure
    }
  }

  /** Makes content of it: `{ '@id', UID, title, … }`. What was completed already is answered with what it became. */
  complete(token, values, signal) {
    return this.#ask('POST', `/${token}`, { body: values, signal, seconds: 0 })
  }

  /** Ends it, and what was sent is deleted. That it was over already is no failure. */
  async cancel(token) {
    try {
      await this.#ask('DELETE', `/${token}`)
    } catch (failure) {
      if (failure.kind !== 'ended') throw failure
    }
  }

  async #ask(method, path, { body, signal, seconds = this.seconds } = {}) {
    const signals = [signal, seconds && AbortSignal.timeout(seconds * 1000)].filter(Boolean)
    const stop = withAny(signals)
    let response, text
    try {
      response = await fetch(this.address + path, {
        method,
        headers: HEADERS,
        body: body && JSON.stringify(body),
        credentials: 'same-origin',
        cache: 'no-store',
        redirect: 'manual', // of services only a login form is behind one
        signal: stop.signal,
      })
      text = await response.text()
    } catch {
      if (signal?.aborted) throw aborted()
      throw new Failure('lost')
    } finally {
      stop.done()
    }
    if (response.type === 'opaqueredirect') throw new Failure('logged-out')
    const told = asJson(text)
    if (!response.ok) throw failureOf(response.status, told ?? {})
    if (told === null) throw new Failure('logged-out', { status: response.status })
    return told
  }
}

/** `AbortSignal.any`, which Firefox 115 and Safari 16 do not have. */
function withAny(signals) {
  const controller = new AbortController()
  const stop = () => controller.abort()
  for (const signal of signals) {
    if (signal.aborted) stop()
    else signal.addEventListener('abort', stop)
  }
  const done = () => signals.forEach((signal) => signal.removeEventListener('abort', stop))
  return { signal: controller.signal, done }
}
