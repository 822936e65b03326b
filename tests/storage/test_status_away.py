"""The status of a storage whose store is slow, refuses, hangs or has what nobody wrote: what is told, and when."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from contextlib import closing

import pytest
from servers.faults import answer, hang
from sites import bucket_keys, wait_until

from collective.s3blobstorage.keys import MARKER
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.objectstore.clock import Clock
from collective.s3blobstorage.status import figures
from collective.s3blobstorage.status.interfaces import CHECK, PATIENCE
from collective.s3blobstorage.status.remembered import Remembered

OWNED = {"owner": "www.example.org"}
READER = "s3blobs-status"


@pytest.fixture
def site(make_site, settings, proxy):
    """Over FileStorage, its requests seen."""
    store = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url, outage_patience=1.0)
    return make_site("filestorage", store=store, **OWNED)


def kept_figures(db):
    figures.keep(db.storage.store_, figures.count(db.storage.store_), "a test")


def test_a_store_that_is_slow_is_not_away(site, proxy):
    db = site.db()
    kept_figures(db)
    proxy.round_trip(300)
    status = db.storage.status("main")
    told = []

    def brought():
        document = status.document()
        told.append(document["reachable"])
        return document["figures"] is not None

    wait_until(brought)
    proxy.round_trip(0)
    assert len(told) > 1  # it took longer than anybody waits
    assert False not in told


def test_what_is_refused_is_not_called_read(site, proxy):
    db = site.db()
    kept_figures(db)
    status = db.storage.status("main")
    before = status.document()
    assert before["figures"] is not None
    proxy.fail(answer(403, "AccessDenied"), times=math.inf)
    time.sleep(1.1)  # times are told in seconds
    db.storage._known.kept.forget()
    after = status.document()
    assert (after["figures"], after["jobs"]) == (before["figures"], before["jobs"])
    assert after["read"] == before["read"]
    assert after["reachable"] is True  # it answers


@pytest.mark.parametrize("strange", ["large", "newer"])
def test_one_thing_that_is_strange_hides_nothing_else(site, settings, strange):
    db = site.db()
    kept_figures(db)
    with closing(open_store(dataclasses.replace(settings, prefix=site.settings.store.prefix))) as store:
        store.put_bytes(CHECK, {"large": b" " * (5 << 20), "newer": b'{"format": 2}'}[strange])
    document = db.storage.status("main").document()
    assert document["figures"] is not None and document["read"] is not None and document["jobs"] is not None
    assert document["check"] is None
    assert document["reachable"] is True


@pytest.mark.parametrize("marker", [b"damaged", b'{"format": 9, "owner": "www.example.org", "layouts": ["ours"]}'])
def test_a_check_raises_nothing_for_a_marker_that_cannot_be_read(site, settings, marker):
    db = site.db()
    db.storage.store_.put_bytes(MARKER, marker)
    keys = bucket_keys(settings)
    told = db.storage.status("main").check()
    assert {finding["name"]: finding["ok"] for finding in told["findings"]}["owner"] is False
    assert db.storage.status("main").document()["check"] == told
    assert bucket_keys(settings) == keys  # nothing was written


def readers():
    return [thread for thread in threading.enumerate() if thread.name == READER]


def test_closing_ends_what_reads_behind(site, proxy):
    db = site.db()
    storage, status = db.storage, db.storage.status("main")
    proxy.fail(hang("before", seconds=1.5), times=1)
    status.document()
    assert readers()
    db.close()
    assert not readers()
    # Whoever still has it is told what is known, and nothing is read any more.
    assert status.document()["store"]["bucket"] == storage.settings.store.bucket
    assert not readers()


def test_a_look_waits_once_for_all_that_is_slow(site, proxy):
    """The store and the cache's disk together, not one after the other."""
    db = site.db()
    status, known = db.storage.status("main"), db.storage._known
    waits = []

    class Noted(Remembered):
        def look(self, patience=PATIENCE):
            waits.append(patience)
            return super().look(patience)

    let = threading.Event()
    known.use = Noted(lambda known: let.wait(20), Clock(), ended=lambda: db.storage.closed)
    proxy.fail(hang("before", seconds=3.0), times=1)
    document = status.document()
    let.set()
    assert waits[0] <= 0.1  # the store had it all
    assert (document["read"], document["cache"]["used"]) == (None, None)
