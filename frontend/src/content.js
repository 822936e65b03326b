// What the page asks plone.restapi of content, besides uploads: what has a name already, folders, titles.

const PATHS_AT_ONCE = 100 // as many as the service takes
const HEADERS = { Accept: 'application/json', 'Content-Type': 'application/json' }

/** Address of content with `++api++`, as `place` has it. Another one is left as it is. */
export function apiAddress(place, address) {
  const [site] = place.split('/++api++')
  if (address.includes('/++api++') || !`${address}/`.startsWith(`${site}/`)) return address
  return `${site}/++api++${address.slice(site.length)}`
}

/** Content of a container that has a file of this name, or its id: `[{ '@id', title, field, size }]`. */
export async function existing(container, filename) {
  const told = await ask(`${container}/@blob-upload?filename=${encodeURIComponent(filename)}`, 'GET')
  return told.existing ?? []
}

/** Makes the folders that are missing, `paths` as `a/b`. Gives a Map of path → address with ++api++. */
export async function makeFolders(container, paths) {
  const made = new Map()
  for (let first = 0; first < paths.length; first += PATHS_AT_ONCE) {
    const asked = { paths: paths.slice(first, first + PATHS_AT_ONCE) }
    const told = await ask(`${container}/@blob-upload/folders`, 'POST', asked)
    for (const item of told.items) made.set(item.path, apiAddress(container, item['@id']))
  }
  return made
}

/** Gives content another title. */
export async function rename(address, title) {
  await ask(address, 'PATCH', { title })
}

/** Throws an Error with the site's message, where it has one. */
async function ask(address, method, body) {
  const sent = body === undefined ? undefined : JSON.stringify(body)
  const response = await fetch(address, { method, headers: HEADERS, body: sent, credentials: 'same-origin' })
  const text = await response.text()
  const told = text ? asJson(text) : {}
  if (!response.ok) throw new Error(told.error?.message ?? told.message ?? `${response.status} ${response.statusText}`)
  return told
}

function asJson(text) {
  try {
    return JSON.parse(text)
  } catch {
    return {}
  }
}
