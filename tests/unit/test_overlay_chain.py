"""The chain of sources: which is asked, what is remembered, what an error means. Sources in memory, no network."""

from __future__ import annotations

import dataclasses
import io
import logging

import pytest
from zope.interface import implementer
from zope.interface.verify import verifyObject

from collective.s3blobstorage.cache.interfaces import IBlobSource
from collective.s3blobstorage.errors import (
    Archived,
    BlobMissing,
    Corrupt,
    EncryptionKeyMissing,
    PreconditionFailed,
    Refused,
    StoreError,
    Unavailable,
)
from collective.s3blobstorage.overlay import chain
from collective.s3blobstorage.overlay.chain import NoOverlay, Overlay
from collective.s3blobstorage.overlay.interfaces import IOverlay, ISource, Revision, SourceOptions
from collective.s3blobstorage.overlay.negative import NegativeCache
from collective.s3blobstorage.storage.record import BlobState

OID, TID = b"\0" * 7 + b"\1", b"\3" * 8
REVISION = Revision(OID, TID, BlobState())


@implementer(IBlobSource)
class Bytes:
    """Of a place in memory, each call of which is counted."""

    def __init__(self, place: Place, revision: Revision) -> None:
        self.place = place
        self.revision = revision

    @property
    def described(self):
        size = self.revision.state.size
        return None if size is None else (size, None)

    def _data(self) -> bytes:
        self.place.asked += 1
        if self.place.error is not None:
            raise self.place.error
        data = self.place.blobs.get((self.revision.oid, self.revision.tid))
        if data is None:
            raise BlobMissing(self.revision.oid, self.revision.tid)
        return data

    def describe(self):
        return len(self._data()), None

    def download(self, file):
        data = self._data()
        file.write(data[: self.place.cut])
        if self.place.cut is not None:
            raise Corrupt("cut")

    def read(self, start, length, write, validator):
        data = self._data()
        if validator not in (None, self.place.version):
            raise PreconditionFailed("changed")
        piece = data[start : start + length]
        write(piece[: self.place.cut])
        if self.place.cut is not None:
            raise Unavailable("cut")
        return self.place.version


@implementer(ISource)
class Place:
    follows_undo = False

    def __init__(self, data: bytes | None = None, *, error: StoreError | None = None) -> None:
        self.blobs = {} if data is None else {(OID, TID): data}
        self.error = error
        self.version = "v1"
        self.cut: int | None = None
        self.asked = 0
        self.closed = self.checked = False

    def blob(self, revision):
        return Bytes(self, revision)

    def check(self):
        self.checked = True

    def close(self):
        self.closed = True


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


def overlay(*places: Place, time=lambda: 0.0, **options) -> Overlay:
    return Overlay(
        [(place, SourceOptions(name, **options)) for name, place in zip("abc", places, strict=False)], monotonic=time
    )


def behind(bucket: Place, *places: Place, revision: Revision = REVISION, **options):
    return overlay(*places, **options).behind(bucket.blob(revision), revision)


def whole(source) -> bytes:
    file = io.BytesIO()
    source.download(file)
    return file.getvalue()


def part(source, start: int, length: int, validator: str | None = None) -> tuple[bytes, str]:
    read = bytearray()
    found = source.read(start, length, read.extend, validator)
    return bytes(read), found


def test_contracts():
    for each in (NoOverlay(), overlay(Place())):
        verifyObject(IOverlay, each)
    verifyObject(IBlobSource, behind(Place(), Place()))
    verifyObject(ISource, Place())


def test_without_a_source_the_bucket_is_all_there_is():
    bucket = Place().blob(REVISION)
    assert NoOverlay().behind(bucket, REVISION) is bucket
    assert isinstance(chain.open_overlay((), None), NoOverlay)


def test_no_verb_of_a_source_writes():
    forbidden = ("put", "delete", "write", "store", "copy", "abort")
    assert not [name for name in ISource.names(all=True) if name.startswith(forbidden)]


# The order


def test_what_the_bucket_has_no_source_is_asked_for():
    source = Place(b"source")
    found = behind(Place(b"bucket"), source)
    assert whole(found) == b"bucket" and part(found, 1, 2)[0] == b"uc" and found.describe() == (6, None)
    assert source.asked == 0


def test_the_first_source_that_has_it_is_read():
    first, second, third = Place(), Place(b"second"), Place(b"third")
    assert whole(behind(Place(), first, second, third)) == b"second"
    assert (first.asked, second.asked, third.asked) == (1, 1, 0)


@pytest.mark.parametrize("error", [Unavailable("out"), Refused("403"), Corrupt("bytes")])
def test_no_source_is_asked_where_the_bucket_cannot_tell(error):
    source = Place(b"source")
    with pytest.raises(type(error)):
        whole(behind(Place(error=error), source))
    assert source.asked == 0


def test_missing_only_where_all_say_so(caplog):
    caplog.set_level(logging.ERROR)
    found = behind(Place(), Place(), Place())
    for ask in (found.describe, lambda: whole(found), lambda: part(found, 0, 1)):
        with pytest.raises(BlobMissing) as caught:
            ask()
        assert caught.value.args == (OID, TID)
    assert "neither in the bucket nor in a source (a, b)" in caplog.text


@pytest.mark.parametrize("error", [Unavailable("out"), Corrupt("bytes")])
@pytest.mark.parametrize("position", [0, 1])
def test_a_source_that_is_down_is_never_a_missing_blob(error, position):
    places = [Place(), Place()]
    places[position].error = error
    found = behind(Place(), *places)
    for ask in (found.describe, lambda: whole(found), lambda: part(found, 0, 1)):
        with pytest.raises(type(error)) as caught:
            ask()
        assert not isinstance(caught.value, BlobMissing)
        assert str(caught.value).startswith(f"Source '{'ab'[position]}': ")


@pytest.mark.parametrize("error", [Unavailable("out"), Corrupt("bytes")])
def test_a_source_that_is_down_is_passed_over_where_another_has_it(error):
    assert whole(behind(Place(), Place(error=error), Place(b"second"))) == b"second"


def test_what_a_failed_source_wrote_is_not_in_the_file():
    first = Place(b"first, and longer")
    first.cut = 7
    assert whole(behind(Place(), first, Place(b"second"))) == b"second"


def test_bytes_that_were_passed_on_are_not_followed_by_another_sources():
    first = Place(b"first")
    first.cut = 2
    read = bytearray()
    with pytest.raises(Unavailable, match="Source 'a': cut"):
        behind(Place(), first, Place(b"second")).read(0, 5, read.extend, None)
    assert read == b"fi"


# Reading on


def test_what_was_found_is_read_on_in_the_same_place():
    bucket, first, second = Place(), Place(), Place(b"second")
    found = behind(bucket, first, second)
    _, validator = part(found, 0, 2)
    bucket.blobs = first.blobs = {(OID, TID): b"others"}
    assert part(found, 2, 2, validator) == (b"co", validator)
    assert found.describe() == (6, None) and whole(found) == b"second"
    assert (bucket.asked, first.asked) == (1, 1)


def test_another_process_goes_on_where_the_first_one_read():
    """It has the validator from the map of parts, and asks neither the bucket nor the sources before."""
    bucket, first, second = Place(), Place(), Place(b"second")
    _, validator = part(behind(bucket, first, second), 0, 2)
    bucket.blobs = {(OID, TID): b"bucket"}
    assert part(behind(bucket, first, second), 2, 2, validator) == (b"co", validator)
    assert (bucket.asked, first.asked) == (1, 1)


def test_the_bucket_s_validator_is_its_own():
    bucket, source = Place(b"bucket"), Place(b"source")
    _, validator = part(behind(bucket, source), 0, 2)
    assert validator == "v1"
    assert part(behind(bucket, source), 2, 2, validator) == (b"ck", "v1")


@pytest.mark.parametrize("in_bucket", [True, False])
def test_another_version_is_refused_and_no_byte_of_it_passed_on(in_bucket):
    bucket, source = Place(), Place()
    place = bucket if in_bucket else source
    place.blobs = {(OID, TID): b"first"}
    found = behind(bucket, source)
    _, validator = part(found, 0, 2)
    place.version = "v2"
    read = bytearray()
    with pytest.raises(PreconditionFailed):
        found.read(2, 2, read.extend, validator)
    assert not read


@pytest.mark.parametrize("in_bucket", [True, False])
def test_what_vanished_while_it_was_read_is_another_version_and_then_looked_for_everywhere(in_bucket):
    bucket, source = Place(), Place()
    place, other = (bucket, source) if in_bucket else (source, bucket)
    place.blobs = {(OID, TID): b"first"}
    found = behind(bucket, source, negative_cache=0.0)
    _, validator = part(found, 0, 2)
    place.blobs, other.blobs = {}, place.blobs
    with pytest.raises(PreconditionFailed):
        part(found, 2, 2, validator)
    assert part(found, 0, 2)[0] == b"fi" and whole(found) == b"first"


def test_a_validator_of_a_source_that_was_taken_out_is_another_version():
    _, validator = part(behind(Place(), Place(b"first")), 0, 2)
    with pytest.raises(PreconditionFailed):
        Overlay([(Place(b"first"), SourceOptions("z"))]).behind(Place().blob(REVISION), REVISION).read(
            2, 2, bytearray().extend, validator
        )


def test_an_error_while_reading_on_names_the_source():
    source = Place(b"first")
    found = behind(Place(), source)
    _, validator = part(found, 0, 2)
    source.error = Unavailable("out")
    for ask in (lambda: part(found, 2, 2, validator), lambda: whole(found)):
        with pytest.raises(Unavailable, match="Source 'a': out"):
            ask()


def test_what_the_reader_raises_goes_through_unchanged():
    class Mine(Exception):
        pass

    def write(data):
        raise error

    for error in (Mine(), Corrupt("mine")):
        for validator in (None, '"a"v1'):
            with pytest.raises(type(error)) as caught:
                behind(Place(), Place(b"first")).read(0, 2, write, validator)
            assert caught.value is error


# The options


def test_what_was_missing_is_not_asked_for_again_for_a_while(time):
    source = Place()
    sources = overlay(source, time=time, negative_cache=60.0)

    def ask() -> int:
        with pytest.raises(BlobMissing):
            whole(sources.behind(Place().blob(REVISION), REVISION))
        return source.asked

    assert [ask(), ask()] == [1, 1]
    time.now += 59.9
    assert ask() == 1
    time.now += 0.2
    assert ask() == 2
    other = Revision(OID, b"\4" * 8, BlobState())
    with pytest.raises(BlobMissing):
        whole(sources.behind(Place().blob(other), other))
    assert source.asked == 3


def test_nothing_is_remembered_with_0_and_no_outage_ever(time):
    source = Place()
    sources = overlay(source, time=time, negative_cache=0.0)
    for _ in range(2):
        with pytest.raises(BlobMissing):
            whole(sources.behind(Place().blob(REVISION), REVISION))
    assert source.asked == 2
    source = Place(b"first", error=Unavailable("out"))
    sources = overlay(source, time=time, negative_cache=60.0)
    with pytest.raises(Unavailable):
        whole(sources.behind(Place().blob(REVISION), REVISION))
    source.error = None
    assert whole(sources.behind(Place().blob(REVISION), REVISION)) == b"first"


def test_each_source_remembers_by_itself(time):
    first, second = Place(), Place(error=Unavailable("out"))
    sources = overlay(first, second, time=time, negative_cache=60.0)
    for _ in range(2):
        with pytest.raises(Unavailable):
            whole(sources.behind(Place().blob(REVISION), REVISION))
    assert (first.asked, second.asked) == (1, 2)


def test_negative_cache_is_bounded(time):
    cache = NegativeCache(60.0, time, entries=3)
    for number in range(5):
        cache.note(bytes([number]))
    assert len(cache) == 3
    assert [bytes([number]) in cache for number in range(5)] == [False, False, True, True, True]
    time.now += 61
    assert bytes([4]) not in cache and len(cache) == 2


@pytest.mark.parametrize(("fork", "asked"), [(b"\3" * 8, 1), (b"\2" * 8, 0), (b"\4" * 8, 1)])
def test_only_revisions_up_to_the_fork_are_looked_for(fork, asked):
    source = Place(b"first")
    sources = overlay(source, fork_tid=fork)
    assert sources.forked
    assert sources.has(REVISION) is bool(asked)
    assert source.asked == asked
    assert not overlay(source).forked


@pytest.mark.parametrize("known", [True, False])
def test_a_blob_above_max_size_is_not_taken_and_not_missing(known):
    source, other = Place(b"eleven byte"), Place()
    revision = Revision(OID, TID, BlobState("0" * 32, 11) if known else BlobState())
    found = behind(Place(), source, other, revision=revision, max_size=10)
    for ask in (lambda: whole(found), lambda: part(found, 0, 1)):
        with pytest.raises(Unavailable, match="Source 'a': A blob of 11 bytes .* max-size is 10"):
            ask()
    assert whole(behind(Place(), source, revision=revision, max_size=11)) == b"eleven byte"
    # That a source does not have it at all says nothing about its size.
    with pytest.raises(BlobMissing):
        whole(behind(Place(), other, revision=revision, max_size=10))


def test_the_size_that_the_record_says_costs_no_request():
    source = Place(b"first")
    revision = Revision(OID, TID, BlobState("0" * 32, 5))
    found = behind(Place(), source, revision=revision, max_size=10)
    assert found.described == (5, None) and found.describe() == (5, None)
    assert source.asked == 0
    whole(found)
    assert source.asked == 1


# Opening and closing


@dataclasses.dataclass(frozen=True)
class Settings:
    options: SourceOptions
    place: Place
    fails: bool = False

    def open(self, base, clock):
        if self.fails:
            raise ValueError("no")
        return self.place


def test_sources_are_looked_at_once_and_closed():
    places = [Place(), Place()]
    places[0].check = lambda: 1 / 0  # whatever happens there
    opened = chain.open_overlay(
        [Settings(SourceOptions(name), place) for name, place in zip("ab", places, strict=True)], None
    )
    assert opened.names == ("a", "b")
    opened.close()
    opened.close()
    assert places[1].checked and all(place.closed for place in places)


def test_where_one_cannot_be_opened_the_others_are_closed():
    first = Place()
    with pytest.raises(ValueError):
        chain.open_overlay(
            [Settings(SourceOptions("a"), first), Settings(SourceOptions("b"), Place(), fails=True)], None
        )
    assert first.closed and not first.checked


def test_fetching_goes_to_the_next_source_with_an_empty_file_and_not_to_the_bucket():
    first, second = Place(b"damaged and longer"), Place(b"good")
    first.cut = 9
    file = io.BytesIO()
    overlay(first, second).fetch(REVISION, file)
    assert file.getvalue() == b"good" and (first.asked, second.asked) == (1, 1)
    with pytest.raises(Corrupt, match="Source 'a'"):
        overlay(first, Place()).fetch(REVISION, io.BytesIO())
    with pytest.raises(BlobMissing):
        overlay(Place(), Place()).fetch(REVISION, io.BytesIO())
    with pytest.raises(BlobMissing):
        NoOverlay().fetch(REVISION, io.BytesIO())


@pytest.mark.parametrize(
    "error", [Archived(), EncryptionKeyMissing("2026/0a1b2c3d", other=True), Refused("no"), Unavailable("out")]
)
def test_an_error_says_its_source_whatever_its_class_is_made_with(error):
    source = Place(b"x", error=error)
    with pytest.raises(type(error)) as caught:
        behind(Place(), source).describe()
    assert str(caught.value) == f"Source 'a': {error}"
    assert getattr(caught.value, "id", "") == getattr(error, "id", "")
    later = Place(b"later")
    assert behind(Place(), source, later).describe()[0] == 5
