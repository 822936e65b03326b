// One file to the bucket, in parts, and then content of it.

import { aborted, Failure } from './failure.js'
import { printOf } from './print.js'
import { send } from './request.js'
import { Service } from './service.js'

const PARTS_AT_ONCE = 4
const SIGNED_AT_ONCE = 16 // requests that are asked for together
const PROGRESS_EVERY_MS = 200
const AGAIN = 3 // times that what the store or the site says is missing is sent again before the upload fails

/**
 * `about`: `{ name, size, lastModified, mime, place, type, field, replaces }`, all texts and numbers: what is sent, and
 * to which end. `replaces`: whether `place` is content whose file is replaced; `type` and `field` are names.
 *
 * It is run until it is over; a run that failed or was aborted is gone on with by another run.
 */
export class DirectUpload {
  #told = null // what the service says of the upload; null: it is not begun
  #arrived = new Set() // parts that the store has
  #loaded = new Map() // bytes of parts that are on their way
  #unsure = false // whether parts may have arrived whose answers did not
  #signed = new Map() // requests that are not used yet, by part
  #signing = null
  #beginning = null
  #toldAt = 0
  #print = null // of the file's bytes, by which what is remembered of it is known

  /**
   * `data`: a Blob; `hooks`: functions `progress(bytes)`, `resumed(bytes)` and `completing()`; `claimed`: tokens that
   * uploads of this page have.
   */
  constructor({ settings, data, about, remembered, connection, claimed, hooks }) {
    Object.assign(this, { data, about, remembered, connection, claimed, hooks })
    this.service = new Service(settings, { place: about.place, seconds: connection.waiting.stalled })
  }

  /** Whether this upload still is what is wanted of the file. */
  isFor(about) {
    return Object.keys(about).every((name) => this.about[name] === about[name])
  }

  get token() {
    return this.#told?.id ?? null
  }

  /** Sends what is missing. Gives the token. Throws a Failure, and an AbortError where the signal says so. */
  async send(signal) {
    try {
      await this.#begin(signal)
      for (let time = 1; this.#missing().length; time += 1) {
        if (time > AGAIN) throw new Failure('failed')
        await this.#sendMissing(signal)
      }
      return this.token
    } catch (failure) {
      throw this.#afterwards(failure)
    }
  }

  /** Sends, and makes content of it, with `values` of its fields; gives `{ '@id', UID, title, … }`. */
  async complete(values, signal) {
    const before = await this.#completedBefore(values, signal)
    if (before) return before
    for (let time = 1; ; time += 1) {
      await this.send(signal)
      this.remembered.keep({ ...this.#entry(), completing: true })
      this.hooks.completing()
      try {
        const made = await this.connection.persist(() => this.service.complete(this.token, values, signal), signal)
        this.#forget()
        return made
      } catch (failure) {
        const again = failure.kind === 'incomplete' || failure.kind === 'conflict'
        if (!again || time === AGAIN) throw this.#afterwards(failure)
        await this.#look(signal)
      }
    }
  }

  /** Ends it, here and in the store. Never throws: what cannot be ended now expires. */
  async cancel() {
    // Forgotten first: no list shall offer it while the site is asked to end it.
    let { token } = this
    this.#forget()
    if (!token && this.#beginning) {
      await this.#beginning.catch(() => {})
      token = this.token
      this.#forget()
    }
    if (token) await this.service.cancel(token).catch(() => {})
  }

  /**
   * What an earlier page has made of it whose answer was lost, as by a reload meanwhile; null where there is none. The
   * service answers a completion that is repeated with what the first one made.
   */
  async #completedBefore(values, signal) {
    const entry = this.#told ? null : await this.#entryOfEarlier(signal)
    if (!entry?.completing || this.claimed.has(entry.token)) return null
    try {
      const made = await this.connection.persist(() => this.service.complete(entry.token, values, signal), signal)
      this.remembered.forget(entry.token)
      return made
    } catch (failure) {
      if (failure.kind === 'ended') this.remembered.forget(entry.token)
      else if (failure.kind !== 'incomplete') throw failure
      return null
    }
  }

  async #begin(signal) {
    if (this.#told && this.#unsure) await this.#look(signal)
    if (this.#told || (await this.#goOn(signal))) return
    // Not aborted while it is asked: nobody would know the upload that the site has begun.
    this.#beginning = this.connection.persist(() => this.service.begin(this.about), signal)
    this.#told = await this.#beginning
    this.claimed.add(this.token)
    for (const request of this.#told.requests) this.#signed.set(request.part, request)
    this.remembered.keep(this.#entry())
    if (signal.aborted) throw aborted()
  }

  /** Whether there is an upload of earlier, which is taken up. */
  async #goOn(signal) {
    const entry = await this.#entryOfEarlier(signal)
    if (!entry || this.claimed.has(entry.token)) return false
    this.claimed.add(entry.token)
    try {
      await this.#look(signal, entry.token)
    } catch (failure) {
      this.claimed.delete(entry.token)
      if (failure.kind !== 'ended') throw failure
      this.remembered.forget(entry.token)
      return false
    }
    this.hooks.resumed(this.#bytes())
    return true
  }

  async #entryOfEarlier(signal) {
    this.#print ??= await printOf(this.data)
    if (signal.aborted) throw aborted()
    return this.remembered.find({ ...this.about, print: this.#print })
  }

  /** Asks which parts have arrived. */
  async #look(signal, token = this.token) {
    this.#told = await this.connection.persist(() => this.service.upload(token, signal), signal)
    this.#unsure = false
    this.#arrived.clear()
    for (const [part, size] of this.#told.arrived) if (size === this.#sizeOf(part)) this.#arrived.add(part)
    this.#progress()
  }

  async #sendMissing(signal) {
    const waiting = this.#missing()
    const stop = new AbortController()
    const stopped = () => stop.abort()
    signal.addEventListener('abort', stopped)
    if (signal.aborted) stop.abort()
    const worker = async () => {
      for (let part = waiting.shift(); part && !stop.signal.aborted; part = waiting.shift()) {
        await this.connection.persist(() => this.#sendPart(part, stop.signal), stop.signal)
      }
    }
    const workers = Array.from({ length: PARTS_AT_ONCE }, () => worker().catch((failure) => {
      stop.abort() // what one of them cannot do, none can
      return failure
    }))
    const failures = (await Promise.all(workers)).filter(Boolean)
    signal.removeEventListener('abort', stopped)
    this.#signed.clear() // they are for now
    this.#unsure = failures.length > 0
    if (signal.aborted) throw aborted()
    const [failure] = failures.filter(({ name }) => name !== 'AbortError')
    if (failure) throw failure
  }

  async #sendPart(part, signal) {
    const start = (part - 1) * this.#told['part-size']
    const slice = this.data.slice(start, start + this.#sizeOf(part)) // read while it is sent
    let answer
    for (const last of [false, true]) {
      const { method, url, headers } = await this.#request(part, signal)
      delete headers['Content-Length'] // which browsers set themselves
      try {
        const progress = (bytes) => {
          this.#loaded.set(part, bytes)
          this.#progress()
        }
        answer = await send(method, url, slice, { headers, signal, progress, stalled: this.connection.waiting.stalled })
      } catch (failure) {
        if (failure.kind === 'lost') await readable(slice)
        throw failure
      } finally {
        this.#loaded.delete(part)
      }
      if (answer.status !== 403 || last) break
      this.#signed.clear() // expired, and so are those that came with it
    }
    const { status, text } = answer
    if (status < 300) {
      this.#arrived.add(part)
      this.#progress()
    } else if (status === 404) {
      throw new Failure('ended', { status })
    } else if (status >= 500 || status === 408 || status === 429 || text.includes('<Code>RequestTimeout')) {
      throw new Failure('lost', { status })
    } else {
      throw new Failure('failed', { status })
    }
  }

  /** A signed request for a part. It is used once: another try may be hours later. */
  async #request(part, signal) {
    while (!this.#signed.has(part)) {
      this.#signing ??= this.#sign(part, signal).finally(() => {
        this.#signing = null
      })
      await this.#signing
    }
    const request = this.#signed.get(part)
    this.#signed.delete(part)
    return request
  }

  async #sign(part, signal) {
    const wanted = (one) => one >= part && !this.#signed.has(one) && !this.#loaded.has(one)
    const parts = this.#missing().filter(wanted).slice(0, SIGNED_AT_ONCE)
    const requests = await this.service.requests(this.token, parts, signal)
    for (const request of requests) this.#signed.set(request.part, request)
  }

  /** What a failure leaves of the upload: of one that has ended nothing, so that the next run begins another. */
  #afterwards(failure) {
    if (failure.kind === 'ended') this.#forget()
    // Refused by its bytes: the site has deleted them, or will not take them; so we end it. Where the site's settings
    // are to blame, or an add-on's policy, these may be others later: gigabytes are not sent anew for that.
    if (failure.ended || failure.kind === 'wrong') this.cancel()
    return failure
  }

  #forget() {
    if (this.#told) {
      this.remembered.forget(this.token)
      this.claimed.delete(this.token)
    }
    this.#told = null
    this.#arrived.clear()
    this.#signed.clear()
  }

  #entry() {
    return { ...this.about, print: this.#print, token: this.token, expires: this.#told.expires }
  }

  #missing() {
    return Array.from({ length: this.#told.parts }, (_, index) => index + 1).filter((part) => !this.#arrived.has(part))
  }

  #sizeOf(part) {
    const each = this.#told['part-size']
    return Math.min(each, this.about.size - (part - 1) * each)
  }

  #bytes() {
    let bytes = 0
    for (const part of this.#arrived) bytes += this.#sizeOf(part)
    for (const loaded of this.#loaded.values()) bytes += loaded
    return bytes
  }

  // Four parts tell of theirs twenty times a second each, and each time all of the page is drawn again.
  #progress() {
    const now = performance.now()
    if (now - this.#toldAt < PROGRESS_EVERY_MS) return
    this.#toldAt = now
    this.hooks.progress(this.#bytes())
  }
}

/** Throws a Failure where the file has changed on the disk or is gone: for the network that is a lost connection. */
async function readable(slice) {
  try {
    await slice.slice(0, 1).arrayBuffer()
  } catch {
    throw new Failure('changed')
  }
}
