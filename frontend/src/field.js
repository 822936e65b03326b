// The file field of an add or edit form: one file.
//
// Mode `direct`: the file goes to the bucket at once, and the form is sent with the upload's token. Mode `normal`: the
// file is put into the form's own input, and goes with the form.

import { askBeforeLeaving, isSending, makeUploader } from './dashboard.js'
import { make } from './dom.js'
import { FormGate, goTo, keptFile, saves, sendForm, showErrors } from './form.js'
import { uppyLocale } from './locales.js'
import { Remembered } from './remembered.js'
import { refusal } from './restrictions.js'
import { BlobUpload } from './upload-plugin.js'
import { speaker } from './words.js'

/** Puts the uploader beside the field's own input, which it hides. If anything here fails, the field is as it was. */
export async function mountField(element, settings) {
  const input = element.querySelector(`input[type="file"][name="${CSS.escape(settings.input)}"]`)
  const form = input?.form
  if (!form) return
  const say = speaker(settings)
  const locale = await uppyLocale(settings.language)
  const direct = settings.type.mode === 'direct'
  const uploader = makeUploader(settings, {
    say,
    locale,
    uppy: {
      id: `s3blobs-${settings.input}`,
      autoProceed: direct,
      restrictions: { maxNumberOfFiles: 1, allowedFileTypes: settings.accept.length ? settings.accept : null },
    },
    dashboard: {
      height: 175,
      hideUploadButton: true,
      hideRetryButton: !direct,
      doneButtonHandler: null,
      singleFileFullScreen: false,
      showRemoveButtonAfterComplete: true,
      hideCancelButton: true,
    },
    check: (file) => refusal(settings, say, file, settings.type),
  })
  const field = new Field(input, settings, say, uploader)
  if (direct) sendsAtOnce(field)
  else sendsWithForm(field)
  field.show()
  askBeforeLeaving(() => field.uploader.uppy.getFiles().some(isSending))
}

/** The inputs of the form that say what becomes of the field: Plone's radio buttons, its input, and ours. */
class Field {
  constructor(input, settings, say, uploader) {
    Object.assign(this, { input, settings, say, uploader, form: input.form, gate: FormGate.of(input.form) })
    this.action = `${settings.input}.action`
    this.radios = [...this.form.querySelectorAll(`input[type="radio"][name="${CSS.escape(this.action)}"]`)]
    this.before = this.radios.find((radio) => radio.checked)
    this.hidden = make('span', { hidden: true })
    this.wasDisabled = input.disabled
    uploader.root.append(this.hidden)
  }

  show() {
    this.input.after(this.uploader.root)
    this.input.hidden = true
    this.input.required = false // a browser cannot point to what is hidden, and would not send the form: the site says it
    const [label] = this.input.labels
    if (label) this.uploader.root.setAttribute('aria-label', label.textContent.trim())
    this.uploader.root.setAttribute('role', 'group')
  }

  /** A file is chosen: what is there will be replaced, and the choice is off as long as the file is in the list. */
  chosen() {
    const replace = this.radios.find((radio) => radio.value === 'replace')
    if (replace) replace.checked = true
    this.input.disabled = false
  }

  /** The form is sent with values instead of the file: those of an upload, or of a file that the site has kept. */
  sendsInstead(values) {
    for (const radio of this.radios) radio.disabled = true
    this.input.disabled = true
    this.#send(values)
  }

  get sendsFile() {
    return !this.hidden.children.length
  }

  /** No file is chosen any more: as the form was. */
  plain() {
    this.#send({})
    for (const radio of this.radios) radio.disabled = false
    if (this.before) this.before.checked = true
    this.input.disabled = this.wasDisabled
    this.input.value = ''
  }

  #send(values) {
    const made = Object.entries(values).map(([name, value]) =>
      make('input', { type: 'hidden', name: `${this.settings.input}.${name}`, value }),
    )
    this.hidden.replaceChildren(...made)
  }
}

function sendsAtOnce(field) {
  const { settings, say, gate } = field
  const { uppy, status, root, size } = field.uploader
  uppy.use(BlobUpload, { settings, remembered: new Remembered(settings) })
  // Also after a failure: a form that is sent without the file that was chosen for it would lose it without a word.
  const holds = () => {
    const [file] = uppy.getFiles()
    if (!file || file.progress.uploadComplete) gate.open(field)
    else gate.close(field, say(file.error ? 'wait-failed' : 'wait'), status)
  }
  uppy.on('file-added', () => {
    field.chosen()
    holds()
    status(say('wait'))
  })
  uppy.on('upload-success', (_file, response) => {
    field.sendsInstead({ upload: response.body.token, action: 'direct' })
    holds()
    status(say('wait-over'))
  })
  for (const event of ['upload-error', 'error', 'upload-retry', 'retry-all']) uppy.on(event, holds)
  uppy.on('file-removed', () => {
    field.plain()
    holds()
  })

  if (settings.chosen) readyAlready(field, { root, size })
}

/** The form is shown again, and has an upload from before: nothing is sent anew. */
function readyAlready(field, { root, size }) {
  const { settings, say } = field
  const { name, size: bytes, upload } = settings.chosen
  const dashboard = root.querySelector('.s3blobs-dashboard')
  const off = make('button', { type: 'button', class: 's3blobs-button', 'aria-label': say('take-off-one', { name }) })
  off.textContent = say('take-off')
  const line = make('p', { class: 's3blobs-ready' }, say('ready', { name, size: size(bytes) }), ' ', off)
  off.addEventListener('click', () => {
    line.remove()
    dashboard.hidden = false
    field.plain()
    dashboard.querySelector('button')?.focus()
  })
  // What says the same without the script: a radio button, its label, and the token.
  const own = field.radios.find((radio) => radio.value === 'direct')
  own?.closest('.form-check')?.remove()
  field.radios = field.radios.filter((radio) => radio !== own)
  field.before = field.radios.find((radio) => radio.value === 'nochange')
  dashboard.hidden = true
  root.prepend(line)
  field.sendsInstead({ upload, action: 'direct' })
}

function sendsWithForm(field) {
  const { input, settings, say, gate, form } = field
  const { uppy, status, problems, size } = field.uploader
  let sending = null

  uppy.on('file-added', (file) => {
    field.chosen()
    const chosen = new DataTransfer()
    const { data, name } = file
    chosen.items.add(data instanceof File ? data : new File([data], name, { type: file.type }))
    input.files = chosen.files
  })
  uppy.on('file-removed', () => {
    sending?.abort()
    field.plain()
  })

  // After the listeners of the form itself, which may refuse it or fill it (an editor of text does); another field of
  // the form may be the one that sends.
  document.addEventListener('submit', async (event) => {
    const [file] = uppy.getFiles()
    if (event.target !== form || event.defaultPrevented || !file || !field.sendsFile) return
    const { submitter } = event
    if (!saves(submitter)) return
    event.preventDefault()
    await Promise.resolve()
    await send(submitter)
  })

  async function send(submitter) {
    const [file] = uppy.getFiles()
    sending = new AbortController()
    problems.remove(file.id)
    uppy.emit('upload-start', [file])
    status(say('form-sends'))
    const sends = sendForm(form, submitter, {
      login: settings.login,
      signal: sending.signal,
      onprogress: (loaded, total) => {
        const bytesUploaded = Math.min(file.size, Math.round((loaded / total) * file.size))
        const now = uppy.getFile(file.id)
        const { uploadStarted } = now?.progress ?? {}
        if (now) uppy.emit('upload-progress', now, { uploadStarted, bytesUploaded, bytesTotal: file.size })
      },
    })
    gate.close(field, say('form-sends'), status) // the form was read by sendForm: a disabled button is not part of it
    const answer = await sends
    sending = null
    gate.open(field)
    if (answer.kind === 'aborted') return
    if (answer.kind === 'moved') {
      uppy.emit('upload-success', uppy.getFile(file.id), { status: 200, body: {} })
      goTo(answer.url, answer.document)
      return
    }
    if (answer.kind === 'shown') refused(file, answer.document)
    else fails(file, answer)
  }

  /** The site shows the form again. Where it has kept the file, the next time goes without it, and is a page's own. */
  function refused(file, answer) {
    const { marked, texts } = showErrors(form, answer)
    const kept = keptFile(answer, settings.input)
    const text = [say(marked || texts.length ? 'form-errors' : 'form-failed', { status: 200 }), ...texts].join(' ')
    if (kept) {
      uppy.emit('upload-success', uppy.getFile(file.id), { status: 200, body: {} })
      field.sendsInstead(kept)
    } else {
      asBefore(file)
    }
    problems.add({ key: file.id, name: file.name, text })
  }

  function fails(file, { kind, status: code }) {
    const texts = {
      lost: say('form-lost'),
      'logged-out': say('form-logged-out'),
      'too-large': say('large-for-server', { size: size(file.size) }),
      failed: say('form-failed', { status: code }),
    }
    asBefore(file)
    problems.add({ key: file.id, name: file.name, text: texts[kind], login: kind === 'logged-out' })
  }

  /** The file is in the list, and goes with the form when that is sent again. */
  function asBefore(file) {
    const progress = { uploadStarted: null, uploadComplete: false, percentage: 0, bytesUploaded: false }
    uppy.setFileState(file.id, { progress: { ...progress, bytesTotal: file.size }, error: null })
    uppy.setState({ error: null, totalProgress: 0 })
    status('')
  }
}
