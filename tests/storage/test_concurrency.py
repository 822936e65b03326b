"""Many threads commit, abort and conflict; then every committed blob is there, cold, and nothing else is."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import transaction
import ZODB
from BTrees.Length import Length
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from servers.proxy import Proxy
from sites import (
    UNDOING,
    bucket_keys,
    commit_blobs,
    connected,
    raw_client,
    read_blob,
    unfinished_uploads,
    wait_until,
)
from test_large import MINISTACK_MB, ceph_store
from test_undo import undo
from ZODB.blob import Blob
from ZODB.POSException import ConflictError

from collective.s3blobstorage.settings import StoreSettings
from collective.s3blobstorage.storage.record import read_state


class Worker(threading.Thread):
    """Commits ``count`` times: new blobs, changed blobs, shared counter; some aborted, some in conflict on purpose."""

    def __init__(self, db: ZODB.DB, number: int, count: int):
        super().__init__(daemon=True)
        self.db, self.number, self.count = db, number, count
        self.random = random.Random(number)
        self.committed: dict[str, bytes] = {}  # name -> SHA-256 of what was last committed
        self.counted = 0
        self.aborted = self.conflicts = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            manager = transaction.TransactionManager()
            connection = self.db.open(manager)
            try:
                for turn in range(self.count):
                    self.commit(manager, connection.root(), turn)
            finally:
                manager.abort()
                connection.close()
        except BaseException as error:
            self.error = error

    def commit(self, manager, root, turn: int) -> None:
        plan = {f"{self.number}-{turn}": self.data(turn)}
        if turn % 5 == 4:
            plan[f"{self.number}-{turn - 4}"] = self.data(-turn)  # a new revision of an older blob
        while True:
            for name, data in plan.items():
                tree = root[f"tree{self.number}"]
                if name in tree:
                    with tree[name].open("w") as file:
                        file.write(data)
                else:
                    tree[name] = Blob(data)
            root["length"].change(1)  # resolved by BTrees.Length
            if turn % 7 == 3:
                with root["shared"].open("w") as file:  # never resolved: whoever is second starts again
                    file.write(data)
            if turn % 11 == 5:
                manager.savepoint()
            if turn % 6 == 1 and self.random.random() < 0.7:
                manager.abort()
                self.aborted += 1
                if self.random.random() < 0.5:
                    return
                continue
            try:
                manager.commit()
            except ConflictError:
                manager.abort()
                self.conflicts += 1
                continue
            self.counted += 1
            for name, data in plan.items():
                self.committed[name] = hashlib.sha256(data).digest()
            return

    def data(self, turn: int) -> bytes:
        return self.random.randbytes(self.random.choice((0, 10, 1000, 70_000))) + f"{self.number} {turn}".encode()


@pytest.mark.parametrize("kind", ["filestorage", "postgresql-hp", "zeo-client"])
def test_every_committed_blob_is_there_and_nothing_else(make_site, kind, tier):
    site = make_site(kind)
    db = site.db()
    threads, commits = tier["commit_threads"], tier["commits_per_thread"]
    with connected(db) as connection:
        root = connection.root()
        for number in range(threads):
            root[f"tree{number}"] = OOBTree()
        root["length"] = Length()
        root["shared"] = Blob(b"nobody's")
        connection.transaction_manager.commit()
    workers = [Worker(db, number, commits) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.error for worker in workers] == [None] * threads
    assert sum(worker.aborted for worker in workers) > 0
    assert sum(worker.conflicts for worker in workers) > 0, "nothing was in conflict: the test shows nothing"
    db.close()
    assert unfinished_uploads(site.settings.store) == []

    site.cold()
    db = site.db()
    expected: dict[str, bytes] = {}
    for worker in workers:
        expected |= worker.committed
    found = {}
    with connected(db) as connection:
        root = connection.root()
        assert root["length"]() == sum(worker.counted for worker in workers)
        for number in range(threads):
            for name, blob in root[f"tree{number}"].items():
                with blob.open("r") as file:
                    found[name] = hashlib.sha256(file.read()).digest()
        assert root["shared"].open("r").read()
    assert found == expected
    # No other object: every key belongs to a record that the base keeps.
    kept = set()
    for recorded in db.storage.iterator():
        for record in recorded:
            state = read_state(record.data)
            if state is not None:
                kept.add(f"blobs/{record.oid.hex()}/{state.name}")
    assert set(site.keys()) == kept


HELD_UP = ["filestorage", "mappingstorage", "sqlite-hp", "postgresql-hp", "zeo-client"]


@pytest.fixture
def line(request, settings, tier) -> Iterator[tuple[StoreSettings, Proxy]]:
    """A store that holds a blob of ``held_blob_mb``, and the line to it."""
    if tier["held_blob_mb"] <= MINISTACK_MB:
        proxy = request.getfixturevalue("proxy")
        yield dataclasses.replace(settings, endpoint_url=proxy.endpoint_url), proxy
        return
    store = ceph_store(request.getfixturevalue("ceph"), f"held-{uuid.uuid4().hex[:12]}")
    with Proxy(store.endpoint_url) as proxy:
        yield dataclasses.replace(store, endpoint_url=proxy.endpoint_url), proxy
    client = raw_client(store)
    for key in bucket_keys(store):
        client.delete_object(Bucket=store.bucket, Key=key)


@contextmanager
def held(proxy: Proxy) -> Iterator[None]:
    """Nothing moves on the line; for a minute at most, so that who waits for it fails instead of hanging."""
    mending = threading.Timer(60, proxy.up)
    proxy.black_hole()
    mending.start()
    try:
        yield
    finally:
        mending.cancel()
        proxy.up()


@pytest.mark.parametrize("kind", HELD_UP)
def test_other_writers_do_not_wait_for_an_upload(make_site, line, tier, tmp_path, kind):
    """One transaction uploads through a line on which nothing moves; others commit as if it were not there."""
    store, proxy = line
    site = make_site(kind, store=store)
    db = site.db()
    commit_blobs(db, big=b"small yet", small=b"first")
    size = tier["held_blob_mb"] * 1024 * 1024
    source = tmp_path / "source"
    with source.open("wb") as file:  # sparse: nobody looks at the disk
        file.write(b"first bytes")
        file.seek(size - 10)
        file.write(b"last bytes")
    started, finished = threading.Event(), threading.Event()

    def upload() -> None:
        with connected(db) as connection:
            connection.root()["big"].consumeFile(str(source))
            started.set()
            connection.transaction_manager.commit()
        finished.set()

    thread = threading.Thread(target=upload, daemon=True)
    with held(proxy):
        thread.start()
        started.wait()
        wait_until(lambda: list(db.storage.staging.iterdir()))
        with connected(db) as connection:
            commits = 0
            ends = time.monotonic() + 1.0
            while time.monotonic() < ends:
                commits += 1
                connection.root()[f"n{commits % 3}"] = commits
                connection.transaction_manager.commit()
        if kind in UNDOING:
            undo(db)
        assert thread.is_alive() and not finished.is_set()
    assert commits >= 10
    thread.join(300)
    # The root object was changed meanwhile, but not by the transaction that uploads.
    assert finished.is_set()
    with connected(db) as connection, connection.root()["big"].open("r") as file:
        assert file.read(11) == b"first bytes"
        assert file.seek(-10, os.SEEK_END) == size - 10
        assert file.read() == b"last bytes"


@pytest.mark.parametrize("kind", HELD_UP)
def test_an_upload_to_a_second_database_holds_up_no_writer_of_the_first(make_site, settings, proxy, kind):
    """The first vote of a thread waits for the uploads of all its transactions, before it locks any base."""
    stores = [dataclasses.replace(settings, endpoint_url=proxy.endpoint_url, prefix=prefix) for prefix in ("p1", "p2")]
    dbs = [make_site(kind, store=store).db() for store in stores]
    first, second = sorted(dbs, key=lambda db: db.storage.sortKey())  # as they are voted
    with connected(first) as connection:
        connection.root()["theirs"] = PersistentMapping()
        connection.transaction_manager.commit()
    finished = threading.Event()

    def both() -> None:
        manager = transaction.TransactionManager()
        one, two = first.open(manager), second.open(manager)
        one.root()["a"] = 1
        two.root()["blob"] = Blob(b"x" * 3_000_000)
        manager.commit()
        one.close(), two.close()
        finished.set()

    thread = threading.Thread(target=both, daemon=True)
    with held(proxy):
        thread.start()
        wait_until(lambda: list(second.storage.staging.iterdir()))
        commits = 0
        with connected(first) as connection:
            ends = time.monotonic() + 1.0
            while time.monotonic() < ends:
                commits += 1
                connection.root()["theirs"][commits] = commits
                connection.transaction_manager.commit()
        assert thread.is_alive() and not finished.is_set()
    assert commits >= 10
    thread.join(60)
    assert finished.is_set()
    with connected(first) as connection:
        assert (connection.root()["a"], len(connection.root()["theirs"])) == (1, commits)
    assert read_blob(second, "blob") == b"x" * 3_000_000
