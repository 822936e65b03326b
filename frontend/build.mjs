// Builds the uploader into the package: uploader.js, uploader.css, a file for each of Uppy's languages, and the
// licences of what is in them. The same bytes from the same sources and lock file; `node build.mjs FOLDER` builds
// elsewhere.

import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

import { build } from 'esbuild'

const HERE = dirname(fileURLToPath(import.meta.url))
const STATIC = join(HERE, '..', 'src', 'collective', 's3blobstorage', 'uploader', 'static')
const LICENCES = 'licences.txt'
// Of the versions that editors' browsers have had since 2023: `static` blocks and AbortSignal.timeout.
const BROWSERS = ['chrome111', 'edge111', 'firefox115', 'safari16.4']

/** Names of all that a bundle is made of, below this folder, sorted. tests/frontend_build.py has the same. */
function sources() {
  const found = readdirSync(join(HERE, 'src'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(HERE, join(entry.parentPath ?? entry.path, entry.name)).split(sep).join('/'))
  return [...found, 'build.mjs', 'package-lock.json', 'package.json'].sort()
}

/** SHA-256 of the sources, in the first line of script and style: a test without node knows by it whether they fit. */
function digest() {
  const hash = createHash('sha256')
  for (const name of sources()) {
    const bytes = readFileSync(join(HERE, name))
    hash.update(`${name} ${bytes.length}\n`).update(bytes)
  }
  return hash.digest('hex')
}

/** The text of the licences of the packages whose files are in the bundle. Throws where a package has none. */
function licences(inputs) {
  const packages = new Set()
  for (const path of Object.keys(inputs)) {
    const found = path.match(/^(?:.*\/)?node_modules\/((?:@[^/]+\/)?[^/]+)\//)
    if (found) packages.add(path.slice(0, found[0].length))
  }
  const texts = [...packages].sort().map((path) => {
    const folder = join(HERE, path)
    const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json')))
    const text = licenceIn(folder)
    if (!license || !text) throw new Error(`${name} names no licence, or has not its text`)
    return `${name} ${version}, ${license}\n\n${text}\n`
  })
  const start = 'uploader.js, uploader.css and locale-*.js are made of these packages besides our own sources.'
  return [start, ...texts].join('\n\n')
}

/** Of a file for it, or the section of the README that some packages have instead. */
function licenceIn(folder) {
  const read = (name) => readFileSync(join(folder, name), 'utf8')
  const [file] = readdirSync(folder).filter((one) => /^licen[cs]e(\.|$)/i.test(one)).sort()
  return file ? read(file).trim() : read('README.md').split(/^## Licen[cs]e.*$/im)[1]?.trim()
}

const target = resolve(process.argv[2] ?? STATIC)
mkdirSync(target, { recursive: true })
for (const name of readdirSync(target)) if (/\.(js|css)$/.test(name) || name === LICENCES) rmSync(join(target, name))
const common = {
  absWorkingDir: HERE,
  outdir: target,
  bundle: true,
  format: 'esm',
  minify: true,
  charset: 'utf8',
  legalComments: 'none', // they are in licences.txt
  target: BROWSERS,
  metafile: true,
  logLevel: 'warning',
}

// The languages that the sources import are files beside uploader.js, loaded on demand. They are built apart: what both
// share by esbuild's `splitting` would be in a third file, whose address has no ?v= as a new version needs it.
const languages = new Set()
const beside = {
  name: 'languages-beside',
  setup({ onResolve }) {
    onResolve({ filter: /^@uppy\/locales\/lib\/\w+\.js$/ }, ({ path }) => {
      languages.add(path)
      return { path: `./${fileOf(path)}.js`, external: true }
    })
  },
}
const fileOf = (path) => `locale-${path.match(/(\w+)\.js$/)[1]}`

const uploader = await build({
  ...common,
  entryPoints: [
    { in: 'src/main.js', out: 'uploader' },
    { in: 'src/style.css', out: 'uploader' },
  ],
  plugins: [beside],
  banner: { js: `/* built from ${digest()}: see docs/development.md */`, css: `/* built from ${digest()} */` },
})
const entryPoints = [...languages].sort().map((path) => ({ in: path, out: fileOf(path) }))
const locales = await build({ ...common, entryPoints })
writeFileSync(join(target, LICENCES), licences({ ...uploader.metafile.inputs, ...locales.metafile.inputs }))
