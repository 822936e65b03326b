// The form around a field: it waits for an upload, or is sent by XHR with the file, so that there is progress.

import { make } from './dom.js'

const SAVES = 'button:not([type="button"]):not([type="reset"]), input[type="submit"], input[type="image"]'
const FIELD = '[id^="formfield-"]'
const ERRORS = '.invalid-feedback, .fieldErrorBox'
const MESSAGES = '#global_statusmessage .portalMessage, #global_statusmessage .alert'

/**
 * Keeps the form from being sent, as long as one of its uploaders wants that: several fields of a form can.
 */
export class FormGate {
  static #gates = new WeakMap()
  #reasons = new Map()

  /** The gate of a form. */
  static of(form) {
    if (!this.#gates.has(form)) this.#gates.set(form, new FormGate(form))
    return this.#gates.get(form)
  }

  constructor(form) {
    this.form = form
    form.addEventListener('submit', (event) => this.#submitted(event), true)
    // Plone's validation enables the buttons again, whenever what is typed is right.
    const enabled = new MutationObserver(() => this.#reasons.size && this.#show())
    enabled.observe(form, { subtree: true, attributeFilter: ['disabled'] })
  }

  /** `holder` keeps the form; `tell(reason)` is called with the reason, in words, when somebody tries to send it. */
  close(holder, reason, tell) {
    this.#reasons.set(holder, { reason, tell })
    this.#show()
  }

  open(holder) {
    if (this.#reasons.delete(holder)) this.#show()
  }

  #submitted(event) {
    const [first] = this.#reasons.values()
    if (!first || !saves(event.submitter)) return
    event.preventDefault()
    event.stopImmediatePropagation()
    first.tell(first.reason)
  }

  #show() {
    const [first] = this.#reasons.values()
    for (const button of this.form.querySelectorAll(SAVES)) {
      if (!saves(button)) continue
      if (button.disabled !== Boolean(first)) button.disabled = Boolean(first)
      if (first) button.title = first.reason
      else button.removeAttribute('title')
    }
  }
}

/** Whether a button sends the form's values; null is the Enter key. z3c.form calls the other one `cancel`. */
export function saves(button) {
  return !/(^|\.)cancel(_add)?$/.test(button?.name ?? '')
}

/**
 * Sends the form as the browser would, with progress.
 *
 * Gives `{ kind, … }`: `moved` with the `url` and `document` where the site went on to another page, `shown` with the
 * `document` where it shows the form again, or `lost`, `logged-out`, `too-large`, `aborted`, `failed` with a `status`.
 */
export function sendForm(form, submitter, { login, onprogress, signal }) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest()
    const address = new URL(submitter?.getAttribute('formaction') ?? form.getAttribute('action') ?? '', location.href)
    const end = (kind, more = {}) => resolve({ kind, ...more })
    request.open('POST', address)
    request.responseType = 'document'
    request.setRequestHeader('Accept', 'text/html')
    request.upload.addEventListener('progress', (event) => onprogress(event.loaded, event.total))
    request.addEventListener('error', () => end('lost'))
    request.addEventListener('abort', () => end('aborted'))
    request.addEventListener('load', () => {
      const { status, response: document, responseURL: url } = request
      if (status === 401 || status === 403 || isLogin(url, login)) end('logged-out')
      else if (status === 413) end('too-large')
      else if (status === 502 || status === 503 || status === 504) end('lost')
      else if (status >= 400 || !document) end('failed', { status })
      else if (samePage(url, address)) end('shown', { document })
      else end('moved', { url, document })
    })
    signal.addEventListener('abort', () => request.abort())
    request.send(new FormData(form, submitter))
  })
}

function isLogin(url, login) {
  const { pathname } = new URL(url)
  return pathname === new URL(login, location.href).pathname || /\/(login|require_login)$/.test(pathname)
}

function samePage(url, address) {
  return new URL(url).pathname === address.pathname
}

/**
 * Goes to the page that the site went on to. Its messages ("Item created") were shown to the XHR, which nobody sees, so
 * they are put back into the cookie from which Plone takes them.
 */
export function goTo(url, document) {
  const messages = [...document.querySelectorAll(MESSAGES)].map(messageOf).filter(({ text }) => text)
  if (messages.length) {
    window.document.cookie = `statusmessages="${encodeMessages(messages)}"; path=/; SameSite=Lax`
  }
  location.assign(url)
}

function messageOf(element) {
  const type = [...element.classList].join(' ').match(/(?:alert|statusmessage)-(\w+)/)?.[1] ?? 'info'
  const copy = element.cloneNode(true)
  copy.querySelectorAll('strong, button, svg').forEach((part) => part.remove())
  return { text: copy.textContent.trim(), type: type === 'danger' ? 'error' : type }
}

/**
 * The cookie of Products.statusmessages: of each message two bytes with its length (11 bits) and that of its type
 * (5 bits), then both; all in base64 (`Products/statusmessages/message.py`).
 */
export function encodeMessages(messages) {
  const encoder = new TextEncoder()
  let bytes = ''
  for (const { text, type } of messages) {
    const parts = [encoder.encode(text).slice(0, 0x3ff), encoder.encode(type).slice(0, 0x1f)]
    const head = (parts[0].length << 5) + parts[1].length
    bytes += String.fromCharCode(head >> 8, head & 0xff, ...parts[0], ...parts[1])
  }
  return btoa(bytes)
}

/**
 * Marks in the form what the site refused, as its answer has it marked; everything that was typed and chosen stays.
 *
 * Gives the texts that belong to no field, and whether any field was marked.
 */
export function showErrors(form, answer) {
  form.querySelectorAll('.s3blobs-from-answer').forEach((element) => element.remove())
  const textsOf = (part) => [...part.querySelectorAll(ERRORS)].map((box) => box.textContent.trim()).filter(Boolean)
  let first = null
  for (const field of answer.querySelectorAll(FIELD)) {
    const here = form.querySelector(`#${CSS.escape(field.id)}`)
    if (!here) continue
    const texts = textsOf(field)
    here.classList.toggle('error', texts.length > 0)
    here.querySelectorAll(ERRORS).forEach((box) => box.remove())
    if (!texts.length) continue
    here.append(make('div', { class: 'invalid-feedback d-block s3blobs-from-answer' }, texts.join(' ')))
    first ??= here
  }
  if (first) bringUp(form, first)
  const loose = [...answer.querySelectorAll('#content .invalid-feedback')].filter((box) => !box.closest(FIELD))
  return { marked: first !== null, texts: loose.map((box) => box.textContent.trim()).filter(Boolean) }
}

/** The field may be below another tab of the form (pat-autotoc: a link for each fieldset). */
function bringUp(form, field) {
  const fieldsets = [...form.querySelectorAll('fieldset')].filter((one) => !one.parentElement.closest('fieldset'))
  const tab = form.querySelectorAll('.autotoc-nav a')[fieldsets.indexOf(field.closest('fieldset'))]
  tab?.click()
  field.querySelector('input:not([type="hidden"]), select, textarea, button')?.focus()
}

/**
 * What the answer would send instead of the file, where the site has kept that (plone.formwidget.namedfile): names
 * below `{input}.` and values; null where it has not.
 */
export function keptFile(answer, input) {
  const id = answer.querySelector(`input[name="${CSS.escape(input)}.file_upload_id"]`)?.value
  if (!id) return null
  const action = answer.querySelector(`input[name="${CSS.escape(input)}.action"]:checked`)?.value ?? 'nochange'
  return { file_upload_id: id, action }
}
