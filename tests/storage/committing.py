"""A process that commits blobs from several threads until it is killed, or told to stop; run by ``test_kill.py``.

It imports everything, then reads one line of JSON from its standard input, opens the storage, says ``ready`` and
commits. What it does it writes to a journal, a line at a time: ``intend`` before a commit, ``done`` when the commit has
returned, ``undone`` when it has raised or was aborted. The lines are synced: they survive this process. At the end of
its standard input it finishes and closes everything.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import transaction
import ZODB
from relstorage.adapters.sqlite.adapter import Sqlite3Adapter
from relstorage.options import Options
from relstorage.storage import RelStorage
from rings import store_from_json
from ZEO.ClientStorage import ClientStorage
from ZODB.blob import Blob
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError

from collective.s3blobstorage.errors import S3BlobStorageError
from collective.s3blobstorage.settings import StorageSettings
from collective.s3blobstorage.storage import S3BlobStorage, open_storage

NAMES = 5  # blobs per thread: each is written again and again, so that a reopening reads few
SIZES = (0, 10, 5_000, 200_000, 1_500_000)
LARGE = 17_000_000  # goes out in parts


def open_base(given: dict[str, Any]) -> Any:
    """The base storage of ``sites.Site`` with that kind and folder."""
    folder = Path(given["folder"])
    if given["kind"] == "filestorage":
        return FileStorage(str(folder / "Data.fs"))
    if given["kind"] == "zeo-client":
        return ClientStorage(("127.0.0.1", given["zeo_port"]), "main", wait_timeout=30)
    options = Options(keep_history=True)
    adapter = Sqlite3Adapter(str(folder / "sqlite"), pragmas={"synchronous": "off"}, options=options)
    return RelStorage(adapter, name="sqlite", options=options)


def opened(given: dict[str, Any]) -> S3BlobStorage:
    store = store_from_json(given["store"])
    return open_storage(open_base(given), StorageSettings(store=store, cache_dir=Path(given["cache_dir"])))


class Journal:
    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, *words: Any) -> None:
        os.write(self._descriptor, (" ".join(map(str, words)) + "\n").encode())
        os.fdatasync(self._descriptor)


class Committer(threading.Thread):
    """Commits into ``root[f"tree{number}"]``, which only it writes, and now and then into what all of them write."""

    def __init__(self, db: ZODB.DB, journal: Journal, number: int, seed: int, large: float, stop: threading.Event):
        super().__init__(daemon=True)
        self.db, self.journal, self.number, self.large, self.stop = db, journal, number, large, stop
        self.random = random.Random(seed * 1000 + number)
        self.error: BaseException | None = None

    def run(self) -> None:
        manager = transaction.TransactionManager()
        connection = self.db.open(manager)
        turn = 0
        try:
            while not self.stop.is_set():
                turn += 1
                self.turn(manager, connection.root(), f"{os.getpid()}-{self.number}-{turn}")
        except BaseException as error:
            self.error = error
        finally:
            manager.abort()
            connection.close()

    def turn(self, manager: Any, root: Any, name: str) -> None:
        tree = root[f"tree{self.number}"]
        chosen = self.random.sample([f"b{number}" for number in range(NAMES)], self.random.choice((1, 1, 2, 3)))
        plan: dict[str, str | None] = {}
        for key in chosen:
            if key in tree and self.random.random() < 0.1:
                del tree[key]
                plan[key] = None
                continue
            data = self.data()
            plan[key] = hashlib.sha256(data).hexdigest()
            if key in tree and self.random.random() < 0.7:
                with tree[key].open("w") as file:
                    file.write(data)
            else:
                tree[key] = Blob(data)
        if self.random.random() < 0.2:
            data = self.data()
            plan["shared"] = hashlib.sha256(data).hexdigest()
            with root["shared"].open("w") as file:  # whoever is second is in conflict
                file.write(data)
        if self.random.random() < 0.15:
            manager.savepoint()
        self.journal.write("intend", self.number, name, json.dumps(plan))
        if self.random.random() < 0.1:
            manager.abort()
            self.journal.write("undone", self.number, name, "aborted")
            return
        try:
            manager.commit()
        except (ConflictError, S3BlobStorageError) as error:
            manager.abort()
            self.journal.write("undone", self.number, name, type(error).__name__)
        else:
            self.journal.write("done", self.number, name)

    def data(self) -> bytes:
        if self.number == 0 and self.random.random() < self.large:
            return self.random.randbytes(LARGE)
        return self.random.randbytes(self.random.choice(SIZES)) + self.random.randbytes(16)


def main() -> None:
    print("imported", flush=True)
    given = json.loads(sys.stdin.readline())
    db = ZODB.DB(opened(given))
    journal = Journal(given["journal"])
    stop = threading.Event()
    committers = [
        Committer(db, journal, number, given["seed"], given["large"], stop) for number in range(given["threads"])
    ]
    print("ready", flush=True)
    for committer in committers:
        committer.start()
    sys.stdin.read()
    stop.set()
    for committer in committers:
        committer.join()
    db.close()
    for committer in committers:
        if committer.error is not None:
            traceback.print_exception(committer.error)
            sys.exit(1)


if __name__ == "__main__":
    main()
