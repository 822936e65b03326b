"""copyTransactionsFrom in and out, into the same prefix, and failing at each transaction."""

from __future__ import annotations

import dataclasses
import os

import pytest
import transaction
import ZODB
from sites import bucket_keys, commit_blobs, connected, raw_client, read_blob
from test_undo import undo
from ZODB.blob import Blob
from ZODB.FileStorage import FileStorage
from ZODB.POSException import POSKeyError

from collective.s3blobstorage.errors import Corrupt
from collective.s3blobstorage.storage.record import read_state


def fill(db: ZODB.DB, transactions: int) -> None:
    """Creations, changes, undos that share a name with the revision they brought back, objects without blobs."""
    commit_blobs(db, a=b"a0")
    for number in range(1, transactions):
        if number % 4 == 3:
            undo(db)
        elif number % 4 == 1:
            commit_blobs(db, a=f"a{number}".encode() * number)
        else:
            with connected(db) as connection:
                connection.root()[f"plain{number}"] = number
                connection.root()[f"b{number}"] = Blob(os.urandom(number * 100))
                connection.transaction_manager.commit()


def everything(storage) -> dict:
    """Every transaction, every record and every blob's bytes. Records of blobs are compared without our state."""
    found = {}
    for recorded in storage.iterator():
        for record in recorded:
            blob = None
            if read_state(record.data) is not None:
                with open(storage.loadBlob(record.oid, record.tid), "rb") as file:
                    blob = file.read()
            found[record.tid, record.oid] = (record.data if blob is None else b"blob", blob)
    return found


def plain(folder, name="plain") -> FileStorage:
    return FileStorage(str(folder / f"{name}.fs"), blob_dir=str(folder / f"{name}-blobs"))


@pytest.mark.parametrize("kind", ["filestorage", "sqlite-hp", "postgresql-hp"])
def test_in_from_a_blob_directory_and_out_again(make_site, tmp_path, kind, tier):
    source = plain(tmp_path)
    db = ZODB.DB(source)
    fill(db, tier["copy_transactions"])
    expected = everything(source)
    site = make_site(kind)
    storage = site.open()
    storage.copyTransactionsFrom(source)
    assert everything(storage) == expected
    storage.close()
    site.cold()
    storage = site.open()
    assert everything(storage) == expected
    # the records came without names
    assert all(len(key.rsplit("/", 1)[1]) == 16 for key in site.keys())
    back = plain(tmp_path, "back")
    back.copyTransactionsFrom(storage)
    assert everything(back) == expected
    again = ZODB.DB(back)
    assert read_blob(again, "a") == read_blob(db, "a")
    again.close()
    db.close()


@pytest.mark.parametrize("kind", ["filestorage", "sqlite-hp"])
def test_between_two_bases_on_the_same_prefix_nothing_is_uploaded_twice(make_site, kind, tier):
    site = make_site("filestorage")
    db = site.db()
    fill(db, tier["copy_transactions"])
    keys = etags(site)
    other = make_site(kind)
    storage = other.open()
    storage.copyTransactionsFrom(db.storage)
    assert etags(other) == keys
    assert everything(storage) == everything(db.storage)
    undone = ZODB.DB(storage)
    undo(undone)
    undo(undone)
    assert read_blob(undone, "a") == read_blob(db, "a")
    undone.close()


def etags(site) -> dict:
    store = site.settings.store
    listed = raw_client(store).list_objects_v2(Bucket=store.bucket).get("Contents", ())
    return {found["Key"]: (found["ETag"], found["LastModified"]) for found in listed}


class FailsAt:
    """Around a base: raises in the vote of the n-th transaction, or at its n-th restore."""

    def __init__(self, base, number: int, method: str):
        self._base, self._left, self._method = base, number, method

    def __getattr__(self, name):
        value = getattr(self._base, name)
        if name != self._method:
            return value

        def failing(*args, **kwargs):
            self._left -= 1
            if self._left < 0:
                raise OSError("disk full")
            return value(*args, **kwargs)

        return failing

    def __len__(self):
        return len(self._base)


@pytest.mark.parametrize("method", ["tpc_vote", "restore"])
def test_a_copy_into_the_same_prefix_that_fails_at_each_transaction_harms_nothing(make_site, tier, method):
    from zope.interface import alsoProvides, providedBy

    site = make_site("filestorage")
    db = site.db()
    transactions = tier["copy_transactions"]
    fill(db, transactions)
    expected, before = everything(db.storage), etags(site)
    for number in range(transactions + 1):
        other = make_site("filestorage")
        failing = FailsAt(other.base(), number, method)
        alsoProvides(failing, providedBy(failing._base))
        other.base = lambda failing=failing: failing
        storage = other.open()
        with pytest.raises(OSError, match="disk full"):
            storage.copyTransactionsFrom(db.storage)
        storage.uploads.settle()
        assert list(storage.staging.iterdir()) == []
        storage.close()
        assert etags(site) == before
    db.close()
    site.cold()
    db = site.db()
    assert everything(db.storage) == expected


@pytest.mark.parametrize("kind", ["filestorage", "sqlite-hp"])
def test_a_copy_stops_at_the_first_blob_that_is_nowhere(make_site, tmp_path, kind):
    source = plain(tmp_path)
    db = ZODB.DB(source)
    commit_blobs(db, a=b"a")
    tid = commit_blobs(db, b=b"b")
    commit_blobs(db, c=b"c")
    with connected(db) as connection:
        oid = connection.root()["b"]._p_oid
    os.remove(source.fshelper.getBlobFilename(oid, tid))
    storage = make_site(kind).open()
    with pytest.raises(POSKeyError):
        storage.copyTransactionsFrom(source)
    copied = [recorded.tid for recorded in storage.iterator()]
    assert copied == [recorded.tid for recorded in source.iterator()][: len(copied)]
    assert copied[-1] < tid
    db.close()


def test_a_base_that_comes_without_its_blobs_finds_them_in_the_bucket(make_site):
    """As after a restored backup of Data.fs: the records name objects that are there."""
    site = make_site("filestorage")
    db = site.db()
    commit_blobs(db, a=b"bytes")
    db.close()
    base = FileStorage(str(site.folder / "Data.fs"))
    storage = make_site("sqlite-hp").open()
    storage.copyTransactionsFrom(base)
    base.close()
    copy = ZODB.DB(storage)
    assert read_blob(copy, "a") == b"bytes"
    copy.close()


def test_other_bytes_for_a_restored_revision_are_refused(make_site, settings):
    site = make_site("filestorage")
    db = site.db()
    tid = commit_blobs(db, a=b"right bytes")
    with connected(db) as connection:
        oid = connection.root()["a"]._p_oid
    record = db.storage.read_record(oid, tid)
    elsewhere = make_site("filestorage", store=dataclasses.replace(settings, prefix="elsewhere")).open()
    for data in (b"wrong bytes", b"short"):
        metadata = ZODB.Connection.TransactionMetaData()
        elsewhere.tpc_begin(metadata, tid, " ")
        path = elsewhere.staging / "given"
        path.write_bytes(data)
        elsewhere.restoreBlob(oid, tid, record, str(path), None, metadata)
        with pytest.raises(Corrupt, match="does not match its record"):
            elsewhere.tpc_vote(metadata)
        elsewhere.tpc_abort(metadata)
    assert elsewhere.store_ is not db.storage.store_
    assert [key for key in bucket_keys(elsewhere._settings.store) if key.startswith("blobs/")] == []


def test_a_nameless_revision_whose_key_holds_other_bytes_is_refused(make_site, tmp_path):
    source = plain(tmp_path)
    db = ZODB.DB(source)
    tid = commit_blobs(db, a=b"right bytes")
    with connected(db) as connection:
        oid = connection.root()["a"]._p_oid
    site = make_site("filestorage")
    key = f"blobs/{oid.hex()}/{tid.hex()}"
    client = raw_client(site.settings.store)
    storage = site.open()
    for body in (b"WRONG bytes", b"short"):
        client.put_object(Bucket=site.settings.store.bucket, Key=key, Body=body)
        with pytest.raises(Corrupt):
            storage.copyTransactionsFrom(source)
        # write-once: nobody's bytes are replaced, and an abort deletes nothing that it did not name
        assert client.get_object(Bucket=site.settings.store.bucket, Key=key)["Body"].read() == body
        storage = site_again(site, storage)
    client.put_object(Bucket=site.settings.store.bucket, Key=key, Body=b"right bytes")
    storage.copyTransactionsFrom(source)
    assert everything(storage) == everything(source)
    db.close()


def site_again(site, storage):
    """The same prefix, an empty base."""
    storage.close()
    for path in site.folder.glob("Data.fs*"):
        path.unlink()
    return site.open()


def test_ours_as_the_source_of_relstorages_own_copy(make_site, tmp_path, tier):
    from relstorage.adapters.sqlite.adapter import Sqlite3Adapter
    from relstorage.options import Options
    from relstorage.storage import RelStorage

    site = make_site("filestorage")
    db = site.db()
    fill(db, tier["copy_transactions"])
    options = Options(keep_history=True, blob_dir=str(tmp_path / "rs-blobs"), shared_blob_dir=True)
    target = RelStorage(Sqlite3Adapter(str(tmp_path / "rs"), pragmas={}, options=options), options=options)
    target.copyTransactionsFrom(db.storage)
    copy = ZODB.DB(target)
    assert read_blob(copy, "a") == read_blob(db, "a")
    copy.close()
    transaction.abort()
