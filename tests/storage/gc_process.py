"""A process that does one round of garbage collection after another, to be killed by ``test_gc_faults.py``.

It reads one line of JSON: ``store``, and ``data_fs``, the path of a FileStorage. Nothing has to be old for it.
"""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path

from ZODB.FileStorage import FileStorage

from collective.s3blobstorage.maintenance.gc.margins import Margins
from collective.s3blobstorage.maintenance.gc.references import view_of
from collective.s3blobstorage.maintenance.gc.runs import Collection
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.settings import StoreSettings


def main() -> None:
    given = json.loads(sys.stdin.readline())
    store = (
        {**given["store"], "ca_bundle": Path(given["store"]["ca_bundle"])}
        if "ca_bundle" in given["store"]
        else given["store"]
    )
    with (
        closing(open_store(StoreSettings(**store))) as opened,
        closing(FileStorage(given["data_fs"], read_only=True)) as base,
    ):
        collection = Collection(opened, lambda: view_of(base), Margins(grace=0.0, keep=0.0, share=1.0))
        for _ in range(2):
            plan, _outcome = collection.round()
            plan.close()
    print("ended", flush=True)


if __name__ == "__main__":
    main()
