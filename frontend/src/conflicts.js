// The question what to do with files that are there already, in a dialog of the browser: it keeps the focus inside and
// closes by Escape, which leaves these files out.

import { make } from './dom.js'

export const KEEP_BOTH = 'keep-both'
export const REPLACE = 'replace'
export const LEAVE_OUT = 'leave-out'
const CHOICES = [KEEP_BOTH, REPLACE, LEAVE_OUT]

/**
 * Asks for all of them at once; gives a Map of key → choice.
 *
 * conflicts: `[{ key, name, there: { title, size } }]`
 */
export function askWhatToDo(root, conflicts, { say, size }) {
  const select = (label, first) =>
    make('select', { 'aria-label': label }, first, ...CHOICES.map((name) => make('option', { value: name }, say(name))))
  const rows = conflicts.map(({ key, name, there }) => {
    const chosen = select(say('exist-one', { name }))
    const is = say('exist-is', { title: there.title, size: size(there.size) })
    return { key, chosen, item: make('li', {}, make('strong', {}, name), ' ', make('span', {}, is), ' ', chosen) }
  })
  const all = select(say('for-all'), make('option', { value: '' }, ''))
  all.addEventListener('change', () => {
    if (all.value) for (const { chosen } of rows) chosen.value = all.value
  })
  const go = make('button', { class: 's3blobs-button s3blobs-button-first', value: 'go' }, say('go-on'))
  const forAll = rows.length > 1 ? make('p', {}, make('label', {}, say('for-all'), ' ', all)) : null
  const dialog = make(
    'dialog',
    { class: 's3blobs-dialog', 'aria-labelledby': 's3blobs-exist' },
    make(
      'form',
      { method: 'dialog' },
      make('h2', { id: 's3blobs-exist', class: 's3blobs-heading' }, say('exist')),
      make('p', {}, say('exist-help')),
      forAll,
      make('ul', { class: 's3blobs-list' }, ...rows.map((row) => row.item)),
      make('p', { class: 's3blobs-buttons' }, go),
    ),
  )
  root.append(dialog)
  dialog.showModal()
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => {
      const went = dialog.returnValue === 'go'
      dialog.remove()
      resolve(new Map(rows.map(({ key, chosen }) => [key, went ? chosen.value : LEAVE_OUT])))
    })
  })
}
