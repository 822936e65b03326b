// What was made: a link to each, and its title, which can be changed at once.

import { apiAddress, rename } from './content.js'
import { make, titledList } from './dom.js'

/** The list below the Dashboard: `element` and `add(name, { '@id', title })`. */
export function makeUploadedList(settings, say) {
  const { section, list, shown } = titledList(say('uploaded'), { class: 's3blobs-uploaded' })
  let count = 0
  return {
    element: section,
    add(name, made) {
      // Plone's own address of a File is the file itself; with /view it is the page about it.
      const link = make('a', { href: `${made['@id']}/view` }, made.title || name)
      const id = `s3blobs-title-${++count}`
      const about = { id, type: 'text', value: made.title || name, 'aria-label': say('title-of', { name }) }
      const input = make('input', { ...about, class: 's3blobs-input' })
      const told = make('span', { role: 'status', class: 's3blobs-told' })
      const button = make('button', { class: 's3blobs-button', 'aria-label': say('save-one', { name }) }, say('save'))
      const form = make(
        'form',
        { class: 's3blobs-title-form' },
        make('label', { for: id }, say('title')),
        input,
        button,
        told,
      )
      form.addEventListener('submit', async (event) => {
        event.preventDefault()
        const title = input.value.trim()
        if (!title) return input.focus()
        button.disabled = true
        try {
          await rename(apiAddress(settings.place, made['@id']), title)
          link.textContent = title
          told.textContent = say('saved')
        } catch (error) {
          told.textContent = say('not-saved', { reason: error.message })
        }
        button.disabled = false
      })
      list.append(make('li', {}, link, form))
      shown()
    },
  }
}
