"""What the bucket was seen to lack: when a page of its listing is read, and for whom the sources are asked first."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from datetime import UTC, datetime

import pytest
from persistent.TimeStamp import TimeStamp
from test_overlay_chain import Place
from ZODB.utils import p64

from collective.s3blobstorage.errors import BlobMissing, Unavailable
from collective.s3blobstorage.keys import blob_key, object_key
from collective.s3blobstorage.objectstore.interfaces import Listed
from collective.s3blobstorage.overlay import lacking
from collective.s3blobstorage.overlay.chain import Overlay
from collective.s3blobstorage.overlay.interfaces import Revision, SourceOptions
from collective.s3blobstorage.overlay.lacking import BELIEVED, MISSES, SETTLED, Lacking
from collective.s3blobstorage.storage.record import BlobState

NOW = 1_800_000_000.0


def tid_of(seconds: float) -> bytes:
    moment = datetime.fromtimestamp(seconds, UTC)
    return TimeStamp(*moment.timetuple()[:5], moment.second).raw()


OLD, YOUNG = tid_of(NOW - SETTLED - 60), tid_of(NOW - SETTLED + 60)


class Bucket(Place):
    """With a listing, each page of which is counted."""

    def __init__(self) -> None:
        super().__init__()
        self.pages: list[str] = []
        self.trouble: Exception | None = None

    def list(self, prefix, *, start_after=""):
        self.pages.append(start_after)
        if self.trouble is not None:
            raise self.trouble
        for key in sorted(blob_key(oid, "ab" * 16) for oid, _ in self.blobs):
            if key > start_after:
                yield Listed(key, 1, "", datetime.now(UTC))


class Site:
    def __init__(self, source: Place | None = None) -> None:
        self.bucket, self.source, self.time = Bucket(), source or Place(), 1000.0
        self.overlay = Overlay([(self.source, SourceOptions("a", negative_cache=0))], monotonic=lambda: self.time)
        self.overlay.lacking = Lacking(self.bucket, lambda: self.time, lambda: NOW)

    def put(self, place: Place, number: int, data: bytes = b"x", tid: bytes = OLD) -> None:
        place.blobs[p64(number), tid] = data

    def read(self, number: int, tid: bytes = OLD) -> bytes:
        revision = Revision(p64(number), tid, BlobState(name="ab" * 16))
        keys = (blob_key(revision.oid, "ab" * 16),)
        file = io.BytesIO()
        try:
            self.overlay.behind(self.bucket.blob(revision), revision, keys).download(file)
        finally:
            self.settle()
        return file.getvalue()

    def settle(self) -> None:
        """Until the page that is being read is there."""
        deadline = time.monotonic() + 10
        while self.overlay.lacking._reading is not None and time.monotonic() < deadline:
            time.sleep(0.001)

    def know(self) -> None:
        """Read what only the source has, until a page is there."""
        for number in range(1000, 1000 + MISSES):
            self.put(self.source, number)
            self.read(number)
        assert len(self.bucket.pages) == 1
        self.bucket.asked = self.source.asked = 0


@pytest.fixture
def site():
    made = Site()
    yield made
    made.overlay.close()


def test_after_some_misses_the_bucket_is_not_asked_any_more(site):
    for number in range(50):
        site.put(site.source, number, b"%d" % number)
    assert [site.read(number) for number in range(50)] == [b"%d" % number for number in range(50)]
    assert (site.bucket.asked, site.source.asked, site.bucket.pages) == (MISSES, 50, [""])


def test_what_a_page_has_comes_from_the_bucket(site):
    site.put(site.bucket, 7, b"ours")
    site.know()
    site.put(site.source, 7, b"theirs")
    assert site.read(7) == b"ours" and site.source.asked == 0


def test_a_young_revision_is_asked_for_in_the_bucket_whatever_a_source_has(site):
    site.know()
    site.put(site.bucket, 8, b"ours", YOUNG)
    site.put(site.source, 8, b"theirs", YOUNG)
    assert site.read(8, YOUNG) == b"ours" and site.source.asked == 0


def test_what_came_since_is_found_when_no_source_has_it(site):
    site.know()
    site.put(site.bucket, 9, b"came")
    assert site.read(9) == b"came" and (site.source.asked, site.bucket.asked) == (1, 1)


def test_what_was_mirrored_here_comes_from_the_bucket(site):
    site.know()
    site.put(site.source, 10)
    site.put(site.bucket, 10, b"mirrored")
    site.overlay.lacking.came(blob_key(p64(10), "ab" * 16))
    assert site.read(10) == b"mirrored" and site.source.asked == 0


def test_a_source_that_is_out_is_asked_once_and_the_bucket_then(site):
    site.know()
    site.source.error = Unavailable("out")
    site.put(site.bucket, 11, b"came")
    assert site.read(11) == b"came"
    site.source.asked = 0
    with pytest.raises(Unavailable, match="Source 'a': out"):
        site.read(12)
    assert site.source.asked == 1


def test_what_is_nowhere_is_missing_and_each_was_asked_once(site, caplog):
    site.know()
    with pytest.raises(BlobMissing):
        site.read(13)
    assert (site.source.asked, site.bucket.asked) == (1, 1)
    assert "is neither in the bucket nor in a source (a)" in caplog.text


def test_a_page_is_not_believed_for_long(site):
    site.know()
    site.put(site.source, 14)
    site.put(site.source, 15)
    site.time += BELIEVED
    site.read(14)
    assert site.bucket.asked == 1 and len(site.bucket.pages) == 2
    site.read(15)
    assert site.bucket.asked == 1


def test_of_a_small_bucket_each_page_tells_of_all_keys(site):
    site.know()
    for number in (9, 3, 7, 5):
        site.put(site.source, number)
    site.time += BELIEVED
    for number in (9, 3, 7, 5):
        site.read(number)
    assert site.bucket.asked == 1 and site.bucket.pages == ["", ""]


def test_a_forked_child_reads_pages_of_its_own(site):
    """Of its parent's it neither has the thread, nor whoever releases the lock that was held at that moment."""
    lacking = site.overlay.lacking
    lacking._reading = threading.Thread(target=print)
    lacking._lock.acquire()
    child = os.fork()
    if not child:
        signal.alarm(20)
        for number in range(MISSES):
            site.put(site.source, number)
            site.read(number)
        os._exit(0 if site.bucket.pages == [""] else 1)
    lacking._reading = None
    lacking._lock.release()
    assert os.waitpid(child, 0)[1] == 0


def test_a_bucket_that_does_not_list_is_asked_for_each(site):
    site.bucket.trouble = Unavailable("no listing")
    for number in range(20):
        site.put(site.source, number)
        site.read(number)
    assert site.bucket.asked == 20 and len(site.bucket.pages) == 1
    site.time += BELIEVED
    site.bucket.trouble = None
    site.read(0)
    site.read(1)
    assert site.bucket.asked == 21 and len(site.bucket.pages) == 2


def test_a_page_that_does_not_reach_tells_nothing_of_what_lies_behind(site):
    for number in range(3000):
        site.put(site.bucket, number)
    for number in (5000, 5001, 5002):
        site.put(site.source, number)
        site.read(number)
    assert site.bucket.pages == [""]  # up to 999
    for number in (5003, 5004, 5005):
        site.put(site.source, number)
        site.read(number)
    assert site.bucket.pages == ["", f"blobs/{5003:016x}"]
    assert site.bucket.asked == 4


def test_who_reads_from_the_bucket_has_no_page_read(site):
    site.put(site.bucket, 1)
    for number in range(2, 20):
        site.put(site.source, number)
        site.read(number)
        site.read(1)
    assert site.bucket.pages == []


def test_what_a_source_wrote_before_it_failed_is_not_in_the_file(site):
    site.know()
    site.put(site.source, 16, b"half of it")
    site.put(site.bucket, 16, b"whole")
    site.source.cut = 4
    assert site.read(16) == b"whole"


def test_young_revisions_have_no_page_read_which_could_not_tell_of_them(site):
    for number in range(50):
        site.put(site.source, number, tid=YOUNG)
        site.read(number, YOUNG)
    assert len(site.bucket.pages) <= 1


def test_pages_that_spare_nothing_become_seldom(site, monkeypatch):
    """A large bucket of which much is still in a source, read here and there: each page would tell of one blob."""
    monkeypatch.setattr(lacking, "_PAGE", 2)
    numbers = range(10, 2010, 10)
    for number in numbers:
        site.put(site.source, number)
        for near in (1, 2):
            site.put(site.bucket, number + near)
    for number in numbers:
        site.read(number)
    assert len(site.bucket.pages) <= 8
    # Where one spares requests again, they are read as before.
    for number in range(10_000, 11_000):
        site.put(site.source, number)
        site.read(number)
    assert len(site.bucket.pages) <= 9 and site.bucket.asked < len(numbers) + 300
    assert site.overlay.lacking._idle == 0


def test_no_page_is_read_for_shared_objects_of_which_none_tells(site):
    site.know()
    site.overlay.lacking._is_small = False  # pages begin at the key that was asked for
    own = blob_key(p64(5), "ab" * 16)
    for _ in range(3 * MISSES):
        site.overlay.lacking.missed((object_key(f"{'cd' * 32}.0"), own), OLD)
        site.settle()
    assert len(site.bucket.pages) == 1
