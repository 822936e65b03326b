// Uploads of earlier that were not finished: how much of each is there, and a button that cancels it.

import { make, titledList } from './dom.js'

/**
 * The list above the Dashboard: `element` and `refresh()`, which reads anew what the browser remembers.
 *
 * `remembered`: what the browser remembers; `serviceOf(place)`: client of its `@blob-upload`: the upload of a file of a
 * dropped folder belongs to that one; `busy(entry)`: whether its file is in the Dashboard now.
 */
export function makeUnfinishedList({ say, size, remembered, serviceOf, busy, status }) {
  const { section, list, shown } = titledList(say('unfinished'), { class: 's3blobs-unfinished' })

  async function item(entry) {
    const service = serviceOf(entry.place)
    const sent = await service.sent(entry.token)
    if (sent === null) {
      remembered.forget(entry.token) // it has expired, or was cancelled elsewhere
      return null
    }
    const { name } = entry
    const text = say('unfinished-one', { name, sent: size(sent), size: size(entry.size) })
    const label = { type: 'button', class: 's3blobs-button', 'aria-label': say('cancel-one', { name }) }
    const cancel = make('button', label, say('cancel'))
    const made = make('li', {}, make('span', {}, text), ' ', cancel)
    cancel.addEventListener('click', async () => {
      cancel.disabled = true
      try {
        await service.cancel(entry.token)
        remembered.forget(entry.token)
        made.remove()
        shown()
        status(say('cancelled', { name }))
      } catch (error) {
        status(error.message)
        cancel.disabled = false
      }
    })
    return made
  }

  let latest = 0

  return {
    element: section,
    async refresh() {
      const own = (latest += 1)
      const waiting = remembered.all().filter((entry) => !busy(entry))
      // What cannot be asked now is not shown now; it is asked again when the page is opened the next time.
      const items = await Promise.all(waiting.map((entry) => item(entry).catch(() => null)))
      if (own !== latest) return // what is remembered has changed meanwhile, and a later one knows it
      list.replaceChildren(...items.filter(Boolean))
      shown()
    },
  }
}
