"""plone.namedfile's own tests pass with our views in its views' place, in each mode of delivery."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

SUITE = Path(__file__).with_name("namedfile_suite.py")
SECONDS = 300.0  # 25 s on an idle machine
WAY = {"proxy": "proxied", "redirect": "redirected", "x-accel": "x_accelerated"}


@pytest.mark.parametrize("mode", ["stream", *WAY])
def test_plone_namedfiles_own_tests(s3_server, tmp_path, mode):
    store = {
        "bucket": f"namedfile-{uuid.uuid4().hex[:20]}",
        "endpoint_url": s3_server.endpoint_url,
        "region": s3_server.region,
        "access_key": s3_server.access_key,
        "secret_key": s3_server.secret_key,
        "addressing_style": "path",
        "create_bucket": True,
    }
    run = subprocess.run(
        [sys.executable, SUITE, mode, tmp_path / "cache"],
        input=json.dumps(store), capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-5000:]
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["tests"] > 100
    assert found["taken"]["deliver"] > 50
    taken = {way for way in WAY.values() if found["taken"].get(way)}
    assert (WAY[mode] in taken) if mode in WAY else not taken
