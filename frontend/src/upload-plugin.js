// Uppy's uploader for @blob-upload and @@upload-file.
//
// Not the stock @uppy/aws-s3: that tells editors "Companion request failed" for whatever the site says, sends the parts
// of a file one after the other, and has no way to hand over a title.

import { BasePlugin } from '@uppy/core'
import { filterFilesToEmitUploadStarted, filterFilesToUpload } from '@uppy/core/utils'

import { Connection } from './connection.js'
import { DirectUpload } from './direct.js'
import { Lanes } from './lanes.js'
import { NormalUpload } from './normal.js'
import { sizeText, speaker } from './words.js'

const FILES_AT_ONCE = 3

/**
 * Options: `settings` (`UploaderSettings`), `remembered`, and `waiting` (seconds, as `WAITING` of `connection.js`).
 *
 * Of each file's `meta` it takes `type` (one of `settings.types`; else that of the field, or the first one), `title`,
 * `folder` (address with ++api++ of the folder that it goes into), and `replaces` (`{ place, field }`: the content
 * whose file is replaced, with ++api++, and which of its fields).
 *
 * `upload-success` has as `response.body` what became of it, `{ '@id', UID, title }`; of a field in a form `{ token }`.
 * `upload-error` has a `Failure` whose message is in words of the editor. Further events: `blob-upload-waiting` with
 * whether it waits for a connection, `blob-upload-resumed` with a file and the bytes that were there from earlier, and
 * `blob-upload-completing` with a file of which all is sent.
 */
export class BlobUpload extends BasePlugin {
  #uploads = new Map() // by the file's id, until it is content or removed: a retry goes on with it
  #running = new Map() // what stops it, by the file's id
  #claimed = new Set() // tokens of uploads of this page
  #lanes = new Lanes(FILES_AT_ONCE)
  #listeners

  constructor(uppy, options) {
    super(uppy, options)
    this.id = 'BlobUpload'
    this.type = 'uploader'
    this.say = speaker(options.settings)
    this.connection = new Connection(options.waiting, (waiting) => uppy.emit('blob-upload-waiting', waiting))
    this.#listeners = {
      'upload-pause': (file, paused) => this.#running.get(file?.id)?.pause(paused),
      'pause-all': () => this.#running.forEach((running) => running.pause(true)),
      'resume-all': () => this.#resumeAll(),
      'file-removed': (file) => this.#removed(file.id),
    }
  }

  install() {
    this.uppy.addUploader(this.#upload)
    for (const [event, listener] of Object.entries(this.#listeners)) this.uppy.on(event, listener)
  }

  uninstall() {
    this.uppy.removeUploader(this.#upload)
    for (const [event, listener] of Object.entries(this.#listeners)) this.uppy.off(event, listener)
    this.#running.forEach((running) => running.remove())
  }

  #upload = async (ids) => {
    const files = filterFilesToUpload(this.uppy.getFilesByIds(ids).filter(Boolean))
    const resumableUploads = this.uppy.getFiles().every((file) => this.#typeOf(file).mode === 'direct')
    this.uppy.setState({ capabilities: { ...this.uppy.getState().capabilities, resumableUploads } })
    this.uppy.emit('upload-start', filterFilesToEmitUploadStarted(files))
    await Promise.all(files.map(({ id }) => this.#one(id)))
  }

  /** Until it is over. A file that is paused leaves its lane to another one. */
  async #one(id) {
    const running = new Running(() => this.uppy.getFile(id)?.isPaused)
    this.#running.set(id, running)
    try {
      while (!running.removed) {
        await running.resumed()
        const { signal } = running
        try {
          await this.#lanes.enter(signal)
          try {
            await this.#run(id, signal)
            return
          } finally {
            this.#lanes.leave()
          }
        } catch (failure) {
          if (failure.name !== 'AbortError') return this.#failed(id, failure)
        }
      }
    } finally {
      if (this.#running.get(id) === running) this.#running.delete(id)
    }
  }

  async #run(id, signal) {
    const file = this.uppy.getFile(id)
    const upload = this.#uploadOf(file)
    let body
    if (this.opts.settings.kind === 'field') {
      body = { token: await upload.send(signal) }
    } else {
      const { title } = file.meta
      body = await upload.complete(title ? { title } : {}, signal)
      this.#uploads.delete(id)
    }
    const now = this.uppy.getFile(id)
    if (now) this.uppy.emit('upload-success', now, { status: 200, body, uploadURL: body['@id'] })
  }

  /** That of an earlier run, or a new one, also where the file is to become something else by now. */
  #uploadOf(file) {
    const about = this.#about(file)
    const before = this.#uploads.get(file.id)
    if (before?.isFor(about)) return before
    before?.cancel()
    const hooks = {
      progress: (bytes) => {
        const now = this.uppy.getFile(file.id)
        const { uploadStarted } = now?.progress ?? {}
        if (now) this.uppy.emit('upload-progress', now, { uploadStarted, bytesUploaded: bytes, bytesTotal: about.size })
      },
      resumed: (bytes) => this.uppy.emit('blob-upload-resumed', file, bytes),
      completing: () => this.uppy.emit('blob-upload-completing', file),
    }
    const Upload = this.#typeOf(file).mode === 'direct' ? DirectUpload : NormalUpload
    const { settings, remembered } = this.opts
    const shared = { settings, remembered, connection: this.connection, claimed: this.#claimed }
    const upload = new Upload({ ...shared, data: file.data, about, hooks })
    this.#uploads.set(file.id, upload)
    return upload
  }

  #about(file) {
    const { settings } = this.opts
    const { folder = settings.place, replaces } = file.meta
    const type = this.#typeOf(file)
    const replaced = replaces ?? (settings.replaces ? { place: settings.place, field: type.field } : null)
    return {
      name: file.name,
      size: file.data.size,
      lastModified: file.data.lastModified ?? 0,
      mime: file.type ?? '',
      place: replaced?.place ?? folder,
      type: replaced ? '' : type.name,
      field: replaced?.field ?? type.field,
      replaces: Boolean(replaced),
    }
  }

  #typeOf(file) {
    const { settings } = this.opts
    return settings.type ?? (file.meta.type?.mode ? file.meta.type : settings.types[0]) // Uppy's own is a MIME type
  }

  #failed(id, failure) {
    const file = this.uppy.getFile(id)
    if (!file) return
    if (failure.words) {
      const size = sizeText(file.size, this.opts.settings.language)
      failure.message = this.say(failure.words, { size, reason: failure.message })
    }
    this.uppy.emit('upload-error', file, failure)
  }

  #removed(id) {
    this.#running.get(id)?.remove()
    this.#uploads.get(id)?.cancel()
    this.#uploads.delete(id)
  }

  /** Uppy takes the errors of all files away when it resumes them; what had failed has to run again. */
  #resumeAll() {
    this.#running.forEach((running) => running.pause(false))
    for (const { id, progress } of this.uppy.getFiles()) {
      if (progress.uploadStarted && !progress.uploadComplete && !this.#running.has(id)) {
        this.uppy.retryUpload(id).catch(() => {})
      }
    }
  }
}

/** What stops the upload of a file: it is paused, for a time, or removed. */
class Running {
  #controller = new AbortController()
  #resume = () => {}
  removed = false

  constructor(isPaused) {
    this.isPaused = isPaused
  }

  /** Of this run; another one after each pause. */
  get signal() {
    return this.#controller.signal
  }

  pause(paused) {
    if (paused) this.#controller.abort()
    else this.#resume()
  }

  remove() {
    this.removed = true
    this.#controller.abort()
    this.#resume()
  }

  async resumed() {
    while (this.isPaused() && !this.removed) await new Promise((resolve) => (this.#resume = resolve))
    if (!this.removed) this.#controller = new AbortController()
  }
}
