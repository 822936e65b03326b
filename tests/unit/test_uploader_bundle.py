"""What browsers get is built of the sources: by a digest. Byte for byte: tests/plone/test_uploader_build.py."""

from __future__ import annotations

import json
import re

import pytest
from frontend_build import FRONTEND, STATIC, digest_of_sources, files_of

BUILD = "is not built of these sources: cd frontend && npm ci --ignore-scripts && npm run build"


@pytest.mark.parametrize("name", ["uploader.js", "uploader.css"])
def test_it_is_built_of_the_sources(name):
    built_from = re.match(r"/\* built from ([0-9a-f]{64})", (STATIC / name).read_text())
    assert built_from and built_from[1] == digest_of_sources(), f"{name} {BUILD}"


def test_a_file_for_each_language_that_is_loaded():
    names = set(files_of(STATIC))
    loaded = set(re.findall(r'import\("\./(locale-\w+\.js)"\)', (STATIC / "uploader.js").read_text()))
    assert len(loaded) > 40
    assert names == loaded | {"uploader.js", "uploader.css", "licences.txt"}


def test_nothing_is_fetched_from_elsewhere():
    """No CDN; icons of the style are in it."""
    for name, content in files_of(STATIC).items():
        if name.endswith(".css"):
            urls = re.findall(rb"url\(\s*['\"]?([^)]{0,40})", content)
            assert all(url.startswith(b"data:") for url in urls), (name, urls)
        if name.endswith(".js"):
            assert not re.search(rb"sourceMappingURL|import\s*\(?\s*['\"]https?:", content), name


def test_versions_are_exact():
    package = json.loads((FRONTEND / "package.json").read_text())
    found = package["dependencies"] | package["devDependencies"]
    assert len(found) == 6 and all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in found.values()), found
    assert '"resolved"' not in (FRONTEND / "package-lock.json").read_text()  # installed from whichever registry is set


def test_licences_of_all_that_is_in_it():
    text = (STATIC / "licences.txt").read_text()
    for name in ("@uppy/core", "@uppy/dashboard", "@uppy/locales", "@uppy/thumbnail-generator", "preact", "nanoid"):
        assert re.search(rf"^{name} \d[\d.]+, MIT$", text, re.MULTILINE), name
