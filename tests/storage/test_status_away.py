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
from collective.s3blobstorage.objectstore.preflight import AT_OPEN, DEEPER
from collective.s3blobstorage.overlay.interfaces import SourceOptions
from collective.s3blobstorage.overlay.settings import S3Settings
from collective.s3blobstorage.status import figures, status
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
    looked = db.storage.status("main")
    told = []

    def brought():
        document = looked.document()
        told.append(document["reachable"])
        return document["figures"] is not None

    wait_until(brought)
    proxy.round_trip(0)
    assert len(told) > 1  # it took longer than anybody waits
    assert False not in told


def test_what_is_refused_is_not_called_read(site, proxy):
    db = site.db()
    kept_figures(db)
    looked = db.storage.status("main")
    before = looked.document()
    assert before["figures"] is not None
    proxy.fail(answer(403, "AccessDenied"), times=math.inf)
    time.sleep(1.1)  # times are told in seconds
    db.storage._known.kept.forget()
    after = looked.document()
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


@pytest.fixture
def hasty(monkeypatch):
    """Five times as fast as what people are promised: half a minute is six seconds. Three more for a busy machine."""
    for name in ("_CONNECT", "_READ", "_ENOUGH", "_KEEP_BY"):
        monkeypatch.setattr(status, name, getattr(status, name) / 5)
    return 9.0


def checked_within(seconds, db, proxy):
    """What a check found, by name; None where it took longer. What hangs is ended."""
    told = []
    checking = threading.Thread(target=lambda: told.append(db.storage.status("main").check()))
    checking.start()
    checking.join(seconds)
    ended = bool(told)
    proxy.forgive()
    proxy.down()
    checking.join()
    proxy.up()
    return {finding["name"]: finding for finding in told[0]["findings"]} if ended else None


def test_a_check_of_what_hangs_ends_soon(make_site, settings, proxy, hasty):
    """The bucket, and each source behind it, which has time-outs of its own."""
    hanging = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url, outage_patience=1.0)
    slow = dataclasses.replace(
        hanging, prefix="old", download_connect_timeout=300.0, download_read_timeout=300.0, download_deadline=300.0
    )
    source = S3Settings(SourceOptions("production"), slow)
    db = make_site("filestorage", store=hanging, sources=(source,), **OWNED).db()
    proxy.fail(hang("before"), times=math.inf)
    found = checked_within(hasty, db, proxy)
    assert found is not None
    assert (found["endpoint"]["ok"], found["source production"]["ok"]) == (False, False)


def test_a_check_of_what_begins_to_hang_in_the_middle_ends_soon(site, proxy, hasty):
    db = site.db()
    proxy.fail(hang("before"), nth=8, times=math.inf)
    found = checked_within(hasty, db, proxy)
    assert found is not None
    assert set(AT_OPEN + DEEPER) <= set(found)
    late = [each for each in found.values() if "took too long" in each["detail"]]
    assert [each["ok"] for each in late] == [False] + [None] * (len(late) - 1) and len(late) > 1
    assert "s3-endpoint-url" in late[0]["mend"]


def readers():
    return [thread for thread in threading.enumerate() if thread.name == READER]


def test_closing_ends_what_reads_behind(site, proxy):
    db = site.db()
    storage, looked = db.storage, db.storage.status("main")
    proxy.fail(hang("before", seconds=1.5), times=1)
    looked.document()
    assert readers()
    db.close()
    assert not readers()
    # Whoever still has it is told what is known, and nothing is read any more.
    assert looked.document()["store"]["bucket"] == storage.settings.store.bucket
    assert not readers()


def test_a_look_waits_once_for_all_that_is_slow(site, proxy):
    """The store and the cache's disk together, not one after the other."""
    db = site.db()
    looked, known = db.storage.status("main"), db.storage._known
    waits = []

    class Noted(Remembered):
        def look(self, patience=PATIENCE):
            waits.append(patience)
            return super().look(patience)

    let = threading.Event()
    known.use = Noted(lambda known: let.wait(20), Clock(), ended=lambda: db.storage.closed)
    proxy.fail(hang("before", seconds=3.0), times=1)
    document = looked.document()
    let.set()
    assert waits[0] <= 0.1  # the store had it all
    assert (document["read"], document["cache"]["used"]) == (None, None)
