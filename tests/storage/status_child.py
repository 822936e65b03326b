"""A process that opens a storage on a cache folder, makes some requests, and waits: for ``test_status.py``."""

import json
import sys
from pathlib import Path

from rings import store_from_json
from ZODB.MappingStorage import MappingStorage

from collective.s3blobstorage.settings import StorageSettings
from collective.s3blobstorage.storage import open_storage


def main():
    given = json.loads(sys.stdin.readline())
    settings = StorageSettings(
        store=store_from_json(given["store"]), cache_dir=Path(given["cache_dir"]), owner=given["owner"], preflight=False
    )
    storage = open_storage(MappingStorage(), settings)
    for _ in range(given["heads"]):
        storage.store_.head("blobs/none")
    storage.cache.counters.save()
    print("ready", flush=True)
    sys.stdin.readline()
    if given["ends"]:
        storage.close()


main()
