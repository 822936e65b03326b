// What the script says. The texts come from the page, in the user's language (words.py); sizes are written as that
// language writes numbers.

const UNITS = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte']

/** A function of a name and variables that gives the text of `settings.words`. */
export function speaker(settings) {
  return (name, variables = {}) =>
    (settings.words[name] ?? name).replace(/\$\{(\w+)\}/g, (whole, variable) => variables[variable] ?? whole)
}

/** Bytes for people: `4.2 GB`, where a KB has 1024 bytes, as in the Dashboard beside it. */
export function sizeText(bytes, language) {
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024
    unit += 1
  }
  const options = { style: 'unit', unit: UNITS[unit], unitDisplay: unit ? 'short' : 'long' }
  options.maximumFractionDigits = value < 10 && unit ? 1 : 0
  return new Intl.NumberFormat(numbersOf(language), options).format(value)
}

/** Seconds for people, in the unit that fits: `8 seconds`, `12 minutes`. */
export function durationText(seconds, language) {
  const [unit, value] =
    seconds < 90 ? ['second', seconds] : seconds < 5400 ? ['minute', seconds / 60] : ['hour', seconds / 3600]
  const options = { style: 'unit', unit, unitDisplay: 'long' }
  return new Intl.NumberFormat(numbersOf(language), options).format(Math.ceil(value))
}

// A language code that browsers do not know must not stop an upload.
function numbersOf(language) {
  try {
    return Intl.NumberFormat.supportedLocalesOf(language)[0] ?? 'en'
  } catch {
    return 'en'
  }
}
