"""Tools of Plone on blobs that no cache has: they get promises of paths and lazy files, and never notice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import payloads
import pytest
from web_client import json_file
from zope_instance import MAKE_SECONDS

pytestmark = pytest.mark.one_release

SCRIPT = Path(__file__).with_name("read_cold.py")
MEGABYTES = 9  # above part-threshold: read by parts


@pytest.fixture(scope="module")
def found(admin, zope) -> dict[str, dict[str, str]]:
    """What each tool read on the stopped site, and ``expected``. Ends with the site running again."""
    large, image = payloads.noise(MEGABYTES), payloads.png()
    admin = type(admin)(admin.port, "with", admin.user)
    admin.api("POST", "", {"@type": "Folder", "id": "cold", "title": "Cold"}, expect=201)
    for portal_type, name, field, payload in (("File", "large", "file", large), ("Image", "image", "image", image)):
        sent = {field: json_file(payload.data, payload.filename, payload.content_type)}
        admin.add("cold", portal_type, name, **sent)
    expected = {"large": payloads.fingerprint(large.data)[1], "image": payloads.fingerprint(image.data)[1]}
    folder = zope.home / "exported"
    folder.mkdir()
    zope.stop()
    try:
        run = subprocess.run(
            [sys.executable, "-m", "Zope2.utilities.zconsole", "run", zope.home / "etc" / "zope.conf", SCRIPT,
             zope.cache_dir, folder],
            env=zope._environment(), capture_output=True, text=True, timeout=MAKE_SECONDS,
        )  # fmt: skip
    finally:
        zope.start()
    assert run.returncode == 0, run.stdout + run.stderr
    lines = [line.removeprefix("FOUND ") for line in run.stdout.splitlines() if line.startswith("FOUND ")]
    return {**dict(map(json.loads, lines)), "expected": expected}


TOOLS = ["pictures", "versions", "zexp", "plone_exportimport", "collective_exportimport"]


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_reads_what_is_in_no_cache(found, tool):
    assert found[tool] == found["expected"]
