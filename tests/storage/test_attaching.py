"""A blob whose bytes are in the bucket already becomes a revision as any other, without its bytes coming here."""

from __future__ import annotations

import dataclasses
import io
import math
import os
import secrets
import threading
from contextlib import closing

import pytest
import transaction
import ZODB
from servers.faults import answer
from sites import bucket_keys, commit_blobs, connected, read_blob
from ZODB.blob import Blob, BlobError
from ZODB.DemoStorage import DemoStorage
from ZODB.POSException import ConflictError, ReadOnlyError

from collective.s3blobstorage.errors import PreconditionFailed, Refused, StagingError
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.settings import StorageSettings
from collective.s3blobstorage.storage import open_storage
from collective.s3blobstorage.storage.attaching import attach

DATA = os.urandom(300_000)
KINDS = ["filestorage", "mappingstorage", "sqlite-hp", "sqlite-hf", "postgresql-hp", "zeo-client"]


class Put:
    """An object of the bucket as somebody else put it there."""

    def __init__(self, store, data=DATA):
        self.store = store
        self.key = f"uploads/{secrets.token_hex(16)}"
        self.etag = store.put_bytes(self.key, data).etag
        self.size = len(data)

    def copy_to(self, key, metadata):
        return self.store.copy(self.key, key, if_match=self.etag, metadata=metadata)

    def download(self, target):
        self.store.get_file(self.key, target)


@pytest.fixture
def site(make_site, settings, proxy):
    """``site(kind)``: a database in a bucket that is reached through ``proxy``, and its connection."""

    def make(kind="filestorage", **more):
        site = make_site(kind, store=dataclasses.replace(settings, endpoint_url=proxy.endpoint_url), **more)
        return site.db()

    return make


def blobs_of(settings):
    return [key for key in bucket_keys(settings) if "blobs/" in key and not key.startswith(".")]


def received(proxy):
    """Bytes that the store sent."""
    return sum(exchange.bytes_down for exchange in proxy.exchanges)


def settled(db):
    db.storage.uploads.settle()


def links(db):
    return [path for path in db.storage.staging.iterdir() if path.name.endswith(".attached")]


@pytest.mark.clear  # what is encrypted here is copied by sending it
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_committed_and_no_byte_comes_here(site, proxy, settings, kind):
    db = site(kind)
    staged = Put(db.storage.store_)
    with connected(db) as connection:
        blob = connection.root()["a"] = Blob()
        proxy.reset()
        attach(blob, connection, staged)
        connection.transaction_manager.commit()
        assert proxy.counts("/blobs/") == {"CopyObject": 1}
        assert received(proxy) < 10_000
        assert read_blob(db, "a") == DATA
        with blob.open("c") as file:
            assert file.read() == DATA
        assert blob.committed()
        blob_oid, serial = blob._p_oid, blob._p_serial
    state = db.storage.locate(blob_oid, serial)
    assert state.size == len(DATA)
    assert state.sha256 is None  # nobody here computed it
    assert links(db) == []
    # Read by a process that was not there.
    assert len(blobs_of(settings)) == 1


def test_it_can_be_read_before_the_commit_and_only_what_is_read_is_fetched(site, proxy):
    db = site(part_threshold=100_000, part_size=65_536)
    with connected(db) as connection:
        blob = connection.root()["a"] = Blob()
        attach(blob, connection, Put(db.storage.store_))
        proxy.reset()
        with blob.open() as file:
            assert file.seek(0, os.SEEK_END) == len(DATA)
            assert proxy.counts("/blobs/") == {}
            file.seek(0)
            assert file.read(1000) == DATA[:1000]
        assert proxy.counts("/blobs/") == {"GetObject": 1}
        assert received(proxy) < 150_000
        assert not blob.opened()
        with blob.open("r") as file:
            assert open(file.name, "rb").read() == DATA
        with pytest.raises(BlobError, match="Uncommitted"):
            blob.open("c")
        with pytest.raises(BlobError, match="Uncommitted"):
            blob.committed()
        reader = blob.open("r")
        with pytest.raises(BlobError, match="reading"):
            blob.open("w")
        with pytest.raises(ValueError, match="opened blobs"):
            connection.transaction_manager.commit()
        reader.close()
        connection.transaction_manager.abort()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ["before", "behind", "both", "rolled back"])
def test_savepoints(site, proxy, kind, order):
    db = site(kind)
    with connected(db) as connection:
        root = connection.root()
        root["n"] = 1
        if order in ("before", "both"):
            connection.transaction_manager.savepoint()
        blob = root["a"] = Blob()
        staged = Put(db.storage.store_)
        attach(blob, connection, staged)
        proxy.reset()
        if order != "before":
            point = connection.transaction_manager.savepoint()
            connection.transaction_manager.savepoint()
            if order == "rolled back":
                root["n"] = 2
                point.rollback()
        connection.transaction_manager.savepoint(optimistic=True)
        root["n"] = 3
        connection.transaction_manager.commit()
        assert proxy.counts("/blobs/") == {}
        assert links(db) == []
        assert read_blob(db, "a") == DATA


def test_it_is_read_behind_a_savepoint(site):
    db = site()
    with connected(db) as connection:
        blob = connection.root()["a"] = Blob()
        attach(blob, connection, Put(db.storage.store_))
        connection.transaction_manager.savepoint()
        with blob.open() as file:
            assert file.read() == DATA
        with pytest.raises(BlobError, match="Uncommitted"):
            blob.committed()
        connection.transaction_manager.commit()
        assert read_blob(db, "a") == DATA


@pytest.mark.parametrize("savepoint", [False, True])
@pytest.mark.parametrize("mode", ["w", "a", "r+", "consume"])
def test_it_can_be_written_again_before_the_commit(site, settings, tmp_path, mode, savepoint):
    db = site()
    with connected(db) as connection:
        blob = connection.root()["a"] = Blob()
        attach(blob, connection, Put(db.storage.store_))
        if savepoint:
            connection.transaction_manager.savepoint()
        if mode == "consume":
            (tmp_path / "file").write_bytes(b"new")
            blob.consumeFile(tmp_path / "file")
        else:
            with blob.open(mode) as file:
                file.write(b"new")
        expected = {"w": b"new", "consume": b"new", "a": DATA + b"new", "r+": b"new" + DATA[3:]}[mode]
        with blob.open() as file:
            assert file.read() == expected
        connection.transaction_manager.commit()
        assert read_blob(db, "a") == expected
        settled(db)
        assert len(blobs_of(settings)) == 1  # the copy is gone
        assert links(db) == []


def test_another_one_takes_its_place(site, settings):
    db = site()
    with connected(db) as connection:
        blob = connection.root()["a"] = Blob()
        attach(blob, connection, Put(db.storage.store_, b"first"))
        attach(blob, connection, Put(db.storage.store_, b"second"))
        connection.transaction_manager.commit()
        assert read_blob(db, "a") == b"second"
    settled(db)
    assert len(blobs_of(settings)) == 1
    assert links(db) == []


@pytest.mark.parametrize("kind", ["filestorage", "sqlite-hp", "zeo-client"])
@pytest.mark.parametrize("earlier", ["nothing", "an object", "an attachment"])
@pytest.mark.parametrize("joined", [False, True])
def test_a_rollback_forgets_what_was_attached_behind_its_savepoint(site, settings, kind, earlier, joined):
    """What is read then, and what is committed, is what was there before; an append goes on from there."""
    db = site(kind)
    commit_blobs(db, a=b"old")
    with connected(db) as connection:
        manager, root = connection.transaction_manager, connection.root()
        blob, before = root["a"], b"old"
        if joined or earlier != "nothing":
            root["n"] = 1
        if earlier == "an attachment":
            before = b"first"
            attach(blob, connection, Put(db.storage.store_, before))
        point = manager.savepoint()
        for _ in range(2):
            attach(blob, connection, Put(db.storage.store_))
            if earlier == "an object":
                manager.savepoint()
            point.rollback()
            with blob.open() as file:
                assert file.read() == before
        with blob.open("a") as file:
            file.write(b"+")
        manager.commit()
        with blob.open() as file:
            assert file.read() == before + b"+"
        assert open(blob.committed(), "rb").read() == before + b"+"
        settled(db)
        assert links(db) == []
        assert len(blobs_of(settings)) == 2  # both revisions, and no copy


def test_what_was_attached_at_a_savepoint_is_committed(site, settings):
    db = site()
    with connected(db) as connection:
        manager = connection.transaction_manager
        blob = connection.root()["a"] = Blob()
        attach(blob, connection, Put(db.storage.store_, b"first"))
        point = manager.savepoint()
        attach(blob, connection, Put(db.storage.store_, b"second"))
        point.rollback()
        manager.commit()
        assert read_blob(db, "a") == b"first"
        manager.begin()
        attach(connection.root()["a"], connection, Put(db.storage.store_, b"third"))
        manager.commit()
        assert read_blob(db, "a") == b"third"
    settled(db)
    assert len(blobs_of(settings)) == 2
    assert links(db) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_blob_that_there_is_gets_a_new_revision(site, settings, kind):
    db = site(kind)
    commit_blobs(db, a=b"old")
    with connected(db) as connection:
        blob = connection.root()["a"]
        old = blob._p_serial
        attach(blob, connection, Put(db.storage.store_))
        with blob.open() as file:
            assert file.read() == DATA
        connection.transaction_manager.abort()
        with blob.open() as file:
            assert file.read() == b"old"
        settled(db)
        assert len(blobs_of(settings)) == 1
        attach(blob, connection, Put(db.storage.store_))
        connection.transaction_manager.savepoint()
        connection.transaction_manager.commit()
        with blob.open() as file:
            assert file.read() == DATA
        oid = blob._p_oid
        if kind in ("filestorage", "sqlite-hp", "postgresql-hp", "zeo-client"):
            assert open(db.storage.loadBlob(oid, old), "rb").read() == b"old"
    assert links(db) == []


@pytest.mark.parametrize("savepoint", [False, True])
def test_an_abort_takes_the_copy_back(site, settings, savepoint):
    db = site()
    with connected(db) as connection:
        staged = Put(db.storage.store_)
        blob = connection.root()["a"] = Blob()
        attach(blob, connection, staged)
        assert len(blobs_of(settings)) == 1
        if savepoint:
            connection.transaction_manager.savepoint()
        connection.transaction_manager.abort()
        settled(db)
        assert blobs_of(settings) == []
        assert links(db) == []
        # What was staged is there for the next try.
        blob = connection.root()["a"] = Blob()
        attach(blob, connection, staged)
        connection.transaction_manager.commit()
        assert read_blob(db, "a") == DATA


def test_a_connection_that_is_closed_or_explicit_takes_the_copy_back(site, settings):
    db = site()
    manager = transaction.TransactionManager(explicit=True)
    manager.begin()
    connection = db.open(transaction_manager=manager)
    attach(Blob(), connection, Put(db.storage.store_))
    manager.abort()
    settled(db)
    assert blobs_of(settings) == []
    manager.begin()
    attach(Blob(), connection, Put(db.storage.store_))
    manager.abort()
    connection.close()
    settled(db)
    assert blobs_of(settings) == []
    assert links(db) == []


@pytest.mark.parametrize("kind", ["filestorage", "sqlite-hp", "zeo-client"])
def test_a_conflict_takes_the_copy_back_and_the_retry_commits(site, settings, kind):
    db = site(kind)
    with connected(db) as connection:
        connection.root()["n"] = 0
        connection.transaction_manager.commit()
        staged = Put(db.storage.store_)
        root = connection.root()
        root["a"] = blob = Blob()
        attach(blob, connection, staged)

        def other():
            with connected(db) as second:
                second.root()["n"] = 1
                second.transaction_manager.commit()

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        with pytest.raises(ConflictError):
            connection.transaction_manager.commit()
        connection.transaction_manager.abort()
        settled(db)
        assert blobs_of(settings) == []
        blob = connection.root()["a"] = Blob()
        attach(blob, connection, staged)
        connection.transaction_manager.commit()
        assert read_blob(db, "a") == DATA
        assert len(blobs_of(settings)) == 1


def test_an_object_that_is_another_one_by_now(site, settings):
    db = site()
    with connected(db) as connection:
        staged = Put(db.storage.store_)
        db.storage.store_.put_bytes(staged.key, b"swapped")
        blob = connection.root()["a"] = Blob()
        with pytest.raises(PreconditionFailed):
            attach(blob, connection, staged)
        connection.transaction_manager.abort()
        assert blobs_of(settings) == []
        assert "a" not in connection.root()


def test_a_store_that_refuses_the_copy(site, settings, proxy):
    db = site()
    with connected(db) as connection:
        staged = Put(db.storage.store_)
        blob = connection.root()["a"] = Blob()
        proxy.fail(answer(403, "AccessDenied"), target="/blobs/", times=math.inf)
        with pytest.raises(Refused):
            attach(blob, connection, staged)
        connection.transaction_manager.abort()
        assert links(db) == []
        proxy.forgive()
        blob = connection.root()["a"] = Blob()
        attach(blob, connection, staged)
        connection.transaction_manager.commit()
        assert read_blob(db, "a") == DATA


def test_a_demostorage_gets_the_bytes(site, settings):
    db = site()
    staged = Put(db.storage.store_)
    demo = ZODB.DB(DemoStorage(base=db.storage))
    try:
        with connected(demo) as connection:
            blob = connection.root()["a"] = Blob()
            attach(blob, connection, staged)
            with blob.open() as file:
                assert file.read() == DATA
            connection.transaction_manager.commit()
            assert read_blob(demo, "a") == DATA
    finally:
        demo.close()
    assert blobs_of(settings) == []


def test_a_base_that_keeps_blobs_gets_the_bytes(site, settings, make_site, tmp_path):
    base = ZODB.FileStorage.FileStorage(os.fspath(tmp_path / "kept.fs"), blob_dir=os.fspath(tmp_path / "kept"))
    db = ZODB.DB(open_storage(base, StorageSettings(store=settings, cache_dir=tmp_path / "c", keep_in_base=True)))
    try:
        with connected(db) as connection:
            blob = connection.root()["a"] = Blob()
            attach(blob, connection, Put(db.storage.store_))
            connection.transaction_manager.commit()
            connection.transaction_manager.begin()
            blob._p_activate()
            assert open(base.loadBlob(blob._p_oid, blob._p_serial), "rb").read() == DATA
    finally:
        db.close()


def test_a_storage_that_is_read_only(site, settings, make_site):
    db = site()
    commit_blobs(db, a=b"old")
    staged = Put(db.storage.store_)
    db.storage.read_only = True
    with connected(db) as connection:
        with pytest.raises(ReadOnlyError):
            attach(Blob(), connection, staged)
        connection.transaction_manager.abort()
    assert len(blobs_of(settings)) == 1


def test_what_is_staged_for_another_storage(site, settings):
    """As of a database mounted beside, whose blobs have another prefix: the record would name what is not there."""
    db = site()
    with closing(open_store(dataclasses.replace(settings, prefix="beside"))) as beside:
        with connected(db) as connection:
            blob = connection.root()["a"] = Blob()
            with pytest.raises(BlobError, match="another database"):
                attach(blob, connection, Put(beside))
            connection.transaction_manager.abort()
        settled(db)
    assert blobs_of(settings) == []


def test_it_is_exported_and_imported_as_any(site, tmp_path):
    db = site()
    with connected(db) as connection:
        blob = connection.root()["a"] = Blob()
        attach(blob, connection, Put(db.storage.store_))
        connection.transaction_manager.savepoint()
        file = io.BytesIO()
        connection.exportFile(blob._p_oid, file)
        assert DATA in file.getvalue()
        connection.transaction_manager.abort()


def test_an_oid_that_is_given_again_has_its_own_bytes(site):
    """FileStorage gives oids that were not committed once more, after it was opened anew: what was read of the first
    must not be read of the second."""
    db = site()
    storage = db.storage
    with connected(db) as connection:
        blob = Blob()
        attach(blob, connection, Put(storage.store_, b"a" * 1000))
        oid = blob._p_oid
        with blob.open() as file:
            assert file.read() == b"a" * 1000
        connection.transaction_manager.abort()
        again = Blob()
        connection.add(again)
        connection.transaction_manager.abort()
        again = Blob()
        connection._add(again, oid)
        attach(again, connection, Put(storage.store_, b"b" * 1000))
        with again.open() as file:
            assert file.read() == b"b" * 1000
        connection.root()["a"] = again
        connection.transaction_manager.commit()
        assert read_blob(db, "a") == b"b" * 1000


def test_all_that_was_attached_waits_for_nothing_at_the_commit(site, proxy):
    """The copy is made before any lock: the commit itself makes no request, so that no writer waits for it."""
    db = site()
    with connected(db) as connection:
        blob = connection.root()["a"] = Blob()
        attach(blob, connection, Put(db.storage.store_))
        proxy.reset()
        connection.transaction_manager.commit()
        assert proxy.counts("/blobs/") == {}


def test_a_disk_that_takes_no_link(site, settings):
    db = site()
    with connected(db) as connection:
        staged = Put(db.storage.store_)
        staging = db.storage.staging
        staging.chmod(0o500)
        try:
            with pytest.raises(StagingError, match="staging-dir"):
                attach(Blob(), connection, staged)
        finally:
            staging.chmod(0o700)
        connection.transaction_manager.abort()
    assert blobs_of(settings) == []
