"""The cases in which other storages lose a blob: histories, undo and redo, mirrors, restored ones, odd listings,
clocks."""

from __future__ import annotations

import dataclasses
import itertools
import time
from pathlib import Path
from time import time as real_time

import pytest
import transaction
import ZODB
from blob_sites import undo_last
from origins import CONTENTS
from sites import UNDOING, commit_blobs, connected, in_two_threads, read_blob
from store_time import DAY, HOUR, ShiftedStore
from test_gc import OWNED, Collected
from ZODB.FileStorage import FileStorage

from collective.s3blobstorage.keys import blob_key, draw_name
from collective.s3blobstorage.maintenance.gc.lease import Taken
from collective.s3blobstorage.maintenance.gc.margins import Margins
from collective.s3blobstorage.maintenance.gc.references import view_of
from collective.s3blobstorage.maintenance.gc.runs import Collection
from collective.s3blobstorage.storage import open_storage

AT_ONCE = {"grace": 0.0, "keep": 0.0}


@pytest.fixture
def collected(make_site):
    return lambda kind, **margins: Collected(make_site(kind, **OWNED), **{**AT_ONCE, **margins})


@pytest.mark.parametrize("kind", UNDOING)
def test_pack_then_commit_then_gc_then_undo_of_that_commit(collected, kind):
    """After a pack RelStorage's history() does not know the revision that undo brings back."""
    site = collected(kind)
    commit_blobs(site.db, a=b"packed", b=b"b")
    site.db.pack(time.time() + 1)
    commit_blobs(site.db, a=b"after the pack")
    for _ in range(3):
        site.round()
    undo_last(site.db)
    site.site.close_all()
    site.site.cold()
    db = site.site.db()
    assert read_blob(db, "a") == b"packed" and read_blob(db, "b") == b"b"


@pytest.mark.parametrize("kind", UNDOING)
def test_undone_creation_then_gc_then_redo(collected, kind):
    site = collected(kind)
    commit_blobs(site.db, before=b"1")
    commit_blobs(site.db, created=b"created")
    undo_last(site.db)
    with connected(site.db) as connection:
        assert "created" not in connection.root()
    for _ in range(3):
        site.round()
    undo_last(site.db)
    site.site.close_all()
    site.site.cold()
    assert read_blob(site.site.db(), "created") == b"created"


@pytest.mark.parametrize("kind", UNDOING)
def test_a_reader_of_an_old_snapshot_reads_on_after_pack_and_gc(collected, kind):
    site = collected(kind, keep=7 * DAY)
    commit_blobs(site.db, a=b"old")
    manager = transaction.TransactionManager()
    connection = site.db.open(manager)
    blob = connection.root()["a"]
    reader = blob.open("r")
    commit_blobs(site.db, a=b"new")
    site.db.pack(time.time() + 1)
    for _ in range(3):
        site.round()
    assert reader.read() == b"old"
    reader.close()
    manager.abort()
    connection.close()


@pytest.mark.parametrize("origin", ["bushy", "ours-nameless", "zodb-s3blobs", "relstorage"])
def test_a_mirror_and_gc_at_the_same_time(make_staging, origin):
    """Each object that the mirror brings is of a revision that the database keeps, also in the moment it comes."""
    staging = make_staging(origin, source=lambda made: made.with_options(mirror="on"))
    db = staging.db()
    ended = itertools.count()

    def work(number):
        if number:
            for _ in range(3):
                for name, data in CONTENTS.items():
                    with connected(db) as connection:
                        assert Path(connection.root()[name].committed()).read_bytes() == data
        else:
            store = db.storage.store_
            margins = Margins(grace=0.0, keep=0.0, share=1.0)
            for _ in range(5):
                try:
                    plan, outcome = Collection(store, lambda: view_of(db.storage._base), margins).round()
                except Taken:
                    continue
                plan.close()
                assert (outcome.deleted.blobs, plan.tally.condemned.blobs, plan.tally.waiting.blobs) == (0, 0, 0)
                next(ended)

    in_two_threads(work)
    assert next(ended) == 5
    assert len(staging.keys()) >= len(CONTENTS)


def test_objects_of_restored_records_are_in_use(make_site, settings, tmp_path):
    """A base that was copied, record by record, on the same prefix."""
    site = make_site("filestorage", **OWNED)
    db = site.db()
    commit_blobs(db, a=b"1", b=b"2")
    commit_blobs(db, a=b"3")
    old = db.storage
    target = open_storage(
        FileStorage(str(tmp_path / "copy.fs")),
        dataclasses.replace(site.settings, cache_dir=tmp_path / "cache"),
    )
    target.copyTransactionsFrom(old)
    db.close()
    with_copy = ZODB.DB(target)
    store = ShiftedStore(target.store_)
    collection = Collection(store, lambda: view_of(target._base), Margins(grace=0.0, keep=0.0, share=1.0))
    for _ in range(3):
        plan, outcome = collection.round()
        plan.close()
        assert (outcome.deleted.blobs, plan.tally.used.blobs) == (0, 3)
    with_copy.close()


def test_inline_blobs_have_no_object_and_what_they_replaced_goes(make_site):
    site = Collected(make_site("filestorage", **OWNED), **AT_ONCE)
    commit_blobs(site.db, a=b"a" * 100)
    site.site.close_all()
    site.site.settings = dataclasses.replace(site.site.settings, inline_size=200)
    inline = Collected(site.site, **AT_ONCE)
    commit_blobs(inline.db, a=b"inline")
    inline.db.pack(time.time() + 1)
    inline.round()
    _, outcome = inline.round()
    assert outcome.deleted.blobs == 1 and inline.blobs() == set()
    assert read_blob(inline.db, "a") == b"inline"


# Listings


class Stale:
    """A store whose listing is not of now: some keys are missing, others were deleted already."""

    def __init__(self, store, missing=lambda key: False, more=()):
        self._store, self._missing, self._more = store, missing, more

    def __getattr__(self, name):
        return getattr(self._store, name)

    def list(self, prefix="", **options):
        lines = [line for line in self._store.list(prefix, **options) if not self._missing(line.key)]
        return iter(
            sorted([*lines, *(each for each in self._more if each.key.startswith(prefix))], key=lambda line: line.key)
        )


def test_stale_listings_lose_nothing(collected):
    site = collected("filestorage")
    commit_blobs(site.db, a=b"1", b=b"b")
    commit_blobs(site.db, a=b"2")
    site.db.pack(time.time() + 1)
    site.round()
    before = list(site.store.list("blobs/"))
    site.round()
    assert len(site.blobs()) == 2
    # What is gone is listed for a while still: it is condemned and deleted once more, which is no error.
    site.collection.store = Stale(site.store, more=[line for line in before if line.key not in site.blobs()])
    for _ in range(3):
        _, outcome = site.round()
        assert outcome.failed == {}
    # What is there is not listed yet: nothing is known of it.
    site.collection.store = Stale(site.store, missing=lambda key: key.startswith("blobs/"))
    for _ in range(3):
        _, outcome = site.round()
        assert outcome.deleted.blobs == 0
    assert len(site.blobs()) == 2 and read_blob(site.db, "b") == b"b"


def test_a_key_that_is_not_listed_for_once_begins_anew(collected):
    """Its date goes: in doubt it waits longer."""
    site = collected("filestorage", keep=7 * DAY)
    commit_blobs(site.db, a=b"1", b=b"b")
    commit_blobs(site.db, a=b"2")
    site.db.pack(time.time() + 1)
    site.round()
    site.store.advance(6 * DAY)
    site.collection.store = Stale(site.store, missing=lambda key: key.startswith("blobs/"))
    site.round()
    site.collection.store = site.store
    site.store.advance(2 * DAY)
    _, outcome = site.round()
    assert outcome.deleted.blobs == 0
    site.store.advance(7 * DAY)
    _, outcome = site.round()
    assert outcome.deleted.blobs == 1


# Clocks


@pytest.mark.parametrize("hours", [-14, 14, 24 * 400])
def test_the_clock_of_this_machine_does_not_matter(collected, monkeypatch, hours):
    site = collected("filestorage", grace=DAY, keep=DAY)
    commit_blobs(site.db, a=b"1")
    site.storage.store_.put_bytes(blob_key(bytes(7) + b"\1", draw_name()), b"uploaded a moment ago, not committed yet")
    monkeypatch.setattr(time, "time", lambda: real_time() + hours * HOUR)
    for _ in range(3):
        plan, outcome = site.round()
        assert (plan.tally.young.blobs, outcome.deleted.blobs) == (1, 0)
