// Elements of the page. Texts are set as text, so that no file name is ever read as HTML.

/** An element: `make('button', { onclick }, 'Save')`. Attributes that are null or false are left out. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value)
    else if (value === true) element.setAttribute(name, '')
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value)
  }
  element.append(...children.filter((child) => child !== null && child !== undefined))
  return element
}

/** A heading, a list and what surrounds them; hidden as long as the list is empty. */
export function titledList(title, attributes = {}) {
  const heading = make('h2', { class: 's3blobs-heading' }, title)
  const list = make('ul', { class: 's3blobs-list' })
  const section = make('section', { hidden: true, ...attributes }, heading, list)
  return {
    section,
    list,
    shown() {
      section.hidden = !list.children.length
    },
  }
}
