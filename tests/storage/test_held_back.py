"""What a connection's storage holds back until vote is right all the same: current reads, deletions, many records."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import threading
import time
import tracemalloc

import pytest
from persistent.mapping import PersistentMapping
from sites import PERSISTENT, commit_blobs, connected, read_blob
from ZODB.blob import Blob
from ZODB.Connection import TransactionMetaData
from ZODB.interfaces import IExternalGC
from ZODB.POSException import POSKeyError, ReadConflictError

from collective.s3blobstorage.objectstore import signed
from collective.s3blobstorage.storage import instance, upload

MB = 1024 * 1024


def beside(work) -> None:
    """Another thread does it, and need not wait for this one."""
    failures = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive(), "it waits for the transaction that is held back"
    assert failures == []


@pytest.mark.parametrize("changed", [True, False])
@pytest.mark.parametrize("kind", [*PERSISTENT, "mappingstorage"])
def test_what_a_transaction_read_must_be_current_when_its_upload_has_ended(make_site, settings, proxy, kind, changed):
    site = make_site(kind, store=dataclasses.replace(settings, endpoint_url=proxy.endpoint_url))
    db = site.db()
    with connected(db) as connection:
        for name in ("read", "written", "other"):
            connection.root()[name] = PersistentMapping()
        connection.transaction_manager.commit()
    outcome: list[BaseException | None] = []
    with connected(db) as mine:
        mine.root()["read"]._p_activate()
        mine.readCurrent(mine.root()["read"])
        mine.root()["written"]["blob"] = Blob(b"bytes")

        def commit() -> None:
            try:
                mine.transaction_manager.commit()
                outcome.append(None)
            except BaseException as error:
                outcome.append(error)

        def change() -> None:
            with connected(db) as theirs:
                theirs.root()["read" if changed else "other"]["changed"] = True
                theirs.transaction_manager.commit()

        proxy.black_hole()
        thread = threading.Thread(target=commit, daemon=True)
        thread.start()
        beside(change)
        assert outcome == []
        proxy.up()
        thread.join(60)
        if changed:
            assert isinstance(outcome[0], ReadConflictError)
        else:
            assert outcome == [None]
        mine.transaction_manager.abort()
    db.storage.uploads.settle()
    assert len(site.keys()) == (0 if changed else 1)


# The connections of other bases are ZODB's adapter's, which offers no deletion: there it goes through the root.
@pytest.mark.parametrize("kind", ["sqlite-hp", "sqlite-hf", "postgresql-hp", "postgresql-hf"])
def test_a_deletion_reaches_the_base_at_vote(make_site, kind):
    site = make_site(kind)
    db = site.db()
    tid = commit_blobs(db, a=b"bytes", other=b"other")
    with connected(db) as connection:
        oid = connection.root()["a"]._p_oid
        del connection.root()["a"]
        connection.transaction_manager.commit()
    for ending in ("tpc_abort", "tpc_finish"):
        instance = db.storage.new_instance()
        assert IExternalGC.providedBy(instance)
        instance.poll_invalidations()
        metadata = TransactionMetaData()
        instance.tpc_begin(metadata)
        instance.deleteObject(oid, tid, metadata)
        beside(lambda: commit_blobs(db, other=b"meanwhile"))
        instance.tpc_vote(metadata)
        getattr(instance, ending)(metadata)
        instance.release()
        reading = db.storage.new_instance()
        reading.poll_invalidations()
        if ending == "tpc_abort":
            assert reading.load(oid)[1] == tid
        else:
            with pytest.raises(POSKeyError):
                reading.load(oid)
        reading.release()
    assert read_blob(db, "other") == b"meanwhile"
    assert len(site.keys()) == 4  # the objects stay: a revision that the base keeps may need them


@pytest.mark.parametrize("kind", ["filestorage", "mappingstorage", "zeo-client"])
def test_a_base_whose_connections_cannot_delete_says_so_at_once(make_site, kind):
    instance = make_site(kind).open().new_instance()
    assert not IExternalGC.providedBy(instance)
    metadata = TransactionMetaData()
    instance.tpc_begin(metadata)
    with pytest.raises(AttributeError):
        instance.deleteObject(b"\0" * 8, b"\0" * 8, metadata)
    instance.tpc_abort(metadata)
    instance.release()


@pytest.mark.parametrize("kind", [*PERSISTENT, "mappingstorage"])
def test_records_beyond_memory_wait_on_the_disk_until_vote(make_site, tier, kind):
    """What the base keeps in memory from then on is its own affair."""
    db = make_site(kind).db()
    instance = db.storage.new_instance()
    instance.poll_invalidations()
    metadata = TransactionMetaData()
    instance.tpc_begin(metadata)
    written = {}
    tracemalloc.start()
    try:
        for _ in range(tier["large_transaction_mb"]):
            oid, record = instance.new_oid(), os.urandom(MB)
            written[oid] = hashlib.sha256(record).digest()
            instance.store(oid, b"\0" * 8, record, "", metadata)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 24 * MB  # what a queue keeps in memory is a third of that
    instance.tpc_vote(metadata)
    instance.tpc_finish(metadata)
    instance.poll_invalidations()
    assert {oid: hashlib.sha256(instance.load(oid)[0]).digest() for oid in written} == written
    instance.release()
    assert list(db.storage.staging.iterdir()) == []


@pytest.mark.parametrize("fill, there", [("off", False), ("small", False), ("on", True)])
def test_a_file_that_no_cache_takes_is_gone_before_the_base_writes(make_site, monkeypatch, fill, there):
    """Else its pages may have to reach the disk first: on ext4 an fsync of the base then waits for them."""
    site = make_site("filestorage", cache_fill_on_commit=fill, part_threshold=100_000)
    db = site.db()
    root = db.storage
    finish, seen = root._base.tpc_finish, []

    def finish_when_gone(*arguments):
        # The file goes in another thread, which need not be faster than this one.
        for _ in range(500 if not there else 1):
            seen[:] = list(root.staging.iterdir())
            if not seen:
                break
            time.sleep(0.01)
        return finish(*arguments)

    monkeypatch.setattr(root._base, "tpc_finish", finish_when_gone)
    commit_blobs(db, a=bytes(200_000))
    assert bool(seen) is there
    assert read_blob(db, "a") == bytes(200_000)
    assert list(root.staging.iterdir()) == []


def test_the_first_uploads_leave_while_the_other_blobs_are_staged(make_site, settings, proxy, monkeypatch):
    """The thread that commits lets go of the interpreter for the threads that send."""
    site = make_site("filestorage", store=dataclasses.replace(settings, endpoint_url=proxy.endpoint_url))
    db = site.db()
    proxy.round_trip(1000)  # none has ended before all are staged
    monkeypatch.setattr(upload, "_PAUSE", 0.2)  # on any machine a request gets ready in it
    events = []
    stage, exchange = upload.stage, signed.exchange

    def noting_stage(*arguments, **more):
        events.append("staged")
        return stage(*arguments, **more)

    def noting_exchange(pool, method, target, *arguments, **more):
        if "/blobs/" in target:
            events.append(method)
        return exchange(pool, method, target, *arguments, **more)

    monkeypatch.setattr(instance, "stage", noting_stage)
    monkeypatch.setattr(signed, "exchange", noting_exchange)
    contents = {f"b{number}": os.urandom(1000) for number in range(12)}
    commit_blobs(db, **contents)
    assert events[:8] == ["staged", "PUT"] * 4
    assert events.count("PUT") == len(contents), "one request for each"
    assert all(read_blob(db, name) == data for name, data in contents.items())
    db.close()
