"""A process that commits and aborts blobs of few contents until its standard input ends; run by
``test_dedup_processes.py``. It reads one line of JSON, opens the storage, says ``ready`` and begins."""

from __future__ import annotations

import json
import random
import sys
import threading
from pathlib import Path
from typing import Any

import transaction
import ZODB
from committing import open_base
from rings import store_from_json
from ZODB.blob import Blob

from collective.s3blobstorage.settings import StorageSettings
from collective.s3blobstorage.storage import open_storage


def content(number: int) -> bytes:
    """The same in all processes; the last one goes out in parts."""
    return b"%d" % number * (17_000_000 if number == 5 else 200_000)


def work(given: dict[str, Any], stop: threading.Event) -> None:
    store = store_from_json(given["store"])
    settings = StorageSettings(store=store, cache_dir=Path(given["cache_dir"]), owner="one", dedup=True)
    db = ZODB.DB(open_storage(open_base(given), settings))
    print("ready", flush=True)
    chance = random.Random(given["seed"])
    turn = 0
    while not stop.is_set():
        manager = transaction.TransactionManager()
        connection = db.open(manager)
        tree = connection.root()[given["tree"]]
        tree[f"{given['seed']}-{turn}"] = Blob(content(chance.choices(range(6), (5, 5, 5, 5, 5, 1))[0]))
        if chance.random() < 0.3:
            connection.savepoint()
            manager.abort()
        else:
            manager.commit()
        connection.close()
        turn += 1
    db.close()


if __name__ == "__main__":
    print("imported", flush=True)
    given = json.loads(sys.stdin.readline())
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    work(given, stop)
