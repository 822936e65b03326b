// The file field of an add or edit form: one file.
//
// Mode `direct`: the file goes to the bucket at once, and the form is sent with the upload's token. Mode `normal`: the
// file is put into the form's own input, and goes with the form.

import { askBeforeLeaving, isSending, makeUploader } from './dashboard.js'
import { make } from './dom.js'
import { FormGate } from './form.js'
import { uppyLocale } from './locales.js'
import { Remembered } from './remembered.js'
import { refusal } from './restrictions.js'
import { BlobUpload } from './upload-plugin.js'
import { sendsWithForm } from './with-form.js'
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
    for (const radio of this.radios) radio.addEventListener('change', () => this.#decided(radio))
    const [label] = this.input.labels
    if (label) this.uploader.root.setAttribute('aria-label', label.textContent.trim())
    this.uploader.root.setAttribute('role', 'group')
  }

  /** A file is chosen: what is there will be replaced. */
  chosen() {
    const replace = this.radios.find((radio) => radio.value === 'replace')
    this.before = this.radios.find((radio) => radio.checked)
    if (replace) replace.checked = true
    this.input.disabled = false
  }

  /** Who keeps or removes what is there wants no other file. */
  #decided(radio) {
    const { uppy } = this.uploader
    if (radio.value === 'replace') return
    this.before = radio
    for (const { id } of uppy.getFiles()) uppy.removeFile(id)
  }

  /** The form is sent with values instead of the file: those of an upload, or of a file that the site has kept. */
  sendsInstead(values) {
    for (const radio of this.radios) radio.disabled = true
    this.input.disabled = true
    this.#send(values)
  }

  /** The form is sent with the file again. */
  sendsOwn() {
    this.#send({})
    for (const radio of this.radios) radio.disabled = false
    this.input.disabled = false
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
  field.before = field.radios.find((radio) => radio.value === 'nochange')
  dashboard.hidden = true
  root.prepend(line)
  field.sendsInstead({ upload, action: 'direct' })
}
