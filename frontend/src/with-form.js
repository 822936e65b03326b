// Mode `normal` in a form: the file goes with the form, which is sent by XHR, so that there is progress. Once, with the
// files of all its fields.

import { goTo, keptFile, saves, sendForm, showErrors } from './form.js'

/** The field's file is put into the form's own input, and goes when the form does. */
export function sendsWithForm(field) {
  const { input } = field
  const { uppy } = field.uploader
  const sender = FormSender.of(field.form)
  sender.add(field)
  uppy.on('file-added', (file) => {
    field.chosen()
    const chosen = new DataTransfer()
    const { data, name } = file
    chosen.items.add(data instanceof File ? data : new File([data], name, { type: file.type }))
    input.files = chosen.files
  })
  uppy.on('file-removed', () => {
    sender.stop()
    field.plain()
  })
}

/** Sends a form for all of its fields. */
class FormSender {
  static #senders = new WeakMap()
  #fields = []
  #sending = null

  /** That of a form. */
  static of(form) {
    if (!this.#senders.has(form)) this.#senders.set(form, new FormSender(form))
    return this.#senders.get(form)
  }

  constructor(form) {
    this.form = form
    // After the listeners of the form itself, which may refuse it or fill it (an editor of text does).
    document.addEventListener('submit', (event) => this.#submitted(event))
  }

  add(field) {
    this.#fields.push(field)
  }

  /** What is on its way is broken off. */
  stop() {
    this.#sending?.abort()
  }

  /** `[{ field, file }]` of the fields whose file goes with the form, in the order in which it has them. */
  #chosen() {
    return this.#fields
      .filter((field) => field.sendsFile)
      .flatMap((field) => field.uploader.uppy.getFiles().map((file) => ({ field, file })))
  }

  async #submitted(event) {
    const chosen = this.#chosen()
    const { submitter } = event
    if (event.target !== this.form || event.defaultPrevented || !chosen.length || !saves(submitter)) return
    event.preventDefault()
    await Promise.resolve()
    if (isTaken(chosen)) await this.#send(chosen, submitter)
  }

  async #send(chosen, submitter) {
    const [{ field: first }] = chosen
    const says = first.say('form-sends')
    this.#sending = new AbortController()
    for (const { field, file } of chosen) {
      field.uploader.problems.remove(file.id)
      field.uploader.uppy.emit('upload-start', [file])
      field.uploader.status(says)
    }
    const sends = sendForm(this.form, submitter, {
      login: first.settings.login,
      signal: this.#sending.signal,
      onprogress: (loaded, total) => showProgress(chosen, loaded / total),
    })
    // The form was read by sendForm: a disabled button is not part of it.
    for (const { field } of chosen) field.gate.close(field, says, field.uploader.status)
    const answer = await sends
    this.#sending = null
    for (const { field } of chosen) field.gate.open(field)
    if (answer.kind === 'moved') {
      for (const { field, file } of chosen) isThere(field, file)
      goTo(answer.url, answer.document)
    } else if (answer.kind === 'shown') {
      this.#refused(chosen, answer.document)
    } else {
      for (const { field, file } of chosen) asBefore(field, file)
      if (answer.kind !== 'aborted') fails(chosen, answer)
    }
  }

  /**
   * The site shows the form again. What it has kept of the files goes by its name the next time, also of fields whose
   * file went before: it has another name after each time.
   */
  #refused(chosen, answer) {
    const { marked, texts } = showErrors(this.form, answer)
    for (const field of this.#fields) {
      const [file] = field.uploader.uppy.getFiles()
      if (!file) continue
      const kept = keptFile(answer, field.settings.input)
      if (kept) {
        if (field.sendsFile) isThere(field, file)
        field.sendsInstead(kept)
      } else {
        field.sendsOwn()
        asBefore(field, file)
      }
    }
    const [{ field, file }] = chosen
    const says = field.say(marked || texts.length ? 'form-errors' : 'form-failed', { status: 200 })
    field.uploader.problems.add({ key: file.id, name: file.name, text: [says, ...texts].join(' ') })
  }
}

/** Whether Zope takes files of this size in one request: it would say so after the last byte. */
function isTaken(chosen) {
  const bytes = bytesOf(chosen)
  const { field, file } = chosen.at(-1)
  const limit = field.settings['normal-maximum-size']
  if (bytes <= limit) return true
  const { size, problems } = field.uploader
  const text = field.say('too-large-together', { size: size(bytes), limit: size(limit) })
  problems.add({ key: file.id, name: file.name, text })
  return false
}

function bytesOf(chosen) {
  return chosen.reduce((sum, { file }) => sum + file.size, 0)
}

/** `part`: of the request that has been sent; its files come one after the other. */
function showProgress(chosen, part) {
  let left = Math.round(part * bytesOf(chosen))
  for (const { field, file } of chosen) {
    const { uppy } = field.uploader
    const now = uppy.getFile(file.id)
    const bytesUploaded = Math.min(file.size, left)
    left -= bytesUploaded
    const { uploadStarted } = now?.progress ?? {}
    if (now) uppy.emit('upload-progress', now, { uploadStarted, bytesUploaded, bytesTotal: file.size })
  }
}

function isThere(field, file) {
  const { uppy } = field.uploader
  uppy.emit('upload-success', uppy.getFile(file.id), { status: 200, body: {} })
}

/** The file is in the list, and goes with the form when that is sent again. */
function asBefore(field, file) {
  const { uppy, status } = field.uploader
  if (!uppy.getFile(file.id)) return
  const progress = { uploadStarted: null, uploadComplete: false, percentage: 0, bytesUploaded: false }
  uppy.setFileState(file.id, { progress: { ...progress, bytesTotal: file.size }, error: null })
  uppy.setState({ error: null, totalProgress: 0 })
  status('')
}

function fails(chosen, { kind, status }) {
  const [{ field, file }] = chosen
  const { say, uploader } = field
  const texts = {
    lost: say('form-lost'),
    'logged-out': say('form-logged-out'),
    'too-large': say('large-for-server', { size: uploader.size(bytesOf(chosen)) }),
    failed: say('form-failed', { status }),
  }
  uploader.problems.add({ key: file.id, name: file.name, text: texts[kind], login: kind === 'logged-out' })
}
