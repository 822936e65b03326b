// The page "Upload files" of a folder: several files and folders become content, each of the type that fits.

import { askWhatToDo, LEAVE_OUT, REPLACE } from './conflicts.js'
import { apiAddress, existing, makeFolders } from './content.js'
import { askBeforeLeaving, isSending, makeUploader } from './dashboard.js'
import { make } from './dom.js'
import { uppyLocale } from './locales.js'
import { Remembered } from './remembered.js'
import { largest, refusal, typeByItself, typesFor } from './restrictions.js'
import { Service } from './service.js'
import { makeUnfinishedList } from './unfinished.js'
import { BlobUpload } from './upload-plugin.js'
import { makeUploadedList } from './uploaded.js'
import { speaker } from './words.js'

// Names that are asked for at the same time, before a batch is sent: a dropped folder may have hundreds.
const ASKED_AT_ONCE = 4

/** Puts the uploader in the place of the plain form in `element`, which stays as it is if anything here fails. */
export async function mountPage(element, settings) {
  const say = speaker(settings)
  const locale = await uppyLocale(settings.language)
  const { types } = settings
  const typeOf = (file) => file.meta.chosen ?? typeByItself(types, file)

  const { uppy, root, status, problems, size } = makeUploader(settings, {
    say,
    locale,
    uppy: { id: 's3blobs-page' },
    dashboard: {
      height: 420,
      fileManagerSelectionType: 'both',
      doneButtonHandler: () => uppy.clear(),
      metaFields: (file) => metaFields(file, types, say),
    },
    check: (file) => refusal(settings, say, file, typeByItself(types, file)),
  })
  const remembered = new Remembered(settings)
  const serviceOf = (place) => new Service(settings, { place })
  uppy.use(BlobUpload, { settings, remembered })

  uppy.on('file-added', (file) => uppy.setFileMeta(file.id, { type: typeOf(file), title: '' }))
  uppy.addPreProcessor((ids) => prepare(uppy, ids, { settings, root, say, size, problems }))

  const uploaded = makeUploadedList(settings, say)
  uppy.on('upload-success', (file, response) => uploaded.add(file.name, response.body))
  const busy = ({ name, size }) =>
    uppy.getFiles().some((file) => file.name === name && file.size === size && !file.progress.uploadComplete)
  const unfinished = makeUnfinishedList({ say, size, remembered, serviceOf, status, busy })
  for (const event of ['complete', 'cancel-all', 'file-removed']) uppy.on(event, unfinished.refresh)

  root.prepend(...notes(settings, say, size), unfinished.element, ...typeOfAll(uppy, settings, say))
  root.append(uploaded.element)
  element.replaceChildren(root)
  askBeforeLeaving(() => uppy.getFiles().some(isSending))
  await unfinished.refresh()
}

function notes(settings, say, size) {
  const texts = []
  const direct = settings.types.some((type) => type.mode === 'direct')
  const limit = largest(settings, settings.types.find((type) => type.mode === 'direct') ?? settings.types[0])
  if (limit !== null) texts.push(say('limit', { limit: size(limit) }))
  if (direct && settings['mime-types'].length) texts.push(say('takes', { types: settings['mime-types'].join(', ') }))
  if (settings.folders === null) texts.push(say('no-folders'))
  return texts.map((text) => make('p', { class: 's3blobs-note' }, text))
}

function metaFields(file, types, say) {
  const fields = [{ id: 'title', name: say('title'), placeholder: file.name }]
  const possible = typesFor(types, file)
  if (possible.length > 1) {
    const render = ({ value, onChange, required, form }, h) =>
      h(
        'select',
        {
          id: 'uppy-Dashboard-FileCard-input-type', // what the Dashboard's label is for
          class: 'uppy-u-reset uppy-c-textInput uppy-Dashboard-FileCard-input',
          required,
          form,
          value: String(possible.indexOf(value)),
          onChange: (event) => onChange(possible[Number(event.target.value)]),
        },
        possible.map((type, index) => h('option', { value: String(index) }, type.title)),
      )
    fields.push({ id: 'type', name: say('type'), render })
  }
  return fields
}

/** The select above all files, where there is a choice. It changes those that the type takes and that are not sent. */
function typeOfAll(uppy, { types }, say) {
  if (types.length < 2) return []
  const byFile = make('option', { value: '' }, say('type-by-file'))
  const options = types.map((type, index) => make('option', { value: index }, type.title))
  const select = make('select', { class: 's3blobs-input' }, byFile, ...options)
  const take = (file) => {
    const type = types[select.value]
    if (type && !file.progress.uploadStarted && typesFor([type], file).length) uppy.setFileMeta(file.id, { type })
  }
  select.addEventListener('change', () => uppy.getFiles().forEach(take))
  uppy.on('file-added', (file) => take(uppy.getFile(file.id)))
  return [make('p', { class: 's3blobs-type-of-all' }, make('label', {}, say('type-of-all'), ' ', select))]
}

/**
 * Before files are sent: makes the folders that they go into, and asks about those whose names are taken.
 *
 * A retry comes here again, and finds it done. What cannot be asked is sent: nothing is ever replaced without a word.
 */
async function prepare(uppy, ids, { settings, root, say, size, problems }) {
  const fresh = ids.map((id) => uppy.getFile(id)).filter((file) => file && !file.meta.prepared)
  const message = say('preparing')
  for (const file of fresh) uppy.emit('preprocess-progress', file, { mode: 'indeterminate', message })
  try {
    await intoFolders(uppy, fresh, { settings, say, problems })
    const conflicts = await taken(uppy, fresh, settings)
    const choices = conflicts.length ? await askWhatToDo(root, conflicts, { say, size }) : new Map()
    for (const { key, there } of conflicts) {
      if (!uppy.getFile(key)) continue
      if (choices.get(key) === LEAVE_OUT) uppy.removeFile(key)
      if (choices.get(key) === REPLACE) uppy.setFileMeta(key, { replaces: replaced(settings, there) })
    }
    for (const { id } of fresh) if (uppy.getFile(id)) uppy.setFileMeta(id, { prepared: true })
  } finally {
    for (const { id } of fresh) if (uppy.getFile(id)) uppy.emit('preprocess-complete', uppy.getFile(id))
  }
}

function replaced(settings, there) {
  return { place: apiAddress(settings.place, there['@id']), field: there.field }
}

async function intoFolders(uppy, files, { settings, say, problems }) {
  if (settings.folders === null) return
  const folderOf = (file) => (file.meta.relativePath ?? '').split('/').slice(0, -1).filter(Boolean).join('/')
  const paths = [...new Set(files.map(folderOf).filter(Boolean))]
  if (!paths.length) return
  let made
  try {
    made = await makeFolders(settings.place, paths)
  } catch (error) {
    const text = say('folders-failed', { reason: error.message })
    problems.add({ key: 'folders', name: '', text })
    throw new Error(text)
  }
  problems.remove('folders')
  for (const file of files) {
    const folder = made.get(folderOf(file))
    if (folder) uppy.setFileMeta(file.id, { folder })
  }
}

/** Files whose names are taken where they go: `[{ key, name, there }]`. */
async function taken(uppy, files, { place }) {
  const found = []
  const waiting = [...files]
  const worker = async () => {
    for (let file = waiting.shift(); file; file = waiting.shift()) {
      const { folder = place } = uppy.getFile(file.id)?.meta ?? {}
      const [there] = await existing(folder, file.name).catch(() => [])
      if (there) found.push({ key: file.id, name: file.name, there })
    }
  }
  await Promise.all(Array.from({ length: ASKED_AT_ONCE }, worker))
  return found
}
