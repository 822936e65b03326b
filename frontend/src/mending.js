// The Dashboard of Uppy 6.0 breaks some rules of axe-core. They are mended in its DOM after each rendering, since it
// has no options for them; Preact writes an attribute again only when its own value changes.

const RULES = [
  // aria-prohibited-attr: a label on a div that is nothing
  ['.uppy-Dashboard', (element) => element.setAttribute('role', 'group')],
  // aria-required-children: a list of tabs without a tab
  ['.uppy-Dashboard-AddFiles-list[role="tablist"]', withoutTabs],
  // aria-required-parent: a single file is a list item without a list
  ['.uppy-Dashboard-files:not([role])', (element) => element.setAttribute('role', 'list')],
  // Inside a form its inputs would be sent with it, without a file.
  ['.uppy-Dashboard-input[name]', (element) => element.removeAttribute('name')],
]

function withoutTabs(element) {
  if (!element.querySelector('[role="tab"]')) element.removeAttribute('role')
}

/** Mends what is below the element now and whenever it changes. */
export function mend(box) {
  const all = () => {
    for (const [selector, mended] of RULES) box.querySelectorAll(selector).forEach(mended)
  }
  all()
  new MutationObserver(all).observe(box, { childList: true, subtree: true })
}
