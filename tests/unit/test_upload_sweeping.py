"""What a sweep takes of any listing: what is an upload's and old enough, each once, and nothing else."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from collective.s3blobstorage.directupload.interfaces import Swept
from collective.s3blobstorage.directupload.sweeping import BATCH, LATE, sweep
from collective.s3blobstorage.errors import Refused
from collective.s3blobstorage.keys import is_upload_key, upload_key
from collective.s3blobstorage.objectstore.interfaces import Deleted, Listed

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
EXPIRY = 6 * 3600.0


class Lists:
    """Lists objects and multipart uploads with their ages in seconds, and forgets what is deleted.

    ``kept``: keys that cannot be deleted. ``stop`` is set by the request of that number.
    """

    def __init__(self, objects, uploads, kept=(), stops_at=None):
        self.objects, self.uploads, self.kept = dict(objects), list(uploads), set(kept)
        self.stop = threading.Event()
        self._stops_at = stops_at
        self.requests = 0

    def now(self):
        return NOW

    def _asked(self):
        self.requests += 1
        if self.requests == self._stops_at:
            self.stop.set()

    def list(self, prefix):
        for key, age in sorted(self.objects.items()):
            if key.startswith(prefix):
                yield Listed(key, len(key), f"etag of {key}", NOW - timedelta(seconds=age))

    def list_uploads(self, prefix):
        for number, (key, age) in enumerate(list(self.uploads)):
            if key.startswith(prefix):
                yield key, str(number), NOW - timedelta(seconds=age)

    def delete_each(self, doomed):
        self._asked()
        assert 0 < len(doomed) <= BATCH and all(each.etag == f"etag of {each.key}" for each in doomed)
        failed = {each: "AccessDenied" for each in doomed if each.key in self.kept}
        for each in doomed:
            if each not in failed:
                del self.objects[each.key]
        return Deleted(failed)

    def abort_upload(self, key, upload_id):
        self._asked()
        if key in self.kept:
            raise Refused("no")
        self.uploads[int(upload_id)] = ("gone", 0)


sent = st.builds(lambda number: upload_key(f"{number:032x}"), st.integers(0, 40))
OTHERS = ["uploads/", "uploads/x", f"uploads/{'1' * 31}", "blobs/x", "addons/a/uploads"]
keys = st.one_of(sent, sent, st.sampled_from(OTHERS))
edge = int(EXPIRY + LATE)
ages = st.one_of(st.sampled_from([0, edge - 1, edge, edge + 1, 10 * edge]), st.integers(0, 3 * edge))
objects = st.dictionaries(keys, ages, max_size=60)
uploads = st.lists(st.tuples(keys, ages), max_size=20)
unwilling = st.sets(sent, max_size=4)


def old(key, age):
    return is_upload_key(key) and age > edge


@given(objects, uploads, unwilling)
def test_just_what_is_old_goes_and_is_counted(objects, uploads, kept):
    store = Lists(objects, uploads, kept)
    told = sweep(store, EXPIRY, dry_run=True)
    assert (store.objects, store.uploads, store.requests) == (objects, uploads, 0)
    doomed = {key for key, age in objects.items() if old(key, age)}
    begun = [key for key, age in uploads if old(key, age)]
    assert told == Swept(len(doomed), len(begun), sum(map(len, doomed)))
    swept = sweep(store, EXPIRY)
    assert store.objects == {key: age for key, age in objects.items() if key not in doomed - kept}
    assert [each for each in store.uploads if each[0] != "gone"] == [
        (key, age) for key, age in uploads if not old(key, age) or key in kept
    ]
    failed = len(doomed & kept) + sum(key in kept for key in begun)
    assert (swept.objects + swept.uploads, swept.failed) == (len(doomed) + len(begun) - failed, failed)
    assert swept.size == sum(len(key) for key in doomed - kept)


@given(objects, uploads, st.integers(1, 12))
def test_after_a_stop_anywhere_the_next_one_finds_the_rest(objects, uploads, stops_at):
    whole, store = Lists(objects, uploads), Lists(objects, uploads, stops_at=stops_at)
    all_at_once = sweep(whole, EXPIRY)
    first = sweep(store, EXPIRY, stop=store.stop)
    assert store.requests <= stops_at
    second = sweep(store, EXPIRY)
    assert first.objects + second.objects == all_at_once.objects
    assert first.uploads + second.uploads == all_at_once.uploads
    assert store.objects == whole.objects


def test_what_cannot_be_deleted_is_counted_and_stays():
    one, two = upload_key("1" * 32), upload_key("2" * 32)
    store = Lists({one: 2 * edge, two: 2 * edge}, [(one, 2 * edge), (two, 2 * edge)], kept=[one])
    assert sweep(store, EXPIRY) == Swept(objects=1, uploads=1, size=len(two), failed=2)
    assert list(store.objects) == [one] and store.uploads == [(one, 2 * edge), ("gone", 0)]


def test_a_page_at_a_time():
    """Of a listing of a million only one batch is held: the next is asked for when that is deleted."""
    count = 3 * BATCH + 1
    seen = []

    class Long(Lists):
        def list(self, prefix):
            for number in range(count):
                seen.append(number)
                yield Listed(upload_key(f"{number:032x}"), 1, "e", NOW - timedelta(days=30))

        def delete_each(self, doomed):
            assert len(seen) <= sum(self.sizes) + len(doomed)
            self.sizes.append(len(doomed))
            return Deleted()

    store = Long({}, [])
    store.sizes = []
    assert sweep(store, EXPIRY) == Swept(count, 0, count)
    assert store.sizes == [BATCH, BATCH, BATCH, 1]
