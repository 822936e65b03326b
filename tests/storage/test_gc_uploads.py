"""Garbage collection and what browsers sent: counted, swept when it is abandoned, never a candidate or foreign."""

from __future__ import annotations

import dataclasses
import time

import pytest
from servers.faults import answer
from sites import bucket_keys, commit_blobs, raw_client, read_blob
from store_time import DAY, HOUR
from test_gc import OWNED, Collected
from ZODB.utils import maxtid

from collective.s3blobstorage.keys import blob_key, upload_key
from collective.s3blobstorage.maintenance.scope import Scope
from collective.s3blobstorage.status import figures

IDS = [upload_key(f"{number:032x}") for number in range(1, 6)]
STRANGE = "uploads/somebody's"
EXPIRY = 6 * HOUR


@pytest.fixture
def collected(make_site, settings, proxy):
    store = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url)
    return Collected(make_site("filestorage", store=store, **OWNED), upload_expiry=EXPIRY)


def begin(settings, *keys):
    for key in keys:
        raw_client(settings).create_multipart_upload(Bucket=settings.bucket, Key=key)


@pytest.fixture
def sent(collected, settings):
    """Three objects and two multipart uploads of browsers, of which one of each is young, and what is none."""
    commit_blobs(collected.db, a=b"a1")
    for key in (*IDS[:2], STRANGE):
        collected.store.put_bytes(key, b"12345")
    begin(settings, IDS[3], STRANGE)
    collected.store.advance(EXPIRY + HOUR + 60)
    collected.store.put_bytes(IDS[2], b"1234567")
    begin(settings, IDS[4])
    return collected


def staged(settings):
    return sorted(key for key in bucket_keys(settings) if key.startswith("uploads/"))


def begun(store):
    return sorted(key for key, _, _ in store.list_uploads())


def test_a_plan_tells_and_an_execution_deletes(sent, settings):
    plan = sent.plan()
    tally = plan.tally
    assert (tally.staged.blobs, tally.staged.bytes, tally.staged_uploads) == (3, 17, 2)
    assert (tally.abandoned.blobs, tally.abandoned.bytes, tally.abandoned_uploads) == (2, 10, 1)
    assert tally.foreign_keys == [STRANGE] and tally.uploads == 0 and tally.condemned.blobs == 0
    assert staged(settings) == sorted([*IDS[:3], STRANGE])
    # Nothing is condemned: a plan is executed for these alone.
    assert plan.executable == plan.id
    name, outcome = sent.collection.execute("last")
    assert name == plan.id
    assert (outcome.swept.blobs, outcome.swept.bytes, outcome.swept_uploads) == (2, 10, 1)
    assert (outcome.deleted.blobs, outcome.aborted_uploads, outcome.failed) == (0, 0, {})
    assert staged(settings) == sorted([IDS[2], STRANGE])
    assert begun(sent.storage.store_) == sorted([IDS[4], STRANGE])
    assert sent.plan().executable is None
    assert read_blob(sent.db, "a") == b"a1"


def test_a_round_behind_a_pack_sweeps(sent, settings):
    sent.db.pack(time.time() + 1)
    _, outcome = sent.round()
    assert (outcome.swept.blobs, outcome.swept_uploads) == (2, 1)
    assert staged(settings) == sorted([IDS[2], STRANGE])
    _, outcome = sent.round()
    assert (outcome.swept.blobs, outcome.swept_uploads) == (0, 0)


def test_what_is_condemned_goes_with_it(sent, settings):
    commit_blobs(sent.db, a=b"a2")
    sent.db.pack(time.time() + 1)
    plan, outcome = sent.rounds()
    assert (plan.tally.condemned.blobs, outcome.deleted.blobs, outcome.swept.blobs) == (1, 1, 0)
    assert staged(settings) == [STRANGE]  # the first round swept the rest, the second had one more


def test_a_part_of_the_oids_does_not_sweep(sent, settings):
    commit_blobs(sent.db, a=b"a2")
    sent.db.pack(time.time() + 1)
    scope = Scope(last=maxtid[:-1] + b"\0")
    for days in (2, 8):
        sent.store.advance(days * DAY)
        with sent.collection.plan(scope) as plan:
            sent.collection.publish(plan)
    assert (plan.tally.staged.blobs, plan.tally.abandoned.blobs, plan.tally.abandoned_uploads) == (0, 0, 0)
    _, outcome = sent.collection.execute(plan.id)
    assert (outcome.deleted.blobs, outcome.swept.blobs, outcome.swept_uploads) == (1, 0, 0)
    assert staged(settings) == sorted([*IDS[:3], STRANGE])


def test_what_cannot_be_swept_is_a_failure_of_the_run(sent, proxy, settings):
    plan = sent.plan()
    proxy.fail(answer(403, "AccessDenied"), method="DELETE", target=IDS[3])
    _, outcome = sent.collection.execute(plan.id)
    assert outcome.failed == {"NotSwept": 1} and outcome.swept.blobs == 2
    plan = sent.plan()
    proxy.fail(answer(403, "AccessDenied"), method="GET", target="prefix=uploads", times=9)
    _, outcome = sent.collection.execute(plan.id)
    assert outcome.failed == {"Refused": 1} and outcome.failures == [{"key": "uploads/", "code": "Refused"}]


def test_the_figures_have_them_apart(sent, settings):
    begin(settings, blob_key(bytes(8), "1" * 32))
    counted = figures.count(sent.storage.store_)
    assert (counted.objects.direct_uploads.objects, counted.unfinished) == (3, 2)
    assert (counted.objects.other.objects, counted.uploads.count) == (1, 2)
    assert sent.plan().figures == counted
    kept = figures.read(sent.storage.store_)
    assert kept["direct_uploads"] == {"objects": 3, "bytes": 17, "unfinished": 2}
    assert kept["total"]["objects"] == sum(kept[name]["objects"] for name in figures._PARTS)


def test_figures_of_before_there_were_any_are_read(sent):
    store = sent.storage.store_
    counted = figures.count(store)
    told = {name: {"objects": 1, "bytes": 2} for name in (*figures._PARTS, "total") if name != "direct_uploads"}
    figures.kept.write(store, figures.FIGURES, {"by": "gc", **told, "uploads": None})
    assert figures.read(store)["direct_uploads"] == {"objects": 0, "bytes": 0, "unfinished": 0}
    figures.keep(store, dataclasses.replace(counted, uploads=None, unfinished=None), "s3blobs status")
    assert figures.read(store)["direct_uploads"]["unfinished"] is None
