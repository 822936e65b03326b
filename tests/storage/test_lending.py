"""A blob that is read from what is staged: nothing is copied for it, and it is not stored, before it is attached."""

from __future__ import annotations

import dataclasses
import os
import secrets

import pytest
from sites import bucket_keys, connected, read_blob
from ZODB.blob import Blob, BlobError
from ZODB.DemoStorage import DemoStorage

from collective.s3blobstorage.objectstore.rangedfile import ranged
from collective.s3blobstorage.storage.attaching import attach
from collective.s3blobstorage.storage.lending import attach_lent, lend, lent

DATA = os.urandom(300_000)


class Staged:
    """An object of the bucket as somebody else put it there."""

    def __init__(self, store, data=DATA):
        self.store = store
        self.key = f"uploads/{secrets.token_hex(16)}"
        self.etag = store.put_bytes(self.key, data).etag
        self.size = len(data)

    def open(self):
        return ranged(self.store, self.key, self.size, self.etag)

    def copy_to(self, key, metadata):
        return self.store.copy(self.key, key, if_match=self.etag, metadata=metadata)

    def download(self, target):
        self.store.get_file(self.key, target)


@pytest.fixture
def db(make_site, settings, proxy):
    site = make_site("filestorage", store=dataclasses.replace(settings, endpoint_url=proxy.endpoint_url))
    return site.db()


def blobs_of(settings):
    return [key for key in bucket_keys(settings) if "blobs/" in key and not key.startswith(".")]


def borrowed(db):
    """A blob that has an empty file, as plone.namedfile makes it, and then is lent what is staged."""
    blob = Blob(b"")
    file = blob._p_blob_uncommitted
    lend(blob, Staged(db.storage.store_))
    assert not os.path.exists(file)
    return blob


def test_it_is_read_and_only_what_is_read_is_fetched(db, proxy, settings):
    blob = borrowed(db)
    proxy.reset()
    with blob.open() as file:
        assert file.seek(0, os.SEEK_END) == len(DATA)
        assert proxy.exchanges == []
        file.seek(1000)
        assert file.read(1000) == DATA[1000:2000]
    assert proxy.counts("/uploads/") == {"GetObject": 1}
    with blob.open("r") as file:
        assert file.read() == DATA
    assert not blob.opened()
    with pytest.raises(BlobError, match="Uncommitted"):
        blob.open("c")
    with pytest.raises(BlobError, match="Uncommitted"):
        blob.committed()
    assert blobs_of(settings) == []


@pytest.mark.parametrize("step", ["savepoint", "commit"])
def test_it_is_never_stored_as_if_it_were_empty(db, settings, step):
    with connected(db) as connection:
        connection.root()["a"] = borrowed(db)
        with pytest.raises(BlobError, match="data manager"):
            getattr(connection.transaction_manager, step)()
        connection.transaction_manager.abort()
        assert "a" not in connection.root()
    db.storage.uploads.settle()
    assert blobs_of(settings) == []


def test_a_transaction_without_it_commits_and_leaves_nothing(db, proxy, settings):
    with connected(db) as connection:
        blob = borrowed(db)
        proxy.reset()
        connection.root()["other"] = 1
        connection.transaction_manager.savepoint()
        connection.transaction_manager.commit()
        assert proxy.exchanges == []
        # And it is good in the next transaction.
        assert attach_lent(blob, connection)
        connection.root()["a"] = blob
        connection.transaction_manager.commit()
    assert read_blob(db, "a") == DATA
    assert len(blobs_of(settings)) == 1


@pytest.mark.clear  # what is encrypted here is copied by sending it
@pytest.mark.parametrize("savepoint", [False, True])
def test_it_is_attached_with_one_copy(db, proxy, settings, savepoint):
    with connected(db) as connection:
        blob = connection.root()["a"] = borrowed(db)
        reader = blob.open()
        proxy.reset()
        assert attach_lent(blob, connection)
        assert lent(blob) is None and not attach_lent(blob, connection)
        if savepoint:
            connection.transaction_manager.savepoint()
        connection.transaction_manager.commit()
        assert proxy.counts("/blobs/") == {"CopyObject": 1}
        assert reader.read(10) == DATA[:10]  # of the object, which is there as long as nobody drops it
    assert read_blob(db, "a") == DATA
    assert len(blobs_of(settings)) == 1


@pytest.mark.parametrize("mode, expected", [("w", b"new"), ("a", DATA + b"new"), ("r+", b"new" + DATA[3:])])
def test_it_is_written(db, settings, mode, expected):
    """As plone.namedfile does with a picture that it turns."""
    with connected(db) as connection:
        blob = connection.root()["a"] = borrowed(db)
        with blob.open(mode) as file:
            file.write(b"new")
        assert not attach_lent(blob, connection)
        connection.transaction_manager.commit()
    assert read_blob(db, "a") == expected
    assert len(blobs_of(settings)) == 1


def test_a_file_is_put_in_its_place(db, tmp_path):
    (tmp_path / "file").write_bytes(b"new")
    with connected(db) as connection:
        blob = connection.root()["a"] = borrowed(db)
        blob.consumeFile(str(tmp_path / "file"))
        assert blob.open().read() == b"new"
        assert not attach_lent(blob, connection)
        connection.transaction_manager.commit()
    assert read_blob(db, "a") == b"new"


def test_it_is_attached_by_hand(db):
    with connected(db) as connection:
        blob = connection.root()["a"] = borrowed(db)
        attach(blob, connection, Staged(db.storage.store_, b"other"))
        connection.transaction_manager.commit()
    assert read_blob(db, "a") == b"other"


def test_an_abort_takes_the_copy_back(db, settings):
    with connected(db) as connection:
        blob = connection.root()["a"] = borrowed(db)
        attach_lent(blob, connection)
        connection.transaction_manager.abort()
    db.storage.uploads.settle()
    assert blobs_of(settings) == []


def test_a_demostorage_gets_the_bytes(db):
    demo = type(db)(DemoStorage(base=db.storage))
    with connected(demo) as connection:
        blob = connection.root()["a"] = borrowed(db)
        assert attach_lent(blob, connection)
        connection.transaction_manager.commit()
    assert read_blob(demo, "a") == DATA
    demo.close()


def test_only_a_new_blob_that_is_not_open_is_lent_something(db):
    staged = Staged(db.storage.store_)
    with connected(db) as connection:
        opened = Blob()
        with opened.open("w"), pytest.raises(BlobError, match="new blob"):
            lend(opened, staged)
        added = connection.root()["a"] = Blob(b"x")
        connection.add(added)
        with pytest.raises(BlobError, match="new blob"):
            lend(added, staged)


@pytest.mark.parametrize("joined", [False, True])
def test_a_rollback_forgets_it_and_the_commit_is_without_it(db, settings, joined):
    """As a form does whose content came to nothing."""
    with connected(db) as connection:
        if joined:
            connection.root()["other"] = 1
        before = connection.transaction_manager.savepoint(optimistic=True)
        attach_lent(borrowed(db), connection)
        before.rollback()
        connection.transaction_manager.commit()
        db.storage.uploads.settle()
        assert blobs_of(settings) == []
