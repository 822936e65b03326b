"""Every text is translated, no translation is of a text that is gone, and each has the variables of its text.

Run as a script, it reads the texts anew from the sources, brings every catalogue in line and compiles it::

    python tests/unit/test_translations.py
"""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from babel.messages.mofile import read_mo, write_mo
from babel.messages.pofile import read_po

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "collective" / "s3blobstorage"
LOCALES = PACKAGE / "locales"
DOMAIN = "collective.s3blobstorage"
LANGUAGES = ("de", "es", "fr")

_VARIABLE = re.compile(r"\$\{\w+\}")
_SETTING = re.compile(
    r"zope\.conf|delivery-modes|x-accel-location|presign-max-expiry|key-max-age|cache-size|gc-keep|require-encryption"
    r"|read-only|zodb-s3blobs|x-accel(?!-)|\bredirect\b|\bproxy\b|\bowner\b|nginx|\*|SSE-\w+|MIME"
)


def catalogue(language: str) -> Path:
    return LOCALES / language / "LC_MESSAGES" / f"{DOMAIN}.po"


def extracted() -> dict[str, None]:
    """The texts of the sources, as i18ndude finds them."""
    with tempfile.TemporaryDirectory() as folder:
        pot = Path(folder) / "found.pot"
        command = [Path(sys.executable).with_name("i18ndude"), "rebuild-pot", "--no-line-numbers"]
        subprocess.run([*command, "--pot", pot, "--create", DOMAIN, "."], cwd=PACKAGE, check=True, timeout=60)
        return dict.fromkeys(texts(pot))


@functools.cache  # reading a catalogue takes longer than any look at it
def texts(path: Path) -> dict[str, str]:
    """Text and translation."""
    with open(path, "rb") as file:
        return {message.id: message.string for message in read_po(file) if message.id}


@pytest.fixture(scope="module")
def wanted() -> set[str]:
    return set(extracted())


def test_the_template_has_the_texts_of_the_sources(wanted):
    assert len(wanted) > 200
    assert set(texts(LOCALES / f"{DOMAIN}.pot")) == wanted


@pytest.mark.parametrize("language", LANGUAGES)
class TestLanguage:
    def test_every_text_is_translated_and_none_is_left_over(self, wanted, language):
        translated = texts(catalogue(language))
        assert set(translated) == wanted
        assert [text for text, translation in translated.items() if not translation.strip()] == []

    def test_variables_are_those_of_the_text(self, language):
        for text, translation in texts(catalogue(language)).items():
            assert sorted(_VARIABLE.findall(translation)) == sorted(_VARIABLE.findall(text)), text

    def test_names_of_settings_are_not_translated(self, language):
        for text, translation in texts(catalogue(language)).items():
            assert _SETTING.findall(text) == _SETTING.findall(translation), text

    def test_a_sentence_stays_a_sentence(self, language):
        for text, translation in texts(catalogue(language)).items():
            assert (text[-1] in ".?:") == (translation[-1] in ".?:"), text
            assert text == text.strip() and translation == translation.strip()

    def test_what_is_compiled_is_what_is_written(self, language):
        with open(catalogue(language).with_suffix(".mo"), "rb") as file:
            compiled = {message.id: message.string for message in read_mo(file) if message.id}
        assert compiled == texts(catalogue(language))


def test_names_of_jobs_in_sentences_are_those_of_the_buttons():
    """A sentence that says which job to start has to name it as its own page does."""
    for language in LANGUAGES:
        translated = texts(catalogue(language))
        for text, translation in translated.items():
            for name in re.findall(r"“([^”$]+)”", text):
                assert translated[name] in translation, (language, text)


def unmarked(pages: list[Path]) -> list[str]:
    """What i18ndude's own search finds, but for variables and signs between them."""
    command = [Path(sys.executable).with_name("i18ndude"), "find-untranslated", *pages]
    report = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    missing = re.findall(r'i18n:translate missing for this:\n"""\n(.*?)\n"""', report, re.DOTALL)
    attributes = re.findall(r"-ERROR- - (\w+ attribute .*)", report)
    return attributes + [text for text in missing if re.search(r"\w", re.sub(r"\$\{[^}]*\}", "", text))]


def test_no_text_of_a_page_is_left_out(tmp_path):
    pages = sorted(PACKAGE.rglob("*.pt"))
    assert pages and unmarked(pages) == []
    forgotten = tmp_path / "forgotten.pt"
    forgotten.write_text((PACKAGE / "controlpanel" / "try.pt").read_text().replace("</form>", "Forgotten</form>", 1))
    assert unmarked([forgotten]) == ["Forgotten"]


def _rewrite() -> None:
    found = list(extracted())
    known = {language: texts(catalogue(language)) if catalogue(language).exists() else {} for language in LANGUAGES}
    (LOCALES / f"{DOMAIN}.pot").write_text(_catalogue("", {text: "" for text in found}))
    for language in LANGUAGES:
        path = catalogue(language)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_catalogue(language, {text: known[language].get(text, "") for text in found}))
        with open(path, "rb") as written, open(path.with_suffix(".mo"), "wb") as compiled:
            read = read_po(written)
            read.creation_date = read.revision_date = datetime(2026, 1, 1, tzinfo=UTC)  # else it is that of now
            write_mo(compiled, read)


def _catalogue(language: str, translations: dict[str, str]) -> str:
    """Without dates and line numbers, which would change with every line of the sources."""
    header = f"Language: {language}\\nMIME-Version: 1.0\\nContent-Type: text/plain; charset=utf-8\\nDomain: {DOMAIN}\\n"
    entries = [f'msgid ""\nmsgstr "{header}"\n']
    entries += [f"msgid {_quoted(text)}\nmsgstr {_quoted(told)}\n" for text, told in sorted(translations.items())]
    return "\n".join(entries)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


if __name__ == "__main__":
    _rewrite()
