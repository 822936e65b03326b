"""What a blob goes through on every base storage."""

from __future__ import annotations

import gc
import os
import threading

import pytest
import transaction
import ZODB
from sites import (
    ALL,
    PERSISTENT,
    UNDOING,
    as_ours,
    bucket_keys,
    commit_blobs,
    connected,
    raw_client,
    read_blob,
    unfinished_uploads,
    wait_until,
)
from ZODB.blob import Blob
from ZODB.interfaces import IBlobStorage, IBlobStorageRestoreable, IMVCCStorage, IStorageUndoable
from ZODB.POSException import ConflictError, POSKeyError, ReadOnlyError, StorageTransactionError
from ZODB.utils import p64, u64
from zope.interface.verify import verifyObject

from collective.s3blobstorage.storage.record import read_state

MB = 1024 * 1024


@pytest.mark.parametrize("kind", ALL)
def test_a_blob_is_committed_read_changed_and_deleted(make_site, kind):
    site = make_site(kind)
    db = site.db()
    data = os.urandom(100_000)
    first = commit_blobs(db, a=data, empty=b"")
    assert read_blob(db, "a") == data
    assert read_blob(db, "empty") == b""
    assert len(site.keys()) == 2
    changed = os.urandom(3 * MB)
    second = commit_blobs(db, a=changed)
    assert second > first
    assert read_blob(db, "a") == changed
    with connected(db) as connection:
        oid = connection.root()["a"]._p_oid
        state = read_state(db.storage.read_record(oid, second))
        assert state.size == len(changed)
        store, key = site.settings.store, f"blobs/{oid.hex()}/{state.name}"
        with as_ours(store) as ours:
            assert ours.get_bytes(key, limit=4 * MB) == changed
        sent = dict(ours.connection.encryption.read_parameters())
        stored = raw_client(store).head_object(Bucket=store.bucket, Key=key, **sent)
        assert stored["ContentType"] == "application/octet-stream"
        assert stored["ContentDisposition"] == "attachment"
        del connection.root()["a"]
        connection.transaction_manager.commit()
        assert "a" not in connection.root()
    assert len(site.keys()) == 3  # deletes no object: another revision may still need it


@pytest.mark.parametrize("kind", PERSISTENT)
def test_blobs_are_there_after_a_restart_with_an_empty_cache(make_site, kind):
    site = make_site(kind)
    blobs = {f"blob{i}": os.urandom(size) for i, size in enumerate((0, 1, 65_536, 9 * MB))}
    db = site.db()
    commit_blobs(db, **blobs)
    db.close()
    site.cold()
    db = site.db()
    assert {name: read_blob(db, name) for name in blobs} == blobs


@pytest.mark.parametrize("kind", ALL)
def test_the_storage_declares_what_it_can_do(make_site, kind):
    storage = make_site(kind).open()
    verifyObject(IMVCCStorage, storage)
    verifyObject(IBlobStorage, storage)
    assert IStorageUndoable.providedBy(storage) == (kind in UNDOING)
    # A ZEO server tells its client what it can do; the others are known.
    if kind != "zeo-client":
        assert IBlobStorageRestoreable.providedBy(storage) == (kind in PERSISTENT)
    if IBlobStorageRestoreable.providedBy(storage):
        verifyObject(IBlobStorageRestoreable, storage)
    instance = storage.new_instance()
    verifyObject(IBlobStorage, instance)
    assert IMVCCStorage.providedBy(instance)
    instance.release()
    instance.release()


@pytest.mark.parametrize("kind", PERSISTENT)
def test_an_aborted_transaction_leaves_nothing(make_site, kind):
    site = make_site(kind)
    db = site.db()
    commit_blobs(db, kept=b"kept")
    kept = site.keys()
    with connected(db) as connection:
        connection.root()["lost"] = Blob(os.urandom(2 * MB))
        connection.transaction_manager.savepoint()
        connection.root()["lost2"] = Blob(os.urandom(20 * MB))

        class Refusing:
            def sortKey(self):
                return "~~~"  # voted last

            def tpc_begin(self, t):
                pass

            commit = tpc_finish = tpc_abort = abort = tpc_begin

            def tpc_vote(self, t):
                raise ValueError("no")

        connection.transaction_manager.get().join(Refusing())
        with pytest.raises(ValueError, match="no"):
            connection.transaction_manager.commit()
    db.storage.uploads.settle()
    assert site.keys() == kept
    assert unfinished_uploads(site.settings.store) == []
    assert list(db.storage.staging.iterdir()) == []
    assert read_blob(db, "kept") == b"kept"
    commit_blobs(db, next=b"next")
    assert read_blob(db, "next") == b"next"


@pytest.mark.parametrize("kind", PERSISTENT)
def test_a_conflict_aborts_and_takes_its_object_back(make_site, kind):
    site = make_site(kind)
    db = site.db()
    commit_blobs(db, a=b"first")
    with connected(db) as mine, connected(db) as theirs:
        for connection, data in ((mine, b"mine"), (theirs, b"theirs")):
            with connection.root()["a"].open("w") as file:
                file.write(data)
        theirs.transaction_manager.commit()
        with pytest.raises(ConflictError):
            mine.transaction_manager.commit()
        mine.transaction_manager.abort()
        assert mine.root()["a"].open("r").read() == b"theirs"
    db.storage.uploads.settle()
    assert len(site.keys()) == 2


@pytest.mark.parametrize("kind", PERSISTENT)
def test_abort_of_a_foreign_transaction_is_ignored(make_site, kind):
    site = make_site(kind)
    db = site.db()
    storage = db.storage
    foreign = ZODB.Connection.TransactionMetaData()
    for held in (storage.new_instance(), storage):
        own = ZODB.Connection.TransactionMetaData()
        held.tpc_begin(own)
        oid = held.new_oid()
        path = storage.staging / "given"
        path.write_bytes(b"mine")
        held.storeBlob(oid, b"\0" * 8, blob_record(), str(path), "", own)
        held.tpc_abort(foreign)
        held.tpc_vote(own)
        held.tpc_abort(foreign)
        tid = held.tpc_finish(own)
        with open(storage.loadBlob(oid, tid), "rb") as file:
            assert file.read() == b"mine"
        if held is not storage:
            held.release()
    assert len(site.keys()) == 2


def blob_record() -> bytes:
    from ZODB.serialize import ObjectWriter

    return ObjectWriter().serialize(Blob())


@pytest.mark.parametrize("kind", ALL)
def test_wrong_calls_raise_at_once(make_site, kind):
    storage = make_site(kind).open()
    instance = storage.new_instance()
    begun, other = ZODB.Connection.TransactionMetaData(), ZODB.Connection.TransactionMetaData()
    with pytest.raises(StorageTransactionError):
        instance.store(p64(1), p64(0), b"data", "", begun)
    instance.tpc_begin(begun)
    with pytest.raises(StorageTransactionError):
        instance.tpc_begin(begun)
    with pytest.raises(StorageTransactionError):
        instance.store(p64(1), p64(0), b"data", "", other)
    with pytest.raises(StorageTransactionError):
        instance.tpc_vote(other)
    with pytest.raises(StorageTransactionError):
        instance.tpc_finish(other)
    instance.tpc_abort(begun)
    instance.release()


@pytest.mark.parametrize("kind", PERSISTENT)
def test_read_only_raises_at_the_first_write(make_site, kind):
    site = make_site(kind)
    db = site.db()
    tid = commit_blobs(db, a=b"bytes")
    with connected(db) as connection:
        oid = connection.root()["a"]._p_oid
    db.close()
    storage = site.open(read_only=True)
    assert storage.isReadOnly()
    metadata = ZODB.Connection.TransactionMetaData()
    instance = storage.new_instance()
    for held in (storage, instance):
        assert held.isReadOnly()
        for call in (
            held.new_oid,
            lambda held=held: held.tpc_begin(metadata),
            lambda held=held: held.store(oid, tid, b"x", "", metadata),
            lambda held=held: held.storeBlob(oid, tid, b"x", "nowhere", "", metadata),
        ):
            with pytest.raises(ReadOnlyError):
                call()
    with pytest.raises(ReadOnlyError):
        storage.pack(0, None)
    with open(storage.loadBlob(oid, tid), "rb") as file:
        assert file.read() == b"bytes"
    instance.release()


class CommitsAndRaises(ZODB.FileStorage.FileStorage):
    """A base that commits and then says that it did not, as a lost connection to a database does."""

    failing = False

    def tpc_finish(self, transaction, f=None):
        tid = super().tpc_finish(transaction, f)
        if self.failing:
            raise OSError("the answer was lost")
        return tid


def test_a_base_that_commits_and_then_raises_loses_nothing(make_site, monkeypatch):
    site = make_site("filestorage")
    site.base = lambda: CommitsAndRaises(str(site.folder / "Data.fs"))
    db = site.db()
    commit_blobs(db, before=b"before")
    db.storage._base.failing = True
    with connected(db) as connection:
        connection.root()["a"] = Blob(b"committed after all")
        with pytest.raises(OSError, match="the answer was lost"):
            connection.transaction_manager.commit()
    db.storage._base.failing = False
    db.storage.uploads.settle()
    assert list(db.storage.staging.iterdir()) == []
    db.close()
    site.cold()
    db = site.db()
    assert read_blob(db, "a") == b"committed after all"
    assert read_blob(db, "before") == b"before"


@pytest.mark.parametrize("kind", ALL)
def test_staged_data_is_seen_by_nobody(make_site, kind):
    site = make_site(kind)
    db = site.db()
    commit_blobs(db, a=b"old")
    storage = db.storage
    with connected(db) as connection:
        blob = connection.root()["a"]
        blob._p_activate()
        oid, serial = blob._p_oid, blob._p_serial
        instance = storage.new_instance()
        instance.poll_invalidations()
        metadata = ZODB.Connection.TransactionMetaData()
        instance.tpc_begin(metadata)
        path = storage.staging / "given"
        path.write_bytes(b"new")
        instance.storeBlob(oid, serial, instance.load(oid)[0], str(path), "", metadata)
        instance.tpc_vote(metadata)
        assert connection.root()["a"].open("r").read() == b"old"
        assert instance.openCommittedBlobFile(oid, serial).read() == b"old"
        with connected(db) if kind.endswith(("hp", "hf")) else connected(db) as another:
            assert another.root()["a"].open("r").read() == b"old"
        tid = instance.tpc_finish(metadata)
        instance.release()
        connection.transaction_manager.begin()
        assert connection.root()["a"].open("r").read() == b"new"
        assert connection.root()["a"]._p_serial == tid


def test_a_second_blob_of_one_oid_replaces_the_first(make_site):
    site = make_site("filestorage")
    storage = site.open()
    for held in (storage.new_instance(), storage):
        before = len(site.keys())
        metadata = ZODB.Connection.TransactionMetaData()
        held.tpc_begin(metadata)
        oid = held.new_oid()
        for data in (b"first", b"second"):
            path = storage.staging / "given"
            path.write_bytes(data)
            held.storeBlob(oid, b"\0" * 8, blob_record(), str(path), "", metadata)
        held.tpc_vote(metadata)
        tid = held.tpc_finish(metadata)
        storage.uploads.settle()
        with open(storage.loadBlob(oid, tid), "rb") as file:
            assert file.read() == b"second"
        assert len(site.keys()) == before + 1
        assert list(storage.staging.iterdir()) == []


def test_a_record_that_is_no_blobs_raises_before_a_byte_is_sent(make_site):
    site = make_site("filestorage")
    storage = site.open()
    for held in (storage.new_instance(), storage):
        metadata = ZODB.Connection.TransactionMetaData()
        held.tpc_begin(metadata)
        path = site.folder / "given"
        path.write_bytes(b"data")
        with pytest.raises(Exception, match="not a ZODB.blob.Blob"):
            held.storeBlob(held.new_oid(), b"\0" * 8, b"no pickle", str(path), "", metadata)
        held.tpc_abort(metadata)
    storage.uploads.settle()
    assert site.keys() == []
    assert list(storage.staging.iterdir()) == []


@pytest.mark.parametrize("kind", ALL)
def test_what_does_not_exist_is_a_poskeyerror(make_site, kind):
    site = make_site(kind)
    db = site.db()
    tid = commit_blobs(db, a=b"bytes")
    with connected(db) as connection:
        oid = connection.root()["a"]._p_oid
        for wrong in ((oid, p64(u64(tid) + 1)), (oid, p64(u64(tid) - 1)), (p64(2**40), tid), (p64(0), tid)):
            for held in (db.storage, connection._storage):
                with pytest.raises(POSKeyError):
                    held.loadBlob(*wrong)
                with pytest.raises(POSKeyError):
                    held.openCommittedBlobFile(*wrong)


@pytest.mark.parametrize("kind", ["filestorage", "sqlite-hp", "postgresql-hp", "zeo-client"])
def test_a_historical_connection_reads_the_old_bytes(make_site, kind):
    site = make_site(kind)
    db = site.db()
    first = commit_blobs(db, a=b"first")
    commit_blobs(db, a=b"second")
    db.close()
    site.cold()
    db = site.db()
    manager = transaction.TransactionManager()
    connection = db.open(manager, at=first)
    assert connection.root()["a"].open("r").read() == b"first"
    connection.close()
    assert read_blob(db, "a") == b"second"


@pytest.mark.parametrize("kind", PERSISTENT)
def test_close_leaves_nothing_behind(make_site, kind):
    gc.collect()
    threads = set(threading.enumerate())
    descriptors = open_files()
    site = make_site(kind)
    db = site.db()
    commit_blobs(db, **{f"b{i}": os.urandom(1000) for i in range(20)})
    with connected(db) as connection:
        connection.root()["never committed"] = Blob(b"uncommitted")
    staging = db.storage.staging
    db.close()
    site.close()
    gc.collect()
    wait_until(lambda: not [t for t in set(threading.enumerate()) - threads if t.name.startswith("s3blobs")])
    assert not [path for path in open_files() - descriptors if str(site.settings.cache_dir) in path]
    assert not staging.exists() or list(staging.iterdir()) == []
    assert unfinished_uploads(site.settings.store) == []


def open_files() -> set[str]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            pass
    return found


@pytest.mark.clear
def test_the_marker_is_written_by_the_first_writable_open(make_site):
    site = make_site("filestorage", owner="production")
    site.open(read_only=True)
    site.close()
    assert bucket_keys(site.settings.store) == []
    site.open()
    assert bucket_keys(site.settings.store) == [".s3blobs.json"]
