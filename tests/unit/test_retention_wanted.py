"""What a new version is to be kept by, and how that is asked for."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from botocore.session import get_session
from hypothesis import given
from hypothesis import strategies as st

from collective.s3blobstorage.errors import Refused, RetentionNotHonoured
from collective.s3blobstorage.objectstore.interfaces import Lock, ObjectInfo
from collective.s3blobstorage.objectstore.retention import Honoured, asked, parameters, wanted
from collective.s3blobstorage.objectstore.signed import headers_of
from collective.s3blobstorage.settings import Retention

NOW = datetime(2026, 11, 27, 12, 0, 0, 500_000, tzinfo=UTC)
HOUR = Retention("governance", 3600.0)
KEY = "blobs/0000000000000001/" + "1" * 32
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))


def test_a_new_blob_is_kept_for_the_time_at_least():
    assert wanted(HOUR, KEY, None, NOW) == Lock(datetime(2026, 11, 27, 13, 0, 1, tzinfo=UTC), "GOVERNANCE")
    assert wanted(None, KEY, None, NOW) == Lock()


@pytest.mark.parametrize("key", [".s3blobs.json", "gc/ledger", "uploads/" + "1" * 32, "manifests/x", "addons/a/b"])
def test_nothing_beside_the_blobs_is_kept(key):
    assert wanted(HOUR, key, None, NOW) == Lock()


@pytest.mark.parametrize("retention", [None, HOUR, Retention("compliance", 86400.0)])
def test_what_takes_the_place_of_another_one_is_kept_as_that_was(retention):
    until = NOW + timedelta(days=3)
    for before in (Lock(until, "COMPLIANCE"), Lock(until, "GOVERNANCE", True), Lock(legal_hold=True), Lock()):
        assert wanted(retention, KEY, before, NOW) == before
    assert wanted(retention, KEY, Lock(NOW, "COMPLIANCE"), NOW) == Lock()


@given(now=MOMENTS, until=st.none() | MOMENTS, hold=st.booleans())
def test_never_for_less_long(now, until, hold):
    told = wanted(HOUR, KEY, Lock(until, "GOVERNANCE" if until else "", hold), now)
    assert told.legal_hold == hold
    if until is not None and until > now:
        assert told.until >= until and told.until > now + timedelta(minutes=1)
    else:
        assert told.until is None


def test_the_headers_are_those_of_botocore():
    lock = Lock(datetime(2033, 5, 4, 3, 2, 1, tzinfo=UTC), "COMPLIANCE", True)
    named = {"Bucket": "bucket", "Key": KEY, **parameters(lock)}
    client = get_session().create_client(
        "s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b", endpoint_url="http://127.0.0.1"
    )
    seen = {}
    client.meta.events.register("before-send.s3", lambda request, **_: seen.update(request.headers) or _Stop.now())
    with pytest.raises(_Stop):
        client.put_object(**named, Body=b"")
    ours = headers_of(named)
    assert len(ours) == 3
    assert {name.lower(): value for name, value in ours.items()} == {
        name.lower(): value.decode() if isinstance(value, bytes) else value
        for name, value in seen.items()
        if "object-lock" in name.lower()
    }
    assert asked(named) == lock and asked({}) == Lock()


class _Stop(Exception):
    @classmethod
    def now(cls):
        raise cls


class _Store:
    """What a store keeps by itself, and what it keeps when asked for that alone."""

    def __init__(self, by_headers, by_request):
        self.by_headers, self.by_request = by_headers, by_request
        self.asked = []

    def written(self, honoured, lock, way="PUT"):
        told = lock if self.by_headers else Lock()

        def look():
            self.asked.append("look")
            return ObjectInfo(KEY, 1, "etag", lock=told)

        def keep():
            nonlocal told
            self.asked.append("keep")
            if self.by_request is None:
                raise Refused("no")
            told = lock if self.by_request else told

        honoured.check(way, KEY, lock, look, keep)


LOCK = Lock(NOW, "GOVERNANCE")


@pytest.mark.parametrize(
    ("by_headers", "by_request", "first", "later"),
    [(True, None, ["look"], []), (False, True, ["look", "keep", "look"], ["keep"])],
)
def test_the_first_object_of_each_way_is_looked_at(by_headers, by_request, first, later):
    store, honoured = _Store(by_headers, by_request), Honoured()
    for way in ("PUT", "multipart"):
        store.asked = []
        store.written(honoured, LOCK, way)
        assert store.asked == first
        store.asked = []
        store.written(honoured, LOCK, way)
        store.written(honoured, Lock(), way)
        assert store.asked == later


def test_a_way_that_proves_nothing_is_looked_at_each_time():
    store, honoured = _Store(True, None), Honoured()
    for _ in range(3):
        store.written(honoured, LOCK, "")
    assert store.asked == ["look"] * 3


@pytest.mark.parametrize("by_request", [False, None])
def test_a_store_that_keeps_nothing_is_refused_each_time(by_request):
    store, honoured = _Store(False, by_request), Honoured()
    for _ in range(2):
        with pytest.raises(RetentionNotHonoured, match="^retention: "):
            store.written(honoured, LOCK)


@pytest.mark.parametrize(
    "told",
    [
        Lock(NOW - timedelta(seconds=5), "GOVERNANCE"),
        Lock(NOW, "COMPLIANCE"),
        Lock(None, "GOVERNANCE"),
        Lock(legal_hold=True),
    ],
)
def test_another_date_or_mode_is_not_what_was_asked_for(told):
    with pytest.raises(RetentionNotHonoured):
        Honoured().check("PUT", KEY, LOCK, lambda: ObjectInfo(KEY, 1, "etag", lock=told), lambda: None)
    held = dataclasses.replace(LOCK, legal_hold=True)
    with pytest.raises(RetentionNotHonoured):
        Honoured().check("PUT", KEY, held, lambda: ObjectInfo(KEY, 1, "etag", lock=LOCK), lambda: None)
