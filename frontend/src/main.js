// Puts an uploader in the place of each element of the page that asks for one: `uploader/interfaces.py` is the contract.

import { mountField } from './field.js'
import { mountPage } from './page.js'

const MOUNTS = { page: mountPage, field: mountField }

for (const element of document.querySelectorAll('[data-s3blobs-uploader]')) {
  mount(element).catch((error) => console.error('The uploader could not start; the plain form is there instead.', error))
}

async function mount(element) {
  const settings = JSON.parse(element.getAttribute('data-s3blobs-uploader'))
  await MOUNTS[settings.kind](element, settings)
}
