"""A plan of garbage collection lists the whole prefix, and keeps how much there is, so that nobody has to count it."""

from __future__ import annotations

import dataclasses

import pytest
from servers.faults import answer
from sites import commit_blobs, raw_client
from test_gc import OWNED, Collected
from ZODB.utils import maxtid, z64

from collective.s3blobstorage.keys import blob_key
from collective.s3blobstorage.maintenance.scope import Scope
from collective.s3blobstorage.status import figures


@pytest.fixture
def collected(make_site, settings, proxy):
    """Its requests seen."""
    return Collected(
        make_site("filestorage", store=dataclasses.replace(settings, endpoint_url=proxy.endpoint_url), **OWNED)
    )


def test_a_plan_keeps_what_a_count_would(collected, settings):
    commit_blobs(collected.db, a=b"a1", b=b"b1")
    commit_blobs(collected.db, a=b"a2")
    store = collected.storage.store_
    store.put_bytes("addons/collective.reports/2026", b"a report")
    store.put_bytes("what/is/this", b"nobody knows")
    raw_client(settings).create_multipart_upload(Bucket=settings.bucket, Key=blob_key(bytes(8), "1" * 32))
    counted = figures.count(store)
    assert counted.objects.blobs.objects == 3 and counted.objects.addons.objects == 1
    assert counted.objects.other.objects == 1 and counted.uploads.count == 1
    plan = collected.plan()
    assert plan.figures == counted
    kept = figures.read(store)
    assert kept["by"] == "gc" and kept["blobs"] == dataclasses.asdict(counted.objects.blobs)
    assert collected.storage.status("main").document()["figures"] == kept


def test_a_part_of_the_prefix_tells_nothing_of_it(collected):
    commit_blobs(collected.db, a=b"a1", b=b"b1")
    for scope in (Scope(z64, maxtid[:-1] + b"\0"), Scope(bytes(7) + b"\1", maxtid)):
        with collected.collection.plan(scope) as plan:
            collected.collection.publish(plan)
            assert plan.figures is None
    assert figures.read(collected.storage.store_) is None


def test_credentials_that_may_not_keep_them_make_the_plan_all_the_same(collected, proxy):
    commit_blobs(collected.db, a=b"a1")
    refused = proxy.fail(answer(403, "AccessDenied"), method="PUT", target="/status/", times=9)
    plan = collected.plan()
    assert plan.figures is not None and refused.hits == 1
    proxy.forgive()
    assert figures.read(collected.storage.store_) is None
