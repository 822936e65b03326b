// What is refused before a byte is sent, and what a file becomes where nobody says it. Plain functions.

import { sizeText } from './words.js'

/** Whether a type as `video/*`, `image/png` or `.svg` is that of a file with this name and MIME type. */
export function fits(pattern, { name, type }) {
  if (pattern.startsWith('.')) return name.toLowerCase().endsWith(pattern.toLowerCase())
  const [mime] = (type || '').toLowerCase().split(';')
  if (pattern === '*/*' || pattern === '*') return true
  return pattern.endsWith('/*') ? mime.startsWith(pattern.slice(0, -1).toLowerCase()) : mime === pattern.toLowerCase()
}

/** Those of `types` (of `UploaderSettings`) that take the file: a field for pictures takes nothing else. */
export function typesFor(types, file) {
  return types.filter((type) => !type.image || fits('image/*', file))
}

/** What a file becomes by itself: a picture a type for pictures, all else the first one that takes any file. */
export function typeByItself(types, file) {
  const possible = typesFor(types, file)
  return possible.find((type) => type.image) ?? possible[0]
}

/** Bytes that a file of this type may have; null where nobody has set a bound. */
export function largest(settings, type) {
  return settings[type.mode === 'direct' ? 'maximum-size' : 'normal-maximum-size']
}

/**
 * Why the file is not taken as content of this type, in words; null where it is taken.
 *
 * `maximum-size` and `mime-types` are those of direct upload: what goes the normal way is asked by the site, but for
 * what Zope takes in one request: it would say so after the last byte.
 */
export function refusal(settings, say, file, type) {
  const kind = file.type || say('unknown-type')
  if (!file.size) return say('empty')
  if (!type) return say('no-type', { type: kind })
  const limit = largest(settings, type)
  if (limit !== null && file.size > limit) {
    const text = (bytes) => sizeText(bytes, settings.language)
    return say('too-large', { size: text(file.size), limit: text(limit) })
  }
  if (type.mode === 'direct') {
    const site = settings['mime-types']
    if (site.length && !site.some((one) => fits(one, file))) {
      return say('wrong-type', { type: kind, types: site.join(', ') })
    }
  }
  const accept = settings.accept ?? []
  if (accept.length && !accept.some((one) => fits(one, file))) {
    return say('wrong-type-here', { type: kind, types: accept.join(', ') })
  }
  if (type.image && !fits('image/*', file)) return say('wrong-type-here', { type: kind, types: 'image/*' })
  return null
}
