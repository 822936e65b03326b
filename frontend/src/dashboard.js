// What page and field share: Uppy with its Dashboard, and around it what the Dashboard does not have: errors in words,
// the rate, and what a screen reader is told.

import Uppy from '@uppy/core'
import Dashboard from '@uppy/dashboard'

import { make } from './dom.js'
import { mend } from './mending.js'
import { Pace } from './pace.js'
import { durationText, sizeText } from './words.js'

// Ten seconds: a screen reader that is told more often says nothing else.
const SAID_EVERY_MS = 10_000

/**
 * The uploader's parts in an element of the page.
 *
 * options: `say`, `locale` (of Uppy), `uppy` and `dashboard` (options of those), `check(file)` gives why a file is not
 * taken, in words, or null.
 *
 * Gives `uppy`, `root` (the element that has it all), `status(text)`, `problems`.
 */
export function makeUploader(settings, { say, locale, uppy: own = {}, dashboard = {}, check }) {
  const size = (bytes) => sizeText(bytes, settings.language)
  const box = make('div', { class: 's3blobs-dashboard' })
  const rate = make('p', { class: 's3blobs-rate' })
  const live = make('p', { class: 's3blobs-status', role: 'status' })
  const problems = makeProblems(say, settings)
  const root = make('div', { class: `s3blobs-uploader s3blobs-${settings.kind}`, dir: settings.rtl ? 'rtl' : 'ltr' })
  root.append(box, rate, live, problems.element)
  const status = (text) => {
    live.textContent = text
  }

  const uppy = new Uppy({
    // Refusals in our words are shown by `problems`; Uppy's own for the same is switched off by it.
    onBeforeFileAdded(file, files) {
      if (Object.hasOwn(files, file.id)) return false // Uppy then says `noDuplicates`
      const why = check({ ...file, name: file.name ?? '' })
      if (why) problems.add({ key: `refused ${file.id}`, name: file.name, text: why })
      return why ? false : file
    },
    locale: { ...locale, strings: { ...locale?.strings, noDuplicates: say('twice') } },
    ...own,
  })
  const title = say(settings.kind === 'page' ? 'files' : 'file')
  uppy.use(Dashboard, {
    inline: true,
    target: box,
    width: '100%',
    theme: 'light',
    direction: settings.rtl ? 'rtl' : 'ltr',
    proudlyDisplayPoweredByUppy: false,
    disableInformer: true, // its messages go away after seconds; ours stay
    hideProgressDetails: true, // `tellProgress` has them, with a time left that is right (pace.js)
    locale: { strings: { dashboardTitle: title, done: say('upload-more') } },
    ...dashboard,
  })
  mend(box)

  uppy.on('restriction-failed', (file, error) => {
    if (error?.isUserFacing) problems.add({ key: `refused ${file?.id}`, name: file?.name ?? '', text: error.message })
  })
  uppy.on('file-added', (file) => status(say('chosen', { name: file.name })))
  uppy.on('file-removed', (file) => {
    problems.remove(file.id)
    status(say('removed', { name: file.name }))
  })
  uppy.on('upload-error', (file, error) => {
    if (!file) return
    // Without a name of ours for it, the site said in its own words that it does not take this file. What it does not
    // take from this user, as what somebody else has locked, it may take later.
    const again = !dashboard.hideRetryButton && (error.words !== null || error.kind === 'forbidden')
    problems.add({
      key: file.id,
      name: file.name,
      text: error.message,
      login: error.kind === 'logged-out',
      retry: again ? () => uppy.retryUpload(file.id).catch(() => {}) : null,
      dismiss: () => uppy.removeFile(file.id),
    })
    // The Dashboard would say that the upload failed, and hide the progress and "Pause" of the files that go on.
    if (uppy.getFiles().some(isSending)) uppy.setState({ error: null })
  })
  uppy.on('complete', () => {
    const failed = uppy.getFiles().find((file) => file.error)
    if (failed) uppy.setState({ error: failed.error })
  })
  uppy.on('upload-retry', (file) => problems.remove(file.id))
  uppy.on('retry-all', (files) => files.forEach((file) => problems.remove(file.id)))
  uppy.on('upload-success', (file) => problems.remove(file.id))
  tellProgress(uppy, settings, { say, size, rate, status })
  return { uppy, root, status, problems, size }
}

/** How much is sent, how fast, and how long it takes, once a second; a part of it for who does not see the bar. */
function tellProgress(uppy, settings, { say, size, rate, status }) {
  const { i18n } = uppy.getPlugin('Dashboard')
  const pace = new Pace()
  let told = 0
  let said = 0
  const sum = (files, key) => files.reduce((all, file) => all + (Number(key(file)) || 0), 0)
  const sent = (files) => sum(files, (file) => file.progress.bytesUploaded)
  const stop = () => {
    pace.reset()
    rate.textContent = ''
  }
  const tell = (perSecond) => {
    const files = uppy.getFiles().filter((file) => file.progress.uploadStarted && !file.error)
    const bytes = sent(files)
    const total = sum(files, (file) => file.size)
    const texts = [i18n('dataUploadedOfTotal', { complete: size(bytes), total: size(total) })]
    if (files.length > 1) {
      const complete = files.filter((file) => file.progress.uploadComplete).length
      texts.unshift(i18n('filesUploadedOfTotal', { complete, smart_count: files.length }))
    }
    if (perSecond) {
      texts.push(say('speed', { rate: size(perSecond) }))
      const left = (total - bytes) / perSecond
      if (left > 0) texts.push(i18n('xTimeLeft', { time: durationText(left, settings.language) }))
    }
    // Each for itself: a number stays with its unit where the page goes from right to left.
    rate.replaceChildren(...texts.flatMap((text, index) => [index ? ' · ' : '', make('bdi', {}, text)]))
  }
  uppy.on('upload-progress', () => {
    const now = performance.now()
    const perSecond = pace.at(now, sent(uppy.getFiles()))
    if (perSecond === null || now - told < 1000) return
    told = now
    tell(perSecond)
    if (now - said >= SAID_EVERY_MS) {
      said = now
      status(say('sending', { percent: uppy.getState().totalProgress }))
    }
  })
  uppy.on('blob-upload-waiting', (waiting) => {
    stop()
    status(waiting ? say('waiting') : '')
  })
  uppy.on('blob-upload-resumed', () => {
    pace.reset() // what was there already is not counted as sent now
    status(say('resumes'))
  })
  uppy.on('blob-upload-completing', () => {
    if (settings.kind === 'page') status(say('completing'))
  })
  uppy.on('pause-all', () => {
    stop()
    status(say('paused'))
  })
  uppy.on('upload-success', (file) => {
    told = 0
    const files = uppy.getFiles()
    if (!files.some(isSending)) stop()
    const all = files.length > 1 && files.every((one) => one.progress.uploadComplete)
    status(all ? say('all-done') : say('done', { name: file.name }))
  })
  uppy.on('upload-error', () => {
    if (uppy.getFiles().some(isSending)) return
    stop()
    status('') // what was said of its state is over, and what went wrong is said elsewhere
  })
  uppy.on('resume-all', () => {
    stop()
    status('')
  })
  uppy.on('file-removed', () => {
    if (!uppy.getFiles().some(isSending)) stop()
  })
  for (const event of ['complete', 'cancel-all']) uppy.on(event, stop)
}

/** Whether something of the file is on its way, or will be without anybody's doing. */
export function isSending(file) {
  const { preprocess, uploadStarted, uploadComplete } = file.progress
  return Boolean(preprocess || (uploadStarted && !uploadComplete)) && !file.error
}

/** Asks before the page is left while something is sent: browsers have a text of their own for it. */
export function askBeforeLeaving(busy) {
  addEventListener('beforeunload', (event) => {
    if (busy()) event.preventDefault()
  })
}

/** The list of what went wrong: said once (`role="alert"`), and there until it is over or dismissed. */
function makeProblems(say, settings) {
  const list = make('ul', { class: 's3blobs-list' })
  const element = make('div', { class: 's3blobs-problems', role: 'alert' }, list)
  const shown = new Map()
  const remove = (key) => {
    shown.get(key)?.remove()
    shown.delete(key)
  }
  return {
    element,
    remove,
    /** `retry`: what its button does; null: there is one that does `dismiss` and takes the message away. */
    add({ key, name, text, login = false, retry = null, dismiss = () => {} }) {
      remove(key)
      const buttons = make('span', { class: 's3blobs-buttons' })
      if (login) buttons.append(make('a', { href: settings.login, target: '_blank', rel: 'noopener' }, say('log-in')))
      if (retry) {
        const label = { type: 'button', class: 's3blobs-button', 'aria-label': say('retry-one', { name }) }
        buttons.append(make('button', { ...label, onclick: retry }, say('retry')))
      } else {
        const label = { type: 'button', class: 's3blobs-button', 'aria-label': say('dismiss-one', { name }) }
        const over = () => {
          remove(key)
          dismiss()
        }
        buttons.append(make('button', { ...label, onclick: over }, say('dismiss')))
      }
      const item = make('li', {}, make('strong', {}, name), ' ', make('span', {}, text), ' ', buttons)
      shown.set(key, item)
      list.append(item)
    },
  }
}
