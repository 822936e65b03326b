"""A process that shares objects, or one that collects garbage, for ``test_gc_interleaved.py`` to step.

It reads lines of JSON. The first says what it is: ``role`` (writer or gc), ``store``, ``data_fs`` and ``cache``. Each
other one is answered by a line: a writer commits ``data`` (hex) as the blob ``name`` and tells oid and tid, or aborts
where ``abort`` says so and tells null; gc does one round.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import ZODB
from rings import store_from_json
from sites import Against, commit_blobs, connected
from store_time import DAY
from ZODB.blob import Blob
from ZODB.FileStorage import FileStorage

from collective.s3blobstorage.maintenance.gc.margins import Margins
from collective.s3blobstorage.maintenance.gc.references import View
from collective.s3blobstorage.maintenance.gc.runs import Collection
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.settings import StorageSettings
from collective.s3blobstorage.storage import open_storage


def writer(given: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    settings = StorageSettings(
        store=store_from_json(given["store"]), cache_dir=Path(given["cache"]), owner="www.example.org",
        preflight=False, gc_on_pack="off", dedup=True,
    )  # fmt: skip
    db = ZODB.DB(open_storage(FileStorage(given["data_fs"]), settings))
    db.storage.witness.finish()  # its requests would come whenever they do

    def work(asked: dict[str, Any]) -> Any:
        data = bytes.fromhex(asked["data"])
        if not asked.get("abort"):
            tid = commit_blobs(db, **{asked["name"]: data})
            with connected(db) as connection:
                return [connection.root()[asked["name"]]._p_oid.hex(), tid.hex()]
        with connected(db) as connection:
            connection.root()[asked["name"]] = Blob(data)
            connection.transaction_manager.get().join(Against())
            try:
                connection.transaction_manager.commit()
            except ValueError:
                db.storage.uploads.settle()
                return None

    return work


def collector(given: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    store = open_store(store_from_json(given["store"]))

    @contextmanager
    def views() -> Iterator[View]:
        with closing(FileStorage(given["data_fs"], read_only=True)) as base:
            yield View(base)

    # Objects and marks need not be old, references do: so those of a commit under way stay, as gc-grace has it.
    margins = Margins(grace=0.0, keep=DAY, share=1.0)
    collection = Collection(store, views, margins)

    def work(asked: dict[str, Any]) -> Any:
        plan, outcome = collection.round()
        plan.close()
        return [outcome.deleted.blobs, outcome.marked_shared.blobs, outcome.deleted_shared.blobs]

    return work


def main() -> None:
    given = json.loads(sys.stdin.readline())
    work = {"writer": writer, "gc": collector}[given["role"]](given)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        print(json.dumps(work(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
