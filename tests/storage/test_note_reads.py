"""``note-reads`` on a real site, and ``archive --unread-for`` by what it wrote."""

from __future__ import annotations

import dataclasses
import threading
from contextlib import closing
from datetime import timedelta

import pytest
from sites import bucket_keys, commit_blobs, connected, read_blob
from test_archive import Archived

from collective.s3blobstorage.errors import UnsafeError
from collective.s3blobstorage.keys import reads_key
from collective.s3blobstorage.maintenance.archive import Wish
from collective.s3blobstorage.maintenance.read_since import read_since
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.storage.read_notes import Oids


@pytest.fixture
def site(settings, bucket, tmp_path):
    made = Archived(tmp_path, settings)
    made.settings = dataclasses.replace(made.settings, note_reads=True)
    yield made
    made.close()


def noted(settings):
    """Of all processes and days."""
    found = set()
    with closing(open_store(settings)) as store:
        for key in bucket_keys(settings):
            if key.startswith("reads/"):
                found |= Oids.from_bytes(store.get_bytes(key)).members
    return found


def oid_of(db, name):
    with connected(db) as connection:
        return int.from_bytes(connection.root()[name]._p_oid, "big")


def cover(settings, days, ids=("1" * 32,)):
    """As processes wrote it that read nothing."""
    with closing(open_store(settings)) as store:
        now = store.now()
        for back in range(days + 1):
            for id in ids:
                store.put_bytes(reads_key(f"{now - timedelta(days=back):%Y%m%d}", id), Oids().to_bytes())


def test_whoever_asks_for_bytes_is_noted(site, settings):
    db = site.db()
    commit_blobs(db, cached=b"1", path=b"2", lazy=b"3" * 50, address=b"4", unread=b"5")
    oids = {name: oid_of(db, name) for name in ("cached", "path", "lazy", "address", "unread")}
    with connected(db) as connection:
        root = connection.root()
        with root["cached"].open("r") as file:
            file.read()
        open(root["path"].committed(), "rb").close()
        root["lazy"]._p_activate()
        with connection._storage.openCommittedBlobFile(root["lazy"]._p_oid, root["lazy"]._p_serial) as file:
            file.read(1)
        storage = db.storage
        record, tid = storage.load(root["address"]._p_oid)
        if settings.encryption is None:
            assert storage.addresses.of(root["address"]._p_oid, tid, record) is not None
    assert noted(settings) == set()  # nothing is written on the path of a request
    site.close()
    wanted = {"cached", "path", "lazy"} | ({"address"} if settings.encryption is None else set())
    assert noted(settings) == {oids[name] for name in wanted}


def test_off_writes_nothing(site, settings):
    site.settings = dataclasses.replace(site.settings, note_reads=False)
    db = site.db()
    commit_blobs(db, a=b"a1")
    assert read_blob(db, "a") == b"a1"
    site.close()
    assert not [key for key in bucket_keys(settings) if key.startswith("reads/")]


def test_what_was_read_stays(site, settings):
    db = site.db()
    commit_blobs(db, read=b"1" * 100, unread=b"2" * 200)
    assert read_blob(db, "read") == b"1" * 100
    site.close()
    site.opened = []
    cover(settings, 3)
    with closing(open_store(settings)) as store:
        unread = read_since(store, 3, threading.Event())
    plan, report = site.moved(Wish(unread=unread))
    assert (plan.read.blobs, report.moved.blobs, report.moved.bytes >= 200) == (1, 1, True)


def test_notes_that_do_not_cover_the_time_are_refused(site, settings):
    commit_blobs(site.db(), a=b"a1")
    site.close()
    with closing(open_store(settings)) as store:
        with pytest.raises(UnsafeError, match="nobody noted what was read on"):
            read_since(store, 3, threading.Event())
        cover(settings, 3)
        read_since(store, 3, threading.Event())
        with pytest.raises(UnsafeError, match="nobody noted what was read on"):
            read_since(store, 4, threading.Event())


def test_a_process_that_notes_nothing_is_named(site, settings):
    db = site.db()
    commit_blobs(db, a=b"a1")
    db.storage.witness.write()
    cover(settings, 3)
    with closing(open_store(settings)) as store:
        with pytest.raises(UnsafeError, match=f"gc/witness/{db.storage.witness.id}"):
            read_since(store, 3, threading.Event())
        db.storage.reader.notes.write()
        read_since(store, 3, threading.Event())
