// Uppy's own texts, loaded when a page needs them. Each is a file of its own in the bundle.

// By language as Plone names it. English is built in.
const LOCALES = {
  ar: () => import('@uppy/locales/lib/ar_SA.js'),
  bg: () => import('@uppy/locales/lib/bg_BG.js'),
  ca: () => import('@uppy/locales/lib/ca_ES.js'),
  cs: () => import('@uppy/locales/lib/cs_CZ.js'),
  da: () => import('@uppy/locales/lib/da_DK.js'),
  de: () => import('@uppy/locales/lib/de_DE.js'),
  el: () => import('@uppy/locales/lib/el_GR.js'),
  es: () => import('@uppy/locales/lib/es_ES.js'),
  'es-mx': () => import('@uppy/locales/lib/es_MX.js'),
  fa: () => import('@uppy/locales/lib/fa_IR.js'),
  fi: () => import('@uppy/locales/lib/fi_FI.js'),
  fr: () => import('@uppy/locales/lib/fr_FR.js'),
  gl: () => import('@uppy/locales/lib/gl_ES.js'),
  he: () => import('@uppy/locales/lib/he_IL.js'),
  hi: () => import('@uppy/locales/lib/hi_IN.js'),
  hr: () => import('@uppy/locales/lib/hr_HR.js'),
  hu: () => import('@uppy/locales/lib/hu_HU.js'),
  id: () => import('@uppy/locales/lib/id_ID.js'),
  is: () => import('@uppy/locales/lib/is_IS.js'),
  it: () => import('@uppy/locales/lib/it_IT.js'),
  ja: () => import('@uppy/locales/lib/ja_JP.js'),
  ko: () => import('@uppy/locales/lib/ko_KR.js'),
  mn: () => import('@uppy/locales/lib/mn_MN.js'),
  ms: () => import('@uppy/locales/lib/ms_MY.js'),
  nb: () => import('@uppy/locales/lib/nb_NO.js'),
  no: () => import('@uppy/locales/lib/nb_NO.js'),
  nl: () => import('@uppy/locales/lib/nl_NL.js'),
  nn: () => import('@uppy/locales/lib/nn_NO.js'),
  pl: () => import('@uppy/locales/lib/pl_PL.js'),
  pt: () => import('@uppy/locales/lib/pt_PT.js'),
  'pt-br': () => import('@uppy/locales/lib/pt_BR.js'),
  ro: () => import('@uppy/locales/lib/ro_RO.js'),
  ru: () => import('@uppy/locales/lib/ru_RU.js'),
  sk: () => import('@uppy/locales/lib/sk_SK.js'),
  sr: () => import('@uppy/locales/lib/sr_RS_Cyrillic.js'),
  'sr-latn': () => import('@uppy/locales/lib/sr_RS_Latin.js'),
  sv: () => import('@uppy/locales/lib/sv_SE.js'),
  th: () => import('@uppy/locales/lib/th_TH.js'),
  tr: () => import('@uppy/locales/lib/tr_TR.js'),
  uk: () => import('@uppy/locales/lib/uk_UA.js'),
  uz: () => import('@uppy/locales/lib/uz_UZ.js'),
  vi: () => import('@uppy/locales/lib/vi_VN.js'),
  zh: () => import('@uppy/locales/lib/zh_CN.js'),
  'zh-tw': () => import('@uppy/locales/lib/zh_TW.js'),
}

/** Uppy's locale for a language as `de` or `pt-br`; undefined is English, also where the file cannot be had. */
export async function uppyLocale(language) {
  const code = language.toLowerCase().replace('_', '-')
  const load = LOCALES[code] ?? LOCALES[code.split('-')[0]]
  try {
    return (await load?.())?.default
  } catch {
    return undefined
  }
}
