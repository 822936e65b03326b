"""Blobs that lie in their records (``inline-size``)."""

from __future__ import annotations

import dataclasses
import io
import os
import pickle
import shutil
import zipfile

import pytest
import transaction
import ZODB
from sites import commit_blobs, connected, read_blob
from ZODB.blob import Blob, BlobStorage
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.utils import p64

from collective.s3blobstorage.errors import Corrupt
from collective.s3blobstorage.storage.record import BlobState, read_state, with_state

LIMIT = 4096
SMALL, LARGE = os.urandom(LIMIT), os.urandom(LIMIT + 1)
KINDS = ["filestorage", "mappingstorage", "sqlite-hp", "sqlite-hf", "postgresql-hp", "zeo-client"]


@pytest.fixture
def counted(make_site, settings, proxy):
    def make(kind="filestorage", **more):
        store = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url, prefix=more.pop("prefix", ""))
        return make_site(kind, store=store, inline_size=LIMIT, **more)

    return make


def state_of(db: ZODB.DB, name: str):
    with connected(db) as connection:
        blob = connection.root()[name]
        blob._p_activate()
        return read_state(db.storage.read_record(blob._p_oid, blob._p_serial))


def cached(db: ZODB.DB) -> list[str]:
    layout = db.storage.cache._layout
    return sorted(path.name for path in layout.blobs.rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", KINDS)
def test_no_object_no_request_no_file(counted, proxy, kind):
    site = counted(kind)
    db = site.db()
    proxy.reset()
    commit_blobs(db, small=SMALL, empty=b"")
    assert proxy.counts("/blobs/") == {} and cached(db) == [] and site.keys() == []
    if kind != "mappingstorage":
        db.close()
        site.cold()
        db = site.db()
        proxy.reset()
    with connected(db) as connection:
        root = connection.root()
        for mode in ("r", "c"):
            with root["small"].open(mode) as file:
                assert file.seek(0, os.SEEK_END) == LIMIT
                file.seek(-10, os.SEEK_CUR)
                assert file.read() == SMALL[-10:]
            assert root["empty"].open(mode).read() == b""
        assert proxy.counts("/blobs/") == {} and cached(db) == []
        assert state_of(db, "small").inline == SMALL


@pytest.mark.parametrize("kind", ["filestorage", "sqlite-hp"])
def test_a_byte_more_goes_to_the_bucket(counted, proxy, kind):
    site = counted(kind)
    db = site.db()
    proxy.reset()
    commit_blobs(db, large=LARGE, small=SMALL)
    assert proxy.counts("/blobs/") == {"PutObject": 1} and len(site.keys()) == 1
    assert state_of(db, "large").inline is None
    assert read_blob(db, "large") == LARGE and read_blob(db, "small") == SMALL


@pytest.mark.parametrize("kind", ["filestorage", "sqlite-hp", "zeo-client"])
def test_changing_the_setting_changes_nothing_that_is_stored(counted, kind):
    site = counted(kind)
    db = site.db()
    commit_blobs(db, a=SMALL)
    db.close()
    db = site.db(inline_size=0)
    assert read_blob(db, "a") == SMALL
    commit_blobs(db, b=SMALL)
    assert len(site.keys()) == 1
    db.close()
    db = site.db(inline_size=LIMIT)
    assert read_blob(db, "a") == read_blob(db, "b") == SMALL
    assert state_of(db, "a").inline == SMALL and state_of(db, "b").inline is None


def test_a_path_is_given_where_one_is_asked_for(counted, proxy):
    db = counted().db()
    commit_blobs(db, a=SMALL)
    proxy.reset()
    with connected(db) as connection:
        blob = connection.root()["a"]
        with open(blob.committed(), "rb") as file:
            assert file.read() == SMALL
        assert len(cached(db)) == 1 and proxy.counts("/blobs/") == {}


def test_its_file_is_a_file_as_any_other(counted):
    db = counted().db()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as written:
        written.writestr("a.txt", "one\ntwo\n")
    commit_blobs(db, zip=archive.getvalue(), text=b"one\ntwo\n")
    with connected(db) as connection:
        root = connection.root()
        assert zipfile.ZipFile(root["zip"].open("r")).read("a.txt") == b"one\ntwo\n"
        with root["text"].open("r") as file:
            assert list(file) == [b"one\n", b"two\n"] and file.readable() and not file.writable()
            for refused in (lambda: file.write(b"x"), lambda: file.writelines([b"x"]), lambda: file.truncate(0)):
                with pytest.raises(io.UnsupportedOperation):
                    refused()
            assert os.fstat(file.fileno()).st_size == 8
            with open(file.name, "rb") as real:
                assert real.read() == b"one\ntwo\n"
            copied = io.BytesIO()
            file.seek(0)
            shutil.copyfileobj(file, copied)
            assert copied.getvalue() == b"one\ntwo\n"
            with pytest.raises(TypeError):
                pickle.dumps(file)
        assert not root["text"].opened()
        reader = root["text"].open("r")
        with pytest.raises(ZODB.interfaces.BlobError):
            root["text"].open("w")
        reader.close()
        with pytest.raises(ValueError):
            reader.fileno()


def test_changing_growing_and_shrinking(counted):
    site = counted()
    db = site.db()
    commit_blobs(db, a=SMALL)
    with connected(db) as connection:
        with connection.root()["a"].open("a") as file:
            file.write(b"grown")
        connection.transaction_manager.commit()
    assert read_blob(db, "a") == SMALL + b"grown" and len(site.keys()) == 1
    with connected(db) as connection:
        with connection.root()["a"].open("w") as file:
            file.write(b"shrunk")
        connection.transaction_manager.commit()
    assert read_blob(db, "a") == b"shrunk" and len(site.keys()) == 1


@pytest.mark.parametrize("kind", ["filestorage", "sqlite-hp", "postgresql-hp", "zeo-client"])
def test_undo_and_redo(counted, kind):
    db = counted(kind).db()
    commit_blobs(db, a=b"first")
    commit_blobs(db, a=LARGE)
    for expected in (b"first", LARGE):
        manager = transaction.TransactionManager()
        db.undo(db.undoInfo()[0]["id"], manager.begin())
        manager.commit()
        assert read_blob(db, "a") == expected


def test_abort_and_conflict_leave_nothing(counted, proxy):
    site = counted()
    db = site.db()
    commit_blobs(db, a=b"first")
    with connected(db) as one, connected(db) as other:
        for connection, data in ((one, b"one"), (other, b"other")):
            with connection.root()["a"].open("w") as file:
                file.write(data)
        one.transaction_manager.commit()
        with pytest.raises(ZODB.POSException.ConflictError):
            other.transaction_manager.commit()
        other.transaction_manager.abort()
    assert read_blob(db, "a") == b"one" and site.keys() == []
    assert not any(path.is_file() for path in db.storage.staging.rglob("*"))


def test_copies_in_and_out(counted, tmp_path):
    db = counted().db()
    commit_blobs(db, a=SMALL, b=LARGE)
    directory = BlobStorage(str(tmp_path / "blobs"), FileStorage(str(tmp_path / "Out.fs")))
    directory.copyTransactionsFrom(db.storage)
    with connected(ZODB.DB(directory)) as connection:
        assert connection.root()["a"].open("r").read() == SMALL and connection.root()["b"].open("r").read() == LARGE
    other = counted(prefix="other")
    copied = other.open()
    copied.copyTransactionsFrom(directory)
    copied.close()
    copy = other.db()
    assert read_blob(copy, "a") == SMALL and read_blob(copy, "b") == LARGE
    # The records came from outside, out of the source's: inline stays inline, also where the target would not.
    assert state_of(copy, "a").inline == SMALL and len(other.keys()) == 1


def test_a_file_that_is_not_the_records_is_refused(counted, tmp_path):
    storage = counted().open()
    record = with_state(pickle.dumps(Blob, 3) + pickle.dumps(None, 3), BlobState(size=3, inline=b"abc"))
    oid, tid = p64(7), p64(1)
    for data, refused in ((b"abd", True), (b"abcd", True), (b"abc", False)):
        file = tmp_path / "file"
        file.write_bytes(data)
        meta = TransactionMetaData()
        storage.tpc_begin(meta, tid)
        if refused:
            with pytest.raises(Corrupt):
                storage.restoreBlob(oid, tid, record, str(file), None, meta)
            storage.tpc_abort(meta)
        else:
            storage.restoreBlob(oid, tid, record, str(file), None, meta)
            storage.tpc_vote(meta)
            storage.tpc_finish(meta)
        assert not file.exists()
    with open(storage.loadBlob(oid, tid), "rb") as restored:
        assert restored.read() == b"abc"


def test_thousands_in_one_transaction_stay_on_disk_until_the_vote(counted):
    """Their bytes are read when the record is written, one by one."""
    db = counted().db()
    blobs = {f"n{number}": os.urandom(64) for number in range(2000)}
    commit_blobs(db, **blobs)
    for name in ("n0", "n999", "n1999"):
        assert read_blob(db, name) == blobs[name]
