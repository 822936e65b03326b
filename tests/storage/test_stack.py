"""Around and on top: DemoStorage, pack, copies of the database, deletion of records."""

from __future__ import annotations

import os
import time

import pytest
import transaction
import ZODB
from persistent.mapping import PersistentMapping
from sites import PERSISTENT, commit_blobs, connected, read_blob
from ZODB.blob import Blob
from ZODB.DemoStorage import DemoStorage
from ZODB.interfaces import IExternalGC
from ZODB.POSException import POSKeyError
from ZODB.serialize import referencesf


def test_a_demo_storage_on_top_reads_ours_and_writes_its_own(make_site):
    site = make_site("filestorage")
    db = site.db()
    commit_blobs(db, a=b"below", b=b"below too")
    keys = site.keys()
    demo = DemoStorage(base=db.storage, close_base_on_close=False)
    top = ZODB.DB(demo)
    assert read_blob(top, "a") == b"below"
    commit_blobs(top, a=b"above", new=b"new")
    assert read_blob(top, "a") == b"above"
    assert read_blob(top, "b") == b"below too"
    pushed = ZODB.DB(demo.push())
    commit_blobs(pushed, b=b"highest")
    assert [read_blob(pushed, name) for name in ("a", "b", "new")] == [b"above", b"highest", b"new"]
    pushed.close()
    top.close()
    assert site.keys() == keys
    assert read_blob(db, "a") == b"below"


def test_ours_as_the_changes_of_a_demo_storage(make_site):
    below = make_site("filestorage")
    db = below.db()
    commit_blobs(db, a=b"below")
    changes = make_site("filestorage").open()
    top = ZODB.DB(DemoStorage(base=db.storage, changes=changes, close_base_on_close=False))
    commit_blobs(top, a=b"above", new=b"new")
    assert read_blob(top, "a") == b"above"
    assert read_blob(top, "new") == b"new"
    top.close()
    assert read_blob(db, "a") == b"below"


@pytest.mark.parametrize("kind", PERSISTENT)
def test_pack_keeps_every_blob_that_the_base_keeps(make_site, kind):
    site = make_site(kind)
    db = site.db()
    commit_blobs(db, a=b"first", gone=b"gone")
    commit_blobs(db, a=b"second")
    with connected(db) as connection:
        del connection.root()["gone"]
        connection.transaction_manager.commit()
    time.sleep(0.01)
    keys = site.keys()
    db.pack(time.time())
    assert read_blob(db, "a") == b"second"
    commit_blobs(db, a=b"third")
    assert read_blob(db, "a") == b"third"
    assert set(keys) <= set(site.keys()), "pack deletes nothing from the bucket"
    db.close()
    site.cold()
    assert read_blob(site.db(), "a") == b"third"


@pytest.mark.parametrize("collect", [True, False])
def test_pack_passes_its_arguments_on(make_site, collect):
    site = make_site("filestorage")
    db = site.db()
    commit_blobs(db, a=b"a")
    with connected(db) as connection:
        oid = connection.root()["a"]._p_oid
        del connection.root()["a"]
        connection.transaction_manager.commit()
    db.storage.pack(time.time(), referencesf, gc=collect)
    if collect:
        with pytest.raises(POSKeyError):
            db.storage.load(oid)
    else:
        assert db.storage.load(oid)  # an object that nothing refers to stays


@pytest.mark.parametrize("kind", PERSISTENT)
def test_deletion_of_the_record(make_site, kind):
    site = make_site(kind)
    storage = site.open()
    db = ZODB.DB(storage)
    tid = commit_blobs(db, a=b"bytes")
    assert IExternalGC.providedBy(storage)
    with connected(db) as connection:
        oid = connection.root()["a"]._p_oid
    metadata = ZODB.Connection.TransactionMetaData()
    storage.tpc_begin(metadata)
    storage.deleteObject(oid, tid, metadata)
    storage.tpc_vote(metadata)
    storage.tpc_finish(metadata)
    with pytest.raises(POSKeyError):
        storage.load(oid)
    assert len(site.keys()) == 1
    db.close()


@pytest.mark.parametrize("kind", ["filestorage", "sqlite-hp", "zeo-client"])
def test_blobs_go_out_and_in_by_export_files(make_site, kind, tmp_path):
    site = make_site(kind)
    db = site.db()
    data = os.urandom(70_000)
    with connected(db) as connection:
        connection.root()["folder"] = folder = PersistentMapping()
        folder["blob"] = Blob(data)
        connection.transaction_manager.commit()
        connection.exportFile(connection.root()["folder"]._p_oid, str(tmp_path / "folder.zexp")).close()
    db.close()
    other = make_site(kind, store=site.settings.store)
    db = other.db()
    with connected(db) as connection:
        connection.root()["imported"] = connection.importFile(str(tmp_path / "folder.zexp"))
        connection.transaction_manager.commit()
    before = len(other.keys())
    db.close()
    other.cold()
    db = other.db()
    with connected(db) as connection:
        assert connection.root()["imported"]["blob"].open("r").read() == data
    assert before == 2  # a name of its own: the import shares no object with what it was exported from


@pytest.mark.parametrize("kind", PERSISTENT)
def test_savepoints_and_rollback(make_site, kind):
    site = make_site(kind)
    db = site.db()
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    root = connection.root()
    root["a"] = Blob(b"one")
    first = manager.savepoint()
    with root["a"].open("w") as file:
        file.write(b"two")
    assert root["a"].open("r").read() == b"two"
    first.rollback()
    assert root["a"].open("r").read() == b"one"
    manager.commit()
    assert root["a"].open("r").read() == b"one"
    with root["a"].open("r+") as file:
        file.seek(0, os.SEEK_END)
        file.write(b" and more")
    manager.commit()
    with root["a"].open("a") as file:
        file.write(b"!")
    manager.commit()
    connection.close()
    db.close()
    site.cold()
    assert read_blob(site.db(), "a") == b"one and more!"
    assert len(site.keys()) == 3


def test_a_large_transaction_goes_through_the_disk(make_site):
    """More than the queue keeps in memory, with blobs between other objects."""
    site = make_site("filestorage")
    db = site.db()
    with connected(db) as connection:
        root = connection.root()
        for number in range(40):
            root[f"object{number}"] = folder = PersistentMapping()
            folder["data"] = os.urandom(500_000)
            root[f"blob{number}"] = Blob(b"%d" % number)
        expected = {name: value["data"] for name, value in root.items() if name.startswith("object")}
        connection.transaction_manager.commit()
    with connected(db) as connection:
        root = connection.root()
        assert {name: value["data"] for name, value in root.items() if name.startswith("object")} == expected
        assert all(root[f"blob{number}"].open("r").read() == b"%d" % number for number in range(40))


@pytest.mark.parametrize("kind", ["filestorage", "sqlite-hp"])
def test_a_connection_that_outlives_its_database_can_still_abort(make_site, kind):
    site = make_site(kind)
    db = site.db()
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    connection.root()["a"] = Blob(b"never committed")
    manager.savepoint()
    db.storage.close()
    manager.abort()
