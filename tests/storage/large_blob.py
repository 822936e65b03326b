"""Commits one large blob and reads it back cold, and prints by how much that let this process grow.

Run by ``test_large.py`` in a process of its own, with a JSON of settings on standard input.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sys
from pathlib import Path

import transaction
import ZODB
from rings import store_from_json
from ZODB.blob import Blob
from ZODB.FileStorage import FileStorage

from collective.s3blobstorage.settings import StorageSettings
from collective.s3blobstorage.storage import open_storage

MB = 1024 * 1024


def peak() -> int:
    """Bytes of resident memory at its highest since ``reset_peak``: proc(5), VmHWM."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmHWM")


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    given = json.load(sys.stdin)
    folder = Path(given["folder"])
    store = store_from_json(given["store"])

    def opened() -> ZODB.DB:
        settings = StorageSettings(store=store, cache_dir=folder / "cache")
        return ZODB.DB(open_storage(FileStorage(str(folder / "Data.fs")), settings))

    db = opened()
    connection = db.open()
    connection.root()["small"] = Blob(b"so that everything is imported and connected")
    transaction.commit()
    connection.root()["small"].open("r").close()

    source = folder / "source"
    written = hashlib.sha256()
    block = random.Random(7).randbytes(MB)
    with source.open("wb") as file:
        for number in range(given["megabytes"]):
            block = number.to_bytes(8, "big") + block[8:]
            written.update(block)
            file.write(block)
    reset_peak()
    idle = peak()
    blob = Blob()
    connection.root()["large"] = blob
    blob.consumeFile(str(source))
    transaction.commit()
    writing = peak() - idle
    db.close()
    shutil.rmtree(folder / "cache")

    db = opened()
    connection = db.open()
    reset_peak()
    with connection.root()["large"].open("r") as file:
        read = hashlib.file_digest(file, "sha256")
    reading = peak() - idle
    db.close()
    assert read.digest() == written.digest(), "other bytes came back"
    print(json.dumps({"writing": writing, "reading": reading}))


main()
