"""The listing that a plan is made of: in ranges or in one, it has the same in the same order."""

from __future__ import annotations

import threading
from bisect import bisect_right
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ZODB.utils import p64

from collective.s3blobstorage.errors import Unavailable
from collective.s3blobstorage.keys import (
    blob_key,
    condemned_key,
    foreign_keys,
    is_reference_key,
    is_upload_key,
    object_key,
    read_condemned_key,
    read_object_key,
    reference_key,
    shared_name,
    upload_key,
)
from collective.s3blobstorage.maintenance.findings import Count, Stopped
from collective.s3blobstorage.maintenance.gc import listing as module
from collective.s3blobstorage.maintenance.gc.listing import Listing, row_of
from collective.s3blobstorage.maintenance.gc.report import Tally
from collective.s3blobstorage.maintenance.scope import Scope
from collective.s3blobstorage.objectstore.interfaces import Listed
from collective.s3blobstorage.status.figures import Objects

PAGE = 4
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


class Store:
    """Lists keys, page by page. ``requests``: (prefix, after, how many) of each."""

    def __init__(self, keys, fails_after=None):
        self.keys = sorted(keys)
        self.requests = []
        self._fails_after = fails_after
        self._lock = threading.Lock()

    def list(self, prefix="", *, start_after="", page_size=1000):
        size = min(page_size, PAGE)
        while True:
            with self._lock:
                self.requests.append((prefix, start_after, size))
                if self._fails_after is not None and len(self.requests) > self._fails_after:
                    raise Unavailable("The object store could not be reached.")
            left = [key for key in self.keys[bisect_right(self.keys, start_after) :] if key.startswith(prefix)]
            for key in left[:size]:
                yield Listed(key, len(key), "e" * 32, LONG_AGO)
            if len(left) <= size:
                return
            start_after = left[size - 1]


@pytest.fixture(autouse=True)
def small_pages(monkeypatch):
    monkeypatch.setattr(module, "_PAGE", PAGE)
    monkeypatch.setattr(module, "_PROVEN", 3 * PAGE)
    monkeypatch.setattr(module, "_PAGES_EACH", 2)


def taken(store, scope=Scope(), stop=None, listed=lambda count: None, before=LONG_AGO, **options):  # noqa: B008 - frozen
    tally = Tally()
    options = {"old_keys": True, "abandoned_before": before, **options}
    with Listing(store, scope, stop or threading.Event(), listed, **options) as listing:
        listing.count(tally)
        return [row_of(line) for _, lines in listing.folders() for line in lines], tally


oids = st.one_of(st.integers(0, 300), st.integers(0, 2**40), st.sampled_from([2**64 - 1, 2**63, 0]))
ours = st.builds(lambda oid, name: blob_key(p64(oid), f"{name:032x}"), oids, st.integers(0, 3))
olds = st.builds(lambda oid, tid: foreign_keys(p64(oid), p64(tid))[0], oids, st.integers(0, 3))
foreign = st.sampled_from(
    ["a", "addons/", "addons/x", "addons/A/x", "blobs/", "blobs/0000000000000007/", "blobs/0000000000000007/x/y"]
    + ["blobs/é", "blobs0", "gc", "zz", "😀"]
)
addons = st.sampled_from(["addons/a/x", "addons/collective.x/blobs/0000000000000001/y", "addons/a/ü\n"])
control = st.sampled_from([".s3blobs.json", ".s3blobs-check/x", "gc/ledger", "gc/lease/000000000001", "gc-log/x"])
sent = st.builds(lambda number: upload_key(f"{number:032x}"), st.integers(0, 30))
NOT_SENT = ["uploads/", "uploads/x", f"uploads/{'A' * 32}", f"uploads/{'1' * 33}", f"uploads/{'1' * 32}/x"]
not_sent = st.sampled_from(NOT_SENT)
shared = st.builds(lambda digest: shared_name(bytes([digest]) * 32, digest % 3), st.integers(0, 255))
references = st.builds(
    lambda oid, name, shared: reference_key(p64(oid), f"{name:032x}", shared), oids, st.integers(0, 3), shared
)
of_sharing = st.one_of(references, references, st.builds(object_key, shared), st.builds(condemned_key, shared))
strange_ones = st.sampled_from(["objects/x", f"objects/00/00/{'1' * 64}.0", f"condemned/{'1' * 64}.01", "condemned/"])
keys = st.sets(st.one_of(ours, ours, ours, olds, foreign, addons, control, sent, not_sent), max_size=200)


@given(keys, st.booleans(), st.booleans())
def test_ranges_have_what_one_listing_has(keys, old_keys, are_old):
    rows, tally = taken(Store(keys), old_keys=old_keys, before=LONG_AGO + timedelta(seconds=are_old))
    judged = [key for key in sorted(keys) if module.read_key(key) or key.startswith(".s3blobs-check/")]
    if old_keys:
        judged = sorted([*judged, *(key for key in keys if module.read_foreign_key(key))])
    assert [row[0] for row in rows] == judged
    assert all(row[1:] == (len(row[0]), "e" * 32, int(LONG_AGO.timestamp())) for row in rows)
    ignored = [".s3blobs.json", "gc/ledger", "gc/lease/000000000001", "gc-log/x"]
    of_addons = [key for key in keys if key.startswith(("addons/a/", "addons/collective.x/"))]
    assert tally.addons.blobs == len(of_addons)
    staged = [key for key in keys if is_upload_key(key)]
    assert (tally.staged.blobs, tally.staged.bytes) == (len(staged), 40 * len(staged))
    assert tally.abandoned == (tally.staged if are_old else Count())
    strange = sorted(keys - set(judged) - {*ignored, *of_addons, *staged} - set(filter(module.read_foreign_key, keys)))
    assert tally.foreign_keys == strange and tally.foreign.blobs == len(strange)
    assert tally.old.blobs == (0 if old_keys else sum(module.read_foreign_key(key) is not None for key in keys))


@given(keys, st.booleans())
def test_its_figures_are_those_of_a_count(keys, old_keys):
    counted = Objects()
    for key in keys:
        counted.of(key).add(len(key))
    options = {"old_keys": old_keys, "abandoned_before": LONG_AGO}
    with Listing(Store(keys), Scope(), threading.Event(), lambda count: None, **options) as listing:
        assert listing.objects() == counted
    assert counted.total.objects == len(keys)


@given(keys, st.tuples(oids, oids).map(sorted))
def test_of_a_scope_too(keys, bounds):
    scope = Scope(p64(bounds[0]), p64(bounds[1]))
    if scope.whole:
        return
    rows, tally = taken(Store(keys), scope)
    wanted = [key for key in sorted(keys) if (named := module.read_key(key)) and scope.first <= named[0] <= scope.last]
    assert [row[0] for row in rows] == wanted
    assert tally == Tally()


@given(
    st.sets(st.one_of(ours, references, references, of_sharing, strange_ones, addons, sent, olds), max_size=200),
    st.booleans(),
)
def test_references_are_judged_where_there_may_be_some_and_shared_objects_are_listed_apart(keys, deduplicated):
    tally = Tally()
    options = {"old_keys": False, "abandoned_before": LONG_AGO, "deduplicated": deduplicated}
    with Listing(Store(keys), Scope(), threading.Event(), lambda count: None, **options) as listing:
        listing.count(tally)
        rows = [row_of(line)[0] for _, lines in listing.folders() for line in lines]
        apart = [row[0] for row in listing.shared()]
        folders = [folder for folder, _ in listing.folders()]
    of_ours = [key for key in keys if module.read_key(key)]
    refer = [key for key in keys if is_reference_key(key)]
    objects = [key for key in keys if read_object_key(key)]
    marks = [key for key in keys if read_condemned_key(key)]
    strange = [key for key in keys if key.startswith(("objects/", "condemned/")) and key not in {*objects, *marks}]
    assert rows == sorted([*of_ours, *refer] if deduplicated else of_ours)
    assert len(folders) == len(set(folders))
    assert apart == (sorted(objects) if deduplicated else [])
    assert sorted(tally.foreign_keys) == sorted(strange if deduplicated else [*strange, *refer, *objects, *marks])


@given(st.sets(st.one_of(ours, references, of_sharing), max_size=200), st.tuples(oids, oids).map(sorted))
def test_of_a_scope_references_are_judged_too(keys, bounds):
    scope = Scope(p64(bounds[0]), p64(bounds[1]))
    if scope.whole:
        return
    rows, tally = taken(Store(keys), scope, deduplicated=True)
    named = {key: module.read_key(key) or module.read_reference_key(key) for key in keys}
    assert [row[0] for row in rows] == sorted(key for key, found in named.items() if found and scope.has(found[0]))
    assert tally == Tally()


def test_a_long_one_of_references_and_shared_objects_is_made_by_ranges_of_both():
    names = [shared_name(bytes([number % 256, number // 256]) * 16, 0) for number in range(1000)]
    keys = [reference_key(p64(number), f"{number:032x}", name) for number, name in enumerate(names)]
    keys += map(object_key, names)
    store = Store(keys)
    with Listing(
        store, Scope(), threading.Event(), lambda count: None,
        old_keys=False, abandoned_before=LONG_AGO, deduplicated=True,
    ) as listing:  # fmt: skip
        assert [row_of(line)[0] for _, lines in listing.folders() for line in lines] == keys[:1000]
        assert [row[0] for row in listing.shared()] == sorted(keys[1000:])
    begun = {after for prefix, after, _ in store.requests if prefix == "" and after.endswith("/")}
    assert sum(after.startswith("objects/") for after in begun) > 5
    assert sum(after.startswith("blobs/") for after in begun) > 5
    assert len(store.requests) < len(keys) / PAGE * 1.5


MANY = [blob_key(p64(oid), f"{oid:032x}") for oid in range(1000)]


def test_a_long_listing_is_made_by_ranges():
    store, counted = Store(MANY), []
    rows, _ = taken(store, listed=counted.append)
    assert [row[0] for row in rows] == MANY and sum(counted) == len(MANY)
    after = {after for prefix, after, _ in store.requests if prefix == "" and after.endswith("/")}
    assert len(after) > 10
    searched = [each for each in store.requests if each[2] == 1]
    assert 0 < len(searched) < 12
    assert len(store.requests) < len(MANY) / PAGE * 1.5


@pytest.mark.parametrize("count", [0, 1, 3 * PAGE - 1])
def test_a_short_one_costs_no_request_more(count):
    store = Store(MANY[:count])
    taken(store)
    assert len(store.requests) == max(1, -(-count // PAGE))
    assert all(size == PAGE for _, _, size in store.requests)


@pytest.mark.parametrize("after", [0, 2, 15, 60])
def test_a_failure_of_any_range_is_one_of_the_listing(after):
    with pytest.raises(Unavailable):
        taken(Store(MANY, fails_after=after))


def test_it_can_be_stopped():
    stop = threading.Event()

    def count(_: int) -> None:
        stop.set()

    with pytest.raises(Stopped):
        taken(Store(MANY), stop=stop, listed=count)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("s3blobs-listing")]


def test_an_interruption_does_not_wait_for_the_whole_listing():
    store = Store(MANY)

    def interrupt(_: int) -> None:
        if len(store.requests) > 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        taken(store, listed=interrupt)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("s3blobs-listing")]
