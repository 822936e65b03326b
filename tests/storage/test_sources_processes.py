"""Eight processes of one machine want the same blob of a source: it comes once."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from origins import LARGE, PARTS, make_origin
from sites import store_as_json

PROCESSES = 8
CHILD = """
import hashlib, json, sys
from pathlib import Path
from ZODB.FileStorage import FileStorage
from collective.s3blobstorage.overlay.interfaces import SourceOptions
from collective.s3blobstorage.overlay.settings import S3Settings
from collective.s3blobstorage.settings import StorageSettings
from rings import store_from_json
from collective.s3blobstorage.storage import open_storage
given = json.loads(sys.argv[1])
source = S3Settings(SourceOptions("production", mirror="off"), store_from_json(given["source"]), given["layout"])
settings = StorageSettings(
    store=store_from_json(given["store"]), cache_dir=Path(given["cache"]), sources=(source,), preflight=False,
    read_only=True, **given["parts"],
)
storage = open_storage(FileStorage(given["database"], read_only=True), settings)
print("ready", flush=True)
sys.stdin.readline()
oid, tid = bytes.fromhex(given["oid"]), bytes.fromhex(given["tid"])
print(hashlib.sha256(Path(storage.loadBlob(oid, tid)).read_bytes()).hexdigest(), flush=True)
storage.close()
"""


@pytest.mark.clear
@pytest.mark.parametrize("origin", ["ours", "ours-nameless"])
@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
def test_each_byte_of_the_source_is_fetched_once(tmp_path, settings, proxy, origin, content):
    made = make_origin(origin, tmp_path / "origin", settings)
    [(oid, tid)] = [revision for revision, data in made.revisions.items() if data == content]
    source = made.through(proxy.endpoint_url)
    given = {
        "source": store_as_json(source.store),
        "layout": source.layout,
        "store": store_as_json(dataclasses.replace(settings, prefix="staging")),
        "cache": str(tmp_path / "cache"),
        "database": str(tmp_path / "origin" / "Data.fs"),
        "parts": PARTS,
        "oid": oid.hex(),
        "tid": tid.hex(),
    }
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for _ in range(PROCESSES)
    ]
    try:
        assert [child.stdout.readline() for child in children] == ["ready\n"] * PROCESSES
        proxy.round_trip(50)  # so that all ask while the first one reads
        for child in children:
            child.stdin.write("\n")
            child.stdin.flush()
        digest = hashlib.sha256(content).hexdigest()
        assert [child.stdout.readline() for child in children] == [f"{digest}\n"] * PROCESSES
    finally:
        for child in children:
            child.stdin.close()
            child.wait(60)
            child.stdout.close()
    fetched = [exchange for exchange in proxy.exchanges if exchange.operation == "GetObject"]
    assert sum(exchange.bytes_down for exchange in fetched) == len(content)
    if content == b"small":
        assert len(fetched) == 1
