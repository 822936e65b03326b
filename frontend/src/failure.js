// Why a request or an upload did not work.

/**
 * `kind`: what can be done about it:
 *   `lost`        no network, or the site or the store is out: the same again, later
 *   `logged-out`  the same again after a login
 *   `forbidden`   the user may not (any more), or the content is locked: the same again, when that is over
 *   `refused`     the site does not take the file or its values, and says why
 *   `type`, `too-large`, `quota`, …  so too; the site's own `reason`
 *   `incomplete`  parts are missing that were thought to be there
 *   `wrong`       other bytes have come than were announced: another upload has to be begun
 *   `failed`      nobody knows what: the same again, or another file
 *   `conflict`    others did something with it meanwhile: the same again
 *   `ended`       there is no such upload any more: another one has to be begun
 *   `changed`     the file cannot be read from the disk any more
 * `words`: name of the text that says it, in `settings.words`; null: `message` is for the editor as it is
 * `message`: what the site said, in the language of the request; '' where it said nothing
 * `status`: of HTTP; 0 where there was no answer
 * `ended`: whether the site has ended the upload because of it
 */
export class Failure extends Error {
  constructor(kind, { words = kind, message = '', status = 0, ended = false } = {}) {
    super(message)
    Object.assign(this, { name: 'Failure', kind, words, status, ended })
  }
}

/** The Failure of an answer of the site with an error, whose body is `told` (JSON of plone.restapi, or of ours). */
export function failureOf(status, told = {}) {
  const { message = '', type, reason, incomplete, ended } = told.error ?? told
  const said = typeof message === 'string' ? message : JSON.stringify(message)
  const more = { message: said, status, ended: Boolean(ended) }
  if (status === 401) return new Failure('logged-out', more)
  if (status === 403) return new Failure('forbidden', reason ? { ...more, words: null } : more)
  if (status === 404 || status === 410) return new Failure('ended', more)
  if (status === 413) return new Failure('too-large', { ...more, words: 'large-for-server' })
  if (status >= 500 || status === 408 || status === 429) return new Failure('lost', more)
  if (incomplete) return new Failure('incomplete', { ...more, words: 'failed' })
  if (type === 'UploadWrong') return new Failure('wrong', { ...more, words: 'failed' })
  if (status === 409 && !reason) return new Failure('conflict', { ...more, words: 'failed' })
  if (reason) return new Failure(reason, { ...more, words: null })
  return new Failure('refused', { ...more, words: said ? 'refused' : 'failed' })
}

/** What an aborted request throws: no failure, since somebody wanted it. */
export function aborted() {
  return new DOMException('The upload was stopped.', 'AbortError')
}

/** The JSON of a body; null where it is none, as the page of a login form. */
export function asJson(text) {
  try {
    return text ? JSON.parse(text) : {}
  } catch {
    return null
  }
}
