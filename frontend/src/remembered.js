// What the browser remembers of unfinished direct uploads, for the user of `settings.user`: when the page was closed
// and the same file is chosen again, it goes on where it was. A token opens nothing for anybody who is not logged in as
// that user.

const PREFIX = 's3blobs-uploads:'

export class Remembered {
  #key
  #place

  constructor({ user, place }) {
    this.#key = PREFIX + user
    this.#place = place
  }

  /** Those of this place and of what is below it, the newest first: `{ token, name, size, place, expires, … }`. */
  all() {
    return this.#read().filter(({ place }) => `${place}/`.startsWith(`${this.#place}/`))
  }

  /**
   * The upload of this very file to the same end, as `about` says (`direct.js`) with `print` (`print.js`); undefined where
   * there is none.
   */
  find(about) {
    return this.#read().find((entry) => SAME.every((name) => entry[name] === about[name]))
  }

  /** `entry`: what `about` says, with `print`, `token` and `expires` (ISO time). */
  keep(entry) {
    this.#write([entry, ...this.#read().filter(({ token }) => token !== entry.token)])
  }

  forget(token) {
    this.#write(this.#read().filter((entry) => entry.token !== token))
  }

  // Read anew each time, since another window writes too. Full or forbidden storage (a private window, a policy) is no
  // error: then nothing is remembered. What somebody else wrote there is nothing either.
  #read() {
    try {
      const entries = JSON.parse(localStorage.getItem(this.#key) ?? '[]')
      return entries.filter((entry) => typeof entry?.token === 'string' && Date.parse(entry.expires) > Date.now())
    } catch {
      return []
    }
  }

  #write(entries) {
    try {
      if (entries.length) localStorage.setItem(this.#key, JSON.stringify(entries))
      else localStorage.removeItem(this.#key)
    } catch {
      // see above
    }
  }
}

const SAME = ['name', 'size', 'lastModified', 'print', 'place', 'type', 'field', 'replaces']
