// One file the normal way, through Zope. It cannot be paused, and is never sent twice by itself: it may have arrived.

import { asJson, Failure, failureOf } from './failure.js'
import { send } from './request.js'

export class NormalUpload {
  /** As `DirectUpload`, of which it takes what it needs. */
  constructor({ settings, data, about, connection, hooks }) {
    Object.assign(this, { settings, data, about, connection, hooks })
  }

  isFor(about) {
    return Object.keys(about).every((name) => this.about[name] === about[name])
  }

  /** Sends it with `values`, a title; gives `{ '@id', UID, title, … }`. */
  async complete(values, signal) {
    const { name, size, type, field, replaces } = this.about
    const body = new FormData()
    const texts = { type, field, replace: replaces ? '1' : '', title: values.title ?? '' }
    for (const [key, text] of Object.entries(texts)) if (text) body.append(key, text)
    body.append('_authenticator', this.settings.authenticator)
    body.append('file', this.data, name)
    // The body is a little larger than the file. When it has been sent, Zope works as long as it has to.
    let sent = false
    const progress = (bytes, total) => {
      this.hooks.progress(Math.min(size, Math.round((bytes / total) * size)))
      if (bytes === total && !sent) {
        sent = true
        this.hooks.completing()
      }
    }
    const { stalled } = this.connection.waiting
    const answer = await this.#sent(body, { signal, progress, stalled, answers: 0 })
    const told = asJson(answer.text)
    if (answer.status >= 400) {
      const failure = failureOf(answer.status, told ?? {})
      if (failure.kind === 'lost') failure.words = 'lost-again'
      // The place is gone.
      if (failure.kind === 'ended') Object.assign(failure, { kind: 'forbidden', words: 'forbidden' })
      throw failure
    }
    // A page instead of JSON: the login form, behind a redirect.
    if (!told?.['@id']) throw new Failure('logged-out', { status: answer.status })
    return told
  }

  /** Nothing is left behind. */
  async cancel() {}

  async #sent(body, options) {
    try {
      return await send('POST', this.#address(), body, { ...options, headers: { Accept: 'application/json' } })
    } catch (failure) {
      if (failure.kind !== 'lost') throw failure
      try {
        await this.data.slice(0, 1).arrayBuffer()
      } catch {
        throw new Failure('changed')
      }
      failure.words = 'lost-again'
      throw failure
    }
  }

  #address() {
    const { place } = this.about
    if (place === this.settings.place) return this.settings.send
    return `${place.replace('/++api++', '')}/@@upload-file` // of a folder below it, or of content that is replaced
  }
}
