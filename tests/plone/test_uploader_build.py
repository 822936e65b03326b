"""Whoever builds the uploader from the lock file gets what is committed."""

from __future__ import annotations

import pytest
from frontend_build import STATIC, built, files_of, install

pytestmark = pytest.mark.one_release


def test_byte_for_byte(tmp_path):
    """Wherever it is built, and whatever was built there before."""
    frontend = install(tmp_path)
    target = tmp_path / "static"
    target.mkdir()
    for name in ("locale-xx_XX.js", "licences.txt"):
        (target / name).write_text("of another version")
    assert built(frontend, target) == files_of(STATIC)
