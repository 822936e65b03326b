"""Which revisions a base keeps: over each kind of base what it can still load, sorted, once, and nothing else."""

from __future__ import annotations

import time
from contextlib import closing

import pytest
import transaction
import ZODB
from blob_sites import KINDS, fill, undo_last
from sites import commit_blobs, connected
from ZODB.blob import Blob
from ZODB.Connection import TransactionMetaData
from ZODB.DemoStorage import DemoStorage
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage
from ZODB.POSException import POSKeyError
from ZODB.serialize import referencesf
from ZODB.utils import p64, u64, z64

from collective.s3blobstorage.errors import ConfigurationError
from collective.s3blobstorage.maintenance.kept import is_kept, kept_revisions
from collective.s3blobstorage.maintenance.records import current_blobs
from collective.s3blobstorage.maintenance.scope import Scope
from collective.s3blobstorage.maintenance.spool import Spool
from collective.s3blobstorage.storage.record import is_blob


def kept(base, scope=Scope()):  # noqa: B008
    seen = []
    with Spool() as spool:
        found = list(kept_revisions(base, scope, spool, seen.append))
    return [(revision.oid, revision.tid) for revision in found], sum(seen)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_base_keeps(old_site, kind):
    site = old_site(kind)
    db = site.db()
    fill(db)
    db.close()
    base = site.storage()
    try:
        revisions, seen = kept(base)
        assert revisions == sorted(set(revisions))
        assert set(revisions) == {found for found in site.files() if is_kept(base, *found)}
        assert seen >= 6  # of a ZEO client the current ones are counted
        middle = revisions[len(revisions) // 2]
        oids = {oid for oid, _ in revisions}
        for scope in (Scope(last=middle[0]), Scope(first=p64(u64(middle[0]) + 1)), Scope(since=middle[1])):
            assert kept(base, scope)[0] == [found for found in revisions if scope.has(*found)]
        assert kept(base, Scope(first=p64(u64(max(oids)) + 1)))[0] == []
        assert not is_kept(base, middle[0], p64(u64(middle[1]) + 1)) and is_kept(base, *middle)
    finally:
        base.close()


@pytest.mark.parametrize("kind", ["filestorage", "sqlite-hp", "zeo-client"])
def test_after_a_pack(old_site, kind):
    site = old_site(kind)
    db = site.db()
    fill(db)
    before, _ = kept(db.storage)
    db.pack(time.time() + 1)
    commit_blobs(db, a=b"after the pack")
    db.close()
    base = site.storage()
    try:
        revisions, _ = kept(base)
        assert len(revisions) < len(before)
        assert {found for found in site.files() if is_kept(base, *found)} == set(revisions)
    finally:
        base.close()


@pytest.mark.parametrize("kind", ["filestorage", "zeo-client"])
def test_an_undone_creation_does_not_hide_what_comes_after_it(old_site, kind):
    """FileStorage's record_iternext raises there; its old revision can be redone, so it is kept."""
    site = old_site(kind)
    db = site.db()
    commit_blobs(db, before=b"1")
    commit_blobs(db, gone=b"2")
    with connected(db) as connection:
        gone = connection.root()["gone"]._p_oid
    undo_last(db)
    commit_blobs(db, after=b"3")
    db.close()
    base = site.storage()
    try:
        with pytest.raises(POSKeyError):
            base.record_iternext(gone)
        revisions, _ = kept(base)
        assert len(revisions) == 3 and gone in {oid for oid, _ in revisions}
        current = [found.oid for found in current_blobs(base)]
        assert len(current) == 2 and gone not in current
    finally:
        base.close()


@pytest.mark.parametrize("kind", ["filestorage", "zeo-client"])
def test_the_last_object_may_be_one_whose_creation_was_undone(old_site, kind):
    site = old_site(kind)
    db = site.db()
    commit_blobs(db, before=b"1")
    commit_blobs(db, gone=b"2")
    undo_last(db)
    db.close()
    base = site.storage()
    try:
        assert len(list(current_blobs(base))) == 1
        assert len(kept(base)[0]) == 2
    finally:
        base.close()


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_base(old_site, kind):
    base = old_site(kind).storage()
    try:
        assert kept(base) == ([], 0)
    finally:
        base.close()


def test_two_records_of_one_object_in_one_transaction_are_one_revision(old_site):
    """As undoing several transactions at once writes them."""
    site = old_site()
    db = site.db()
    for data in (b"one", b"two", b"three"):
        commit_blobs(db, a=data)
    manager = transaction.TransactionManager()
    db.undoMultiple([entry["id"] for entry in db.undoLog(0, 2)], manager.get())
    manager.commit()
    revisions, _ = kept(db.storage)
    assert len(revisions) == len(set(revisions)) == 4
    with connected(db) as connection, connection.root()["a"].open("r") as file:
        assert file.read() == b"one"
    db.close()


def test_a_file_storage_that_cannot_be_read_to_its_end_is_no_ground_for_anything(old_site):
    """Its iterator ends at damage with a warning in the log, as if that were the end."""
    site = old_site()
    db = site.db()
    for number in range(6):
        commit_blobs(db, a=b"%d" % number)
    db.close()
    path = site.folder / "Data.fs"
    base = FileStorage(str(path), read_only=True)
    ends = [entry._tend for entry in base.iterator()]
    whole, _ = kept(base)
    base.close()
    data = bytearray(path.read_bytes())
    data[ends[3] : ends[3] + 8] = bytes(8)
    path.write_bytes(data)
    base = FileStorage(str(path), read_only=True)
    assert len(list(base.iterator())) == 3 and len(whole) == 6
    with pytest.raises(ConfigurationError, match="cannot be read to its end"):
        kept(base)
    # Nor is one behind a DemoStorage, whose iterator goes on with what was committed there.
    with closing(DemoStorage(base=base, changes=MappingStorage())) as demo:
        later = TransactionMetaData()
        demo.tpc_begin(later)
        demo.store(p64(1000), z64, demo.load(z64)[0], "", later)
        demo.tpc_vote(later)
        demo.tpc_finish(later)
        with pytest.raises(ConfigurationError, match="cannot be read to its end"):
            kept(demo)


def test_old_and_strange_bases(tmp_path):
    assert kept(FileStorage(str(tmp_path / "empty.fs"))) == ([], 0)
    storage = MappingStorage()
    assert kept(storage) == ([], 0)
    with pytest.raises(ConfigurationError, match="cannot list its records"):
        kept(object())


def test_an_object_that_external_gc_deleted(tmp_path):
    storage = FileStorage(str(tmp_path / "Data.fs"), blob_dir=str(tmp_path / "blobs"))
    db = ZODB.DB(storage)
    commit_blobs(db, a=b"1", b=b"2")
    with connected(db) as connection:
        oid, tid = connection.root()["a"]._p_oid, connection.root()["a"]._p_serial or z64
        assert isinstance(connection.root()["a"], Blob)
        tid = storage.getTid(oid)
        del connection.root()["a"]
        connection.transaction_manager.commit()
    metadata = TransactionMetaData()
    storage.tpc_begin(metadata)
    storage.deleteObject(oid, tid, metadata)
    storage.tpc_vote(metadata)
    storage.tpc_finish(metadata)
    revisions, _ = kept(storage)
    assert len(revisions) == 2 and (oid, tid) in revisions  # its history is kept until a pack
    assert is_blob(storage.loadSerial(oid, tid))
    storage.pack(time.time() + 1, referencesf)
    db.close()
    storage = FileStorage(str(tmp_path / "Data.fs"), read_only=True)
    assert len(kept(storage)[0]) == 1
    storage.close()
