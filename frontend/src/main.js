// Puts an uploader in the place of each element of the page that asks for one, as `uploader/interfaces.py` has it.

import { mountField } from './field.js'
import { mountPage } from './page.js'

const MOUNTS = { page: mountPage, field: mountField }

for (const element of document.querySelectorAll('[data-s3blobs-uploader]')) {
  mount(element).catch((error) => console.error('No uploader, but the plain form, since it could not start.', error))
}

async function mount(element) {
  const settings = JSON.parse(element.getAttribute('data-s3blobs-uploader'))
  await MOUNTS[settings.kind](element, settings)
}
