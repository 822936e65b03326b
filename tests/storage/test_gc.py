"""Garbage collection over each kind of base: what goes, and what never does."""

from __future__ import annotations

import time

import pytest
from blob_sites import undo_last
from sites import PERSISTENT, UNDOING, bucket_keys, commit_blobs, read_blob
from store_time import DAY, ShiftedStore

from collective.s3blobstorage.maintenance.gc.margins import Margins
from collective.s3blobstorage.maintenance.gc.references import view_of
from collective.s3blobstorage.maintenance.gc.runs import Collection

OWNED = {"owner": "www.example.org", "preflight": False, "gc_on_pack": "off"}


class Collected:
    """A site and what garbage collection of its prefix does, at a time that the test sets."""

    def __init__(self, site, **margins):
        self.site = site
        self.db = site.db()
        self.storage = self.db.storage
        self.store = ShiftedStore(self.storage.store_)
        self.collection = Collection(
            self.store, lambda: view_of(self.storage._base), Margins(**{"share": 1.0, **margins})
        )

    def plan(self):
        plan = self.collection.plan()
        with plan:
            self.collection.publish(plan)
        return plan

    def round(self):
        plan, outcome = self.collection.round()
        plan.close()
        return plan, outcome

    def rounds(self):
        """As many as it takes until nothing that is garbage by now is left."""
        self.store.advance(2 * DAY)
        self.round()
        self.store.advance(8 * DAY)
        return self.round()

    def blobs(self):
        return set(self.site.keys())


@pytest.fixture
def collected(make_site):
    def make(kind, **margins):
        return Collected(make_site(kind, **OWNED), **margins)

    return make


@pytest.mark.parametrize("kind", PERSISTENT)
def test_a_blob_that_was_packed_away_goes_in_the_second_round(collected, kind):
    site = collected(kind)
    commit_blobs(site.db, a=b"a1", b=b"b1")
    kept_and_dead = site.blobs()
    commit_blobs(site.db, a=b"a2")
    dead = kept_and_dead - {key for key in kept_and_dead if _holds(site, key, b"b1")}
    site.db.pack(time.time() + 1)
    young, _ = site.round()
    assert young.tally.young.blobs == 1 and young.tally.used.blobs == 2
    site.store.advance(2 * DAY)
    first, outcome = site.round()
    assert (first.tally.waiting.blobs, outcome.deleted.blobs) == (1, 0)
    site.store.advance(6 * DAY)
    early, outcome = site.round()
    assert (early.tally.waiting.blobs, outcome.deleted.blobs) == (1, 0)
    site.store.advance(1.1 * DAY)
    last, outcome = site.round()
    assert (last.tally.condemned.blobs, outcome.deleted.blobs, outcome.spared) == (1, 1, 0)
    assert site.blobs() & dead == set() and len(site.blobs()) == 2
    assert read_blob(site.db, "a") == b"a2" and read_blob(site.db, "b") == b"b1"


def _holds(site, key, data):
    return site.storage.store_.get_bytes(key) == data


@pytest.mark.parametrize("kind", UNDOING)
def test_what_history_can_bring_back_stays(collected, kind):
    site = collected(kind)
    commit_blobs(site.db, a=b"a1")
    commit_blobs(site.db, a=b"a2")
    _, outcome = site.rounds()
    assert outcome.deleted.blobs == 0 and len(site.blobs()) == 2
    undo_last(site.db)
    site.site.cold()
    assert read_blob(site.db, "a") == b"a1"


def test_the_log_says_what_was_deleted(collected):
    site = collected("filestorage")
    commit_blobs(site.db, a=b"a1")
    commit_blobs(site.db, a=b"a2")
    site.db.pack(time.time() + 1)
    (dead,) = [key for key in site.blobs() if _holds(site, key, b"a1")]
    site.rounds()
    (log,) = [key for key in bucket_keys(site.site.settings.store) if key.startswith("gc-log/")]
    lines = site.storage.store_.get_bytes(log).decode().splitlines()
    assert len(lines) == 2 and f'"key":"{dead}"' in lines[1]
