"""``IBlobStorages`` in a running Zope, by an object of it and by the database's name in zope.conf."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from zope_instance import MAKE_SECONDS

pytestmark = pytest.mark.one_release

SCRIPT = Path(__file__).with_name("reach_bucket.py")


def test_objects_of_an_addon(zope, site_bucket):
    zope.stop()
    try:
        run = subprocess.run(
            [sys.executable, "-m", "Zope2.utilities.zconsole", "run", zope.home / "etc" / "zope.conf", SCRIPT],
            env=zope._environment(), capture_output=True, text=True, timeout=MAKE_SECONDS,
        )  # fmt: skip
    finally:
        zope.start()
    assert run.returncode == 0, run.stdout + run.stderr
    [line] = [line.removeprefix("FOUND ") for line in run.stdout.splitlines() if line.startswith("FOUND ")]
    told = json.loads(line)
    assert told["keys"] == ["of/name", "of/root", "of/with", "of/without"]
    assert told["mode"] == "none"
    assert told["unknown"].startswith("zope.conf has no database 'catalog'; it has ") and "main" in told["unknown"]
    found = site_bucket.client.list_objects_v2(Bucket=site_bucket.name, Prefix="plone/site/addons/")
    assert [entry["Key"] for entry in found["Contents"]] == [
        f"plone/site/addons/collective.x/of/{name}" for name in ("name", "root", "with", "without")
    ]
