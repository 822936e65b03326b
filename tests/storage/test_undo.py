"""Undo, redo and history: the record brings its data along; a record without a name is copied, or refused by oid."""

from __future__ import annotations

import os

import pytest
import transaction
import ZODB
from sites import UNDOING, as_ours, bucket_keys, commit_blobs, connected, in_two_threads, raw_client, read_blob
from ZODB.blob import Blob
from ZODB.POSException import POSKeyError, UndoError

from collective.s3blobstorage.keys import blob_key
from collective.s3blobstorage.storage.record import BlobState, read_state


def undo(db: ZODB.DB, count: int = 1, first: int = 0) -> None:
    """Undo the ``count`` transactions from the ``first`` newest one on, in one transaction."""
    manager = transaction.TransactionManager()
    db.undoMultiple([entry["id"] for entry in db.undoLog(first, first + count)], manager.get())
    manager.commit()


@pytest.mark.parametrize("kind", UNDOING)
def test_undo_and_redo(make_site, kind):
    site = make_site(kind)
    db = site.db()
    commit_blobs(db, a=b"first")
    commit_blobs(db, a=b"second")
    before = len(site.keys())
    undo(db)
    assert read_blob(db, "a") == b"first"
    undo(db)
    assert read_blob(db, "a") == b"second"
    assert len(site.keys()) == before  # nothing was copied
    db.close()
    site.cold()
    assert read_blob(site.db(), "a") == b"second"


@pytest.mark.parametrize("kind", UNDOING)
def test_undo_of_a_creation_and_redo(make_site, kind):
    site = make_site(kind)
    db = site.db()
    commit_blobs(db, other=b"other")
    commit_blobs(db, a=b"bytes")
    with connected(db) as connection:
        oid = connection.root()["a"]._p_oid
    undo(db)
    with connected(db) as connection:
        assert "a" not in connection.root()
        connection.cacheMinimize()
        with pytest.raises(POSKeyError):
            connection.get(oid)._p_activate()
    undo(db)
    db.close()
    site.cold()
    assert read_blob(site.db(), "a") == b"bytes"


@pytest.mark.parametrize("kind", UNDOING)
def test_several_undos_in_one_transaction(make_site, kind):
    site = make_site(kind)
    db = site.db()
    for data in (b"one", b"two", b"three"):
        commit_blobs(db, a=data)
    undo(db, count=2)
    assert read_blob(db, "a") == b"one"


@pytest.mark.parametrize("kind", UNDOING)
def test_undo_under_a_later_change_is_refused(make_site, kind):
    site = make_site(kind)
    db = site.db()
    for data in (b"one", b"two", b"three"):
        commit_blobs(db, a=data)
    with pytest.raises(UndoError):
        undo(db, first=1)
    assert read_blob(db, "a") == b"three"


def strip_names(site) -> None:
    """Make every record of a FileStorage as a blob directory's: without our state; objects under the tid's name."""
    from ZODB.blob import Blob
    from ZODB.FileStorage import FileStorage
    from ZODB.serialize import ObjectWriter

    plain = ObjectWriter().serialize(Blob())
    source = FileStorage(str(site.folder / "Data.fs"))
    target = FileStorage(str(site.folder / "stripped.fs"), create=True)
    client = raw_client(site.settings.store)
    with as_ours(site.settings.store) as ours:
        for recorded in source.iterator():
            target.tpc_begin(recorded, recorded.tid, recorded.status)
            for record in recorded:
                state = read_state(record.data)
                data = record.data
                if state is not None:
                    data = plain
                    # Without metadata, but what the store itself adds.
                    blob = ours.get_bytes(blob_key(record.oid, state.name))
                    ours.put_bytes(blob_key(record.oid, record.tid.hex()), blob)
                target.restore(record.oid, record.tid, data, "", record.data_txn, recorded)
            target.tpc_vote(recorded)
            target.tpc_finish(recorded)
    source.close()
    target.close()
    for key in site.keys():
        if len(key.rsplit("/", 1)[1]) == 32:
            client.delete_object(Bucket=site.settings.store.bucket, Key=key)
    os.replace(site.folder / "stripped.fs", site.folder / "Data.fs")
    os.remove(site.folder / "Data.fs.index")


def migrated_site(make_site):
    site = make_site("filestorage")
    db = site.db()
    commit_blobs(db, a=b"first", b=b"unchanged")
    commit_blobs(db, a=b"second")
    db.close()
    strip_names(site)
    site.cold()
    return site


def test_records_without_a_name_are_read_under_their_tid(make_site):
    db = migrated_site(make_site).db()
    with connected(db) as connection:
        blob = connection.root()["a"]
        blob._p_activate()
        assert read_state(db.storage.read_record(blob._p_oid, blob._p_serial)) == BlobState()
    assert read_blob(db, "a") == b"second"
    assert read_blob(db, "b") == b"unchanged"


def test_undo_of_a_record_without_a_name_copies_the_object(make_site):
    site = migrated_site(make_site)
    db = site.db()
    before = set(site.keys())
    undo(db)
    assert read_blob(db, "a") == b"first"
    added = set(site.keys()) - before
    with connected(db) as connection:
        blob = connection.root()["a"]
        blob._p_activate()
        assert added == {blob_key(blob._p_oid, blob._p_serial.hex())}
    undo(db)
    assert read_blob(db, "a") == b"second"
    undo(db, count=2)
    db.close()
    site.cold()
    db = site.db()
    assert read_blob(db, "a") == b"second"


def test_undo_back_to_a_record_without_a_name(make_site):
    site = migrated_site(make_site)
    db = site.db()
    commit_blobs(db, a=b"third, with a name")
    undo(db)
    assert read_blob(db, "a") == b"second"
    undo(db)
    assert read_blob(db, "a") == b"third, with a name"


def test_two_records_without_names_are_not_mistaken_for_each_other(make_site):
    """ZODB takes equal records for equal data. Undoing the first change would silently drop the second."""
    site = make_site("filestorage")
    db = site.db()
    for data in (b"first", b"second", b"third"):
        commit_blobs(db, a=data)
    db.close()
    strip_names(site)
    site.cold()
    db = site.db()
    with pytest.raises(UndoError):
        undo(db, first=1)
    assert read_blob(db, "a") == b"third"
    undo(db, count=2)  # both: nothing is dropped that was not asked for
    assert read_blob(db, "a") == b"first"


def test_a_missing_source_refuses_the_undo(make_site):
    site = migrated_site(make_site)
    client = raw_client(site.settings.store)
    db = site.db()
    with connected(db) as connection:
        oid = connection.root()["a"]._p_oid
    first = min(key for key in site.keys() if key.startswith(f"blobs/{oid.hex()}/"))
    client.delete_object(Bucket=site.settings.store.bucket, Key=first)
    with pytest.raises(UndoError, match="missing"):
        undo(db)
    assert read_blob(db, "a") == b"second"
    commit_blobs(db, a=b"the storage goes on")
    assert read_blob(db, "a") == b"the storage goes on"


@pytest.mark.parametrize("kind", ["sqlite-hp", "zeo-client"])
def test_where_the_base_does_not_tell_the_tid_a_record_without_a_name_is_refused_by_oid(make_site, kind):
    """The records are committed to the base as a blob directory's would be, around our storage."""
    site = make_site(kind)
    db = site.db()
    commit_blobs(db, a=b"named")
    with connected(db) as connection:
        oid = connection.root()["a"]._p_oid
        tid = connection.root()["a"]._p_serial
    db.close()
    base = site.base()
    storage = base.new_instance() if hasattr(base, "new_instance") else base
    from ZODB.serialize import ObjectWriter

    for _ in range(2):
        metadata = ZODB.Connection.TransactionMetaData()
        storage.tpc_begin(metadata)
        storage.store(oid, tid, ObjectWriter().serialize(Blob()), "", metadata)
        storage.tpc_vote(metadata)
        tid = storage.tpc_finish(metadata)
        client = raw_client(site.settings.store)
        client.put_object(Bucket=site.settings.store.bucket, Key=f"blobs/{oid.hex()}/{tid.hex()}", Body=tid)
    base.close()
    db = site.db()
    assert read_blob(db, "a") == tid
    with pytest.raises(UndoError, match=oid.hex().lstrip("0")):
        undo(db)
    assert read_blob(db, "a") == tid
    commit_blobs(db, a=b"goes on")
    assert read_blob(db, "a") == b"goes on"


@pytest.mark.parametrize("kinds", [("filestorage", "filestorage"), ("filestorage", "sqlite-hp")])
def test_an_undo_in_one_database_beside_commits_in_both(make_site, kinds, settings):
    """One thread commits in both databases, the other undoes in the first and commits in the second: no deadlock.

    (ZODB allows one resource manager of a storage in a transaction, so a transaction that undoes does not also store.)
    """
    import dataclasses

    sites = [make_site(kind, store=dataclasses.replace(settings, prefix=f"p{i}")) for i, kind in enumerate(kinds)]
    dbs = [site.db() for site in sites]
    for db in dbs:
        commit_blobs(db, a=b"0", undone=b"0")
        commit_blobs(db, undone=b"1")

    def work(number: int) -> None:
        for turn in range(6):
            manager = transaction.TransactionManager(explicit=False)
            connections = [db.open(manager) for db in dbs]
            try:
                for connection in connections[number:]:
                    connection.root()[f"t{number}-{turn}"] = Blob(os.urandom(1000))
                if number:
                    dbs[0].undo(dbs[0].undoLog(0, 1)[0]["id"], manager.get())
                manager.commit()
            except (UndoError, ZODB.POSException.ConflictError):
                manager.abort()
            finally:
                for connection in connections:
                    connection.close()

    in_two_threads(work)
    for db in dbs:
        commit_blobs(db, last=b"last")
        assert read_blob(db, "last") == b"last"
    assert bucket_keys(settings)
