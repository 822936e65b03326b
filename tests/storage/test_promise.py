"""Un-ghosting a blob asks for nothing; using its path, in any way that ZODB knows, gives the bytes."""

from __future__ import annotations

import dataclasses
import os
import threading
from io import BytesIO

import pytest
import transaction
import ZODB
from sites import commit_blobs, connected
from ZODB.blob import Blob
from ZODB.DemoStorage import DemoStorage
from ZODB.FileStorage import FileStorage
from ZODB.POSException import POSKeyError
from ZODB.utils import oid_repr, tid_repr
from ZPublisher.Iterators import filestream_iterator

from collective.s3blobstorage.storage.promise import BlobPath

DATA = os.urandom(70_000)
KINDS = ["filestorage", "sqlite-hp", "sqlite-hf", "postgresql-hp", "zeo-client"]


@pytest.fixture
def cold(make_site, settings, proxy):
    """``cold(kind)``: a database whose blob ``a`` is committed and in no cache, with the requests counted from zero."""

    def make(kind="filestorage", **more):
        site = make_site(kind, store=dataclasses.replace(settings, endpoint_url=proxy.endpoint_url), **more)
        db = site.db()
        commit_blobs(db, a=DATA)
        db.close()
        site.cold()
        db = site.db()
        proxy.reset()
        return db

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_a_blob_costs_nothing_until_a_byte_is_used(cold, proxy, kind):
    db = cold(kind)
    with connected(db) as connection:
        blob = connection.root()["a"]
        blob._p_activate()
        path = blob._p_blob_committed
        assert isinstance(path, BlobPath)
        assert path and path == path and path != "" and not path.endswith(".spb")  # noqa: PLR0124
        assert repr(path) == f"<BlobPath {oid_repr(blob._p_oid)} {tid_repr(blob._p_serial)}>"
        assert hash(path) == hash(db.storage.cache.expected(blob._p_oid, blob._p_serial))
        with blob.open("r") as file:
            assert file.seek(0, os.SEEK_END) == len(DATA)
        with blob.open("c") as file:
            assert file.seek(0, os.SEEK_END) == len(DATA)
        assert proxy.counts("/blobs/") == {}
        with blob.open("r") as file:
            assert file.read(1) == DATA[:1]
        assert proxy.counts("/blobs/") == {"GetObject": 1}


USES = {
    "open": lambda path: open(path, "rb").read(),
    "fspath": lambda path: open(os.fspath(path), "rb").read(),
    "str": lambda path: open(str(path), "rb").read(),
    "format": lambda path: open(f"{path}", "rb").read(),
    "percent": lambda path: open("%s" % path, "rb").read(),  # noqa: UP031
    "add": lambda path: open((path + "x")[:-1], "rb").read(),
    "add behind": lambda path: open(("x" + path)[1:], "rb").read(),
    "slice": lambda path: open(path[:], "rb").read(),
    "method": lambda path: open(path.replace("", ""), "rb").read(),
    "iterate": lambda path: open("".join(path), "rb").read(),
    "length": lambda path: len(path) and ".blob" in path and open(path, "rb").read(),
    "stat": lambda path: os.stat(path).st_size == len(DATA) and open(path, "rb").read(),
    "suffix": lambda path: path.endswith((".spb", ".blob")) and open(path, "rb").read(),
    "another thread": lambda path: in_thread(lambda: open(path, "rb").read()),
    "iterator of ZPublisher": lambda path: b"".join(filestream_iterator(path, "rb")),
    "range iterator": lambda path: plone_ranges(path, 0, 1000) + plone_ranges(path, 1000, len(DATA)),
}


def in_thread(work):
    results = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results[0]


def plone_ranges(path, start, end):
    from plone.namedfile.utils import filestream_range_iterator

    return b"".join(filestream_range_iterator(path, "rb", start=start, end=end))


@pytest.mark.parametrize("use", USES)
def test_each_use_of_the_path_fetches_once(cold, proxy, use):
    db = cold()
    with connected(db) as connection:
        blob = connection.root()["a"]
        blob._p_activate()
        path = blob._p_blob_committed
        assert USES[use](path) == DATA
        assert USES[use](path) == DATA
        assert path == str(path) and str(path) == path
        assert proxy.counts("/blobs/") == {"GetObject": 1}


@pytest.mark.parametrize("kind", KINDS)
def test_a_promise_outlives_its_transaction_its_connection_and_its_record(cold, kind):
    db = cold(kind)
    with connected(db) as connection:
        blob = connection.root()["a"]
        blob._p_activate()
        path = blob._p_blob_committed
    commit_blobs(db, a=b"another revision")
    db.pack()  # a history-free or packed base has no record of the first revision any more
    assert in_thread(lambda: open(path, "rb").read()) == DATA


def test_an_evicted_file_is_fetched_again_at_the_next_use(cold, proxy):
    db = cold()
    with connected(db) as connection:
        blob = connection.root()["a"]
        path = blob.committed()
        assert proxy.counts("/blobs/") == {"GetObject": 1}
        os.unlink(path)
        assert open(path, "rb").read() == DATA
        assert proxy.counts("/blobs/") == {"GetObject": 2}


def test_committed_fetches(cold, proxy):
    """Its name may be given to another process: the file has to be there."""
    db = cold()
    with connected(db) as connection:
        path = connection.root()["a"].committed()
        assert proxy.counts("/blobs/") == {"GetObject": 1}
        assert os.path.exists(db.storage.cache.expected(path.oid, path.tid))


def test_committed_where_the_cache_breaks_after_loading(cold):
    """The promise stays equal to itself when the file has to lie elsewhere."""
    db = cold()
    with connected(db) as connection:
        blob = connection.root()["a"]
        blob._p_activate()
        blobs = db.storage.cache._layout.blobs
        blobs.rmdir()
        blobs.write_bytes(b"no folder any more")
        with open(blob.committed(), "rb") as file:
            assert file.read() == DATA


@pytest.mark.parametrize("mode", ["r+", "a"])
def test_changing_a_blob_that_was_never_read(cold, proxy, mode):
    db = cold()
    with connected(db) as connection:
        blob = connection.root()["a"]
        with blob.open(mode) as file:
            file.write(b"more")
        connection.transaction_manager.commit()
        expected = b"more" + DATA[4:] if mode == "r+" else DATA + b"more"
        assert blob.open("r").read() == expected
    assert proxy.counts("/blobs/")["GetObject"] == 1


@pytest.mark.clear
def test_overwriting_a_blob_does_not_fetch_it(cold, proxy):
    db = cold()
    with connected(db) as connection:
        with connection.root()["a"].open("w") as file:
            file.write(b"new")
        connection.transaction_manager.commit()
        assert connection.root()["a"].open("r").read() == b"new"
    assert proxy.counts("/blobs/") == {"PutObject": 1}


def test_savepoints(cold):
    db = cold()
    with connected(db) as connection:
        blob = connection.root()["a"]
        before = connection.transaction_manager.savepoint()
        with blob.open("a") as file:
            file.write(b"one")
        connection.transaction_manager.savepoint()
        assert blob.open("r").read() == DATA + b"one"
        before.rollback()
        assert connection.root()["a"].open("r").read() == DATA
        with connection.root()["a"].open("a") as file:
            file.write(b"two")
        connection.transaction_manager.savepoint()
        connection.transaction_manager.commit()
        assert connection.root()["a"].open("r").read() == DATA + b"two"
        connection.transaction_manager.savepoint()  # with nothing changed: the committed file is read through it
        assert connection.root()["a"].open("r").read() == DATA + b"two"


@pytest.mark.parametrize("active", [True, False])
def test_export_and_import(cold, active):
    db = cold()
    with connected(db) as connection:
        blob = connection.root()["a"]
        if active:
            blob._p_activate()
        exported = BytesIO()
        connection.exportFile(blob._p_oid, exported)
        exported.seek(0)
        connection.root()["b"] = connection.importFile(exported)
        connection.transaction_manager.commit()
        assert connection.root()["b"].open("r").read() == DATA


def test_copying_all_transactions_of_a_cold_storage(cold, tmp_path):
    from ZODB.blob import BlobStorage

    db = cold()
    target = BlobStorage(str(tmp_path / "blobs"), FileStorage(str(tmp_path / "Copy.fs")))
    target.copyTransactionsFrom(db.storage)
    copy = ZODB.DB(target)
    with connected(copy) as connection:
        assert connection.root()["a"].open("r").read() == DATA
    copy.close()


def test_a_demo_storage_on_top(cold):
    db = cold()
    demo = ZODB.DB(DemoStorage(base=db.storage))
    with connected(demo) as connection:
        assert connection.root()["a"].open("r").read() == DATA
        with connection.root()["a"].open("a") as file:
            file.write(b"more")
        connection.transaction_manager.commit()
        assert connection.root()["a"].open("r").read() == DATA + b"more"
    demo.close()


@pytest.mark.parametrize("kind", ["filestorage", "sqlite-hp", "postgresql-hp", "zeo-client"])
def test_a_historical_connection(cold, proxy, kind):
    db = cold(kind)
    with connected(db) as connection:
        connection.root()["a"]._p_activate()
        first = connection.root()["a"]._p_serial
    commit_blobs(db, a=b"later")
    proxy.reset()
    old = db.open(transaction.TransactionManager(), at=first)
    blob = old.root()["a"]
    blob._p_activate()
    assert proxy.counts("/blobs/") == {}
    assert blob.open("r").read() == DATA
    with open(blob.committed(), "rb") as file:
        assert file.read() == DATA
    old.close()


def test_one_promise_per_revision_and_connection(cold):
    db = cold()
    with connected(db) as one, connected(db) as other:
        paths = []
        for connection in (one, other):
            connection.root()["a"]._p_activate()
            paths.append(connection.root()["a"]._p_blob_committed)
        assert paths[0] is not paths[1] and paths[0] == paths[1] and len(set(paths)) == 1
    commit_blobs(db, a=b"changed")
    with connected(db) as connection:
        connection.root()["a"]._p_activate()
        assert connection.root()["a"]._p_blob_committed not in paths


def test_what_is_no_blob_has_no_promise(cold):
    db = cold()
    with connected(db) as connection:
        root = connection.root()
        root._p_activate()
        connection._storage.load(root._p_oid)
        with pytest.raises(POSKeyError):
            connection._storage.loadBlob(root._p_oid, root._p_serial)


def test_an_open_reader_ends_with_the_blob(cold):
    """As of ZODB's own files: closed when the blob is invalidated, and in the way of writing."""
    db = cold()
    with connected(db) as connection:
        blob = connection.root()["a"]
        reader = blob.open("r")
        with pytest.raises(ZODB.interfaces.BlobError):
            blob.open("w")
        reader.close()
        reader = blob.open("r")
        blob._p_invalidate()
        assert reader.closed
        reader = connection.root()["a"].open("r")
        del reader
        connection.root()["a"].open("w").close()


def test_a_missing_object_is_said_when_it_is_used(cold, proxy):
    db = cold()
    (key,) = [key for key in (line.key for line in db.storage.store_.list("blobs/"))]
    db.storage.store_.delete([key])
    with connected(db) as connection:
        blob = connection.root()["a"]
        blob._p_activate()
        with pytest.raises(POSKeyError):
            os.stat(blob._p_blob_committed)
        reader = blob.open("r")
        with pytest.raises(POSKeyError):
            reader.read()
        with pytest.raises(POSKeyError):
            blob.committed()


def test_a_new_blob_before_and_after_its_commit(make_site):
    db = make_site("filestorage").db()
    with connected(db) as connection:
        blob = connection.root()["a"] = Blob(DATA)
        assert blob.open("r").read() == DATA
        connection.transaction_manager.commit()
        assert blob.open("r").read() == DATA
        assert open(blob.committed(), "rb").read() == DATA
