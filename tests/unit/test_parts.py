"""Large blobs read by parts: every byte right, and no request that nobody needed."""

from __future__ import annotations

import contextlib
import csv
import email
import functools
import gc
import io
import os
import pickle
import random
import shutil
import tarfile
import threading
import time
import weakref
import zipfile
from pathlib import Path

import pytest
from cache_state import Form, downloads_are_locked, stored_bytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from part_source import MemorySource
from rings import ring
from waiting import wait_until
from ZODB.utils import p64
from zope.interface.verify import verifyObject

from collective.s3blobstorage.cache import BlobCache, partreader, prefetch
from collective.s3blobstorage.cache.interfaces import IBlobSource
from collective.s3blobstorage.cache.partfile import PartFile
from collective.s3blobstorage.cache.prefetch import PARALLEL
from collective.s3blobstorage.errors import Corrupt, Unavailable

MB = 1024 * 1024
OID = bytes.fromhex("000000000000a1b2")
TID = bytes.fromhex("03f0000000000001")
PART = 1000
THRESHOLD = 2500
NAME = Path("/the/name")


@pytest.fixture(autouse=True, params=["plain", "encrypted"])
def form(request, monkeypatch):
    """Everything here holds whether the files are encrypted or not."""
    monkeypatch.setattr(Form, "ring", ring() if request.param == "encrypted" else None)


def bytes_at(cache, path):
    return stored_bytes(cache, path, OID, TID)


@functools.lru_cache(maxsize=4)
def content(size, seed=1):
    return random.Random(seed).randbytes(size)


def in_threads(works):
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def open_blob_files():
    names = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            names.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return [name for name in names if "/blobs/" in name]


def files_of_blobs(tmp_path):
    return sorted(path.suffix for path in tmp_path.glob("cache/*/blobs/*/*"))


@pytest.fixture
def open_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    caches = []

    def open_cache(**options):
        options = {"size": 100 * MB, "part_threshold": THRESHOLD, "part_size": PART, "ring": Form.ring, **options}
        cache = BlobCache(tmp_path / "cache", "store", **options)
        caches.append(cache)
        return cache

    yield open_cache
    for cache in caches:
        cache.close()
    assert list((tmp_path / "elsewhere").rglob("*")) == []
    assert not downloads_are_locked(tmp_path)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("s3blobs-parts")]


@pytest.fixture
def cache(open_cache):
    return open_cache()


def lazily(cache, source, **more):
    return cache.open_lazily(OID, TID, source, name=NAME, **more)


def published(cache):
    wait_until(lambda: cache.get(OID, TID) is not None)
    return cache.get(OID, TID)


def test_the_source_of_the_tests_honours_its_contract():
    assert verifyObject(IBlobSource, MemorySource(b""))


# Nothing before a byte


def test_opening_seeking_and_closing_ask_for_nothing(cache, tmp_path):
    source = MemorySource(content(10 * PART))
    reader = lazily(cache, source)
    assert reader.readable() and reader.seekable() and not reader.writable()
    assert reader.name is NAME and reader.mode == "rb"
    assert reader.seek(3 * PART) == reader.tell() == 3 * PART
    assert source.descriptions == 0
    assert reader.seek(0, os.SEEK_END) == 10 * PART
    assert reader.seek(-10, os.SEEK_END) == 10 * PART - 10
    reader.close()
    assert source.requests == 0
    assert source.descriptions == 1
    assert files_of_blobs(tmp_path) == []


def test_beyond_the_end_there_is_nothing_and_no_request(cache):
    source = MemorySource(content(10 * PART))
    with lazily(cache, source) as reader:
        reader.seek(10 * PART)
        assert reader.read() == reader.read(10) == b""
        reader.seek(99 * PART)
        assert reader.read(1) == b""
        with pytest.raises(ValueError):
            reader.seek(-1)
        with pytest.raises(io.UnsupportedOperation):
            reader.write(b"x")
    assert source.requests == 0
    with pytest.raises(ValueError):
        reader.read(1)


# Every size


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    "size", [0, 1, PART, THRESHOLD, THRESHOLD + 1, 3 * PART, 3 * PART + 1, 4 * PART - 1, 20 * PART]
)
def test_every_size_is_read_whole_once_and_becomes_a_file(cache, size, known):
    source = MemorySource(content(size), known=known)
    with lazily(cache, source) as reader:
        assert reader.read() == source.data
        assert reader.seek(0, os.SEEK_END) == size
        reader.seek(0)
        assert reader.read() == source.data
    if size <= THRESHOLD:
        assert source.reads == [] and source.downloads == (1 if size else 0)
    else:
        assert source.parts(PART) == list(range(-(-size // PART)))
        assert source.moved == size
        assert source.downloads == 0
    if size:
        path = published(cache)
        assert bytes_at(cache, path) == source.data and path.stat().st_mode & 0o777 == 0o400
        requests = source.requests
        with lazily(cache, source) as reader:
            assert reader.read() == source.data
        assert source.requests == requests
        assert cache.complete(OID, TID, source) == path
        assert source.requests == requests


class Described(MemorySource):
    """One whose record says the size."""

    @property
    def described(self):
        return len(self.data), self.sha256


@pytest.mark.parametrize("size", [THRESHOLD, 4 * PART], ids=["whole", "parts"])
def test_who_was_told_that_it_is_not_there_finds_what_came_meanwhile(cache, size, monkeypatch):
    """Nothing is looked for twice, and nothing is brought twice."""
    monkeypatch.setattr(partreader, "_LOOKED", 1000.0)
    source, other = Described(content(size)), Described(content(size))
    with lazily(cache, source, looked=True) as reader:
        cache.complete(OID, TID, other)
        assert reader.seek(0, os.SEEK_END) == size and reader.seek(0) == 0
        assert reader.read() == source.data
    assert source.requests == 0


@pytest.mark.parametrize("size", [THRESHOLD, 200 * PART], ids=["whole", "parts"])
def test_a_cold_read_looks_for_the_file_as_seldom_as_it_can(cache, size, monkeypatch):
    """Each look is a call of the system, of which a small cold read is made."""
    looks, find = [], cache._find_text

    def looked(oid, tid):
        looks.append(tid)
        return find(oid, tid)

    monkeypatch.setattr(cache, "_find_text", looked)
    assert cache.get(OID, TID) is None
    with lazily(cache, Described(content(size)), looked=True) as reader:
        reader.read(1)
    assert len(looks) == 2, "by who opens it, and under the lock of who brings it"


def test_a_published_blob_leaves_one_file(cache, tmp_path):
    source = MemorySource(content(10 * PART))
    with lazily(cache, source) as reader:
        reader.read()
    published(cache)
    wait_until(lambda: files_of_blobs(tmp_path) == [".blob"])


def test_after_publishing_an_open_reader_reads_on(cache):
    source = MemorySource(content(10 * PART))
    with lazily(cache, source) as reader:
        reader.read()
        os.unlink(published(cache))
        reader.seek(5 * PART)
        assert reader.read() == source.data[5 * PART :]
        assert source.parts(PART) == list(range(10))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 12 * PART),
    st.lists(st.tuples(st.sampled_from(["seek", "back", "end", "read", "read1", "readline", "readinto", "peek"]),
                       st.integers(0, 13 * PART)), max_size=25),
)  # fmt: skip
def test_any_sequence_reads_what_a_file_in_memory_does(tmp_path_factory, size, steps):
    cache = BlobCache(tmp_path_factory.mktemp("cache"), "store", size=MB, part_threshold=THRESHOLD, part_size=PART)
    source = MemorySource(content(size, seed=size))
    expected = io.BytesIO(source.data)
    with lazily(cache, source) as reader:
        for step, number in steps:
            if step == "seek":
                assert reader.seek(number) == expected.seek(number)
            elif step == "back":
                number = -min(number, expected.tell())
                assert reader.seek(number, os.SEEK_CUR) == expected.seek(number, os.SEEK_CUR)
            elif step == "end":
                number = -min(number, size)
                assert reader.seek(number, os.SEEK_END) == expected.seek(number, os.SEEK_END)
            elif step == "readinto":
                mine, theirs = bytearray(number), bytearray(number)
                assert reader.readinto(mine) == expected.readinto(theirs)
                assert mine == theirs
            elif step == "peek":
                assert expected.getvalue()[expected.tell() :].startswith(reader.peek())
            elif step == "read1":
                data = reader.read1(number)
                assert data == expected.read(len(data))
                assert data or not number or expected.tell() >= size
            else:
                assert getattr(reader, step)(number) == getattr(expected, step)(number)
            assert reader.tell() == expected.tell()
    cache.close()
    # A run that was given up was asked for to its end: what arrived of it counts.
    assert cache.counters.snapshot()["parts"] <= -(-size // PART), "a part was downloaded twice"


def test_backwards_each_part_once(cache):
    source = MemorySource(content(10 * PART))
    with lazily(cache, source) as reader:
        for at in reversed(range(0, 10 * PART, 500)):
            reader.seek(at)
            assert reader.read(500) == source.data[at : at + 500]
    assert sorted(source.reads) == [(at, PART) for at in range(0, 10 * PART, PART)]


# Requests and bytes


def test_the_last_megabyte_costs_one_part(open_cache):
    cache = open_cache(part_threshold=8 * MB, part_size=4 * MB)
    source = MemorySource(content(33 * MB))
    with lazily(cache, source) as reader:
        reader.seek(-MB, os.SEEK_END)
        assert reader.read() == source.data[-MB:]
    assert source.reads == [(32 * MB, MB)]
    assert source.moved == MB


def test_the_first_byte_costs_one_part_and_needs_no_more(open_cache):
    cache = open_cache(part_threshold=8 * MB, part_size=4 * MB)
    source = MemorySource(content(33 * MB))
    with lazily(cache, source) as reader:
        assert reader.read(1) == source.data[:1]
        assert reader.read(100_000) == source.data[1:100_001]
    assert source.reads == [(0, 4 * MB)]


def test_random_reading_brings_nothing_that_nobody_read(open_cache):
    cache = open_cache(part_threshold=8 * MB, part_size=256 * 1024)
    source = MemorySource(content(40 * MB))
    randomly = random.Random(5)
    touched = set()
    with lazily(cache, source) as reader:
        for _ in range(40):
            at = randomly.randrange(0, 40 * MB - 10)
            reader.seek(at)
            assert reader.read(10) == source.data[at : at + 10]
            # a small read takes what the buffer holds
            touched |= {at // (256 * 1024), min(at + 64 * 1024, 40 * MB - 1) // (256 * 1024)}
    cache.close()
    assert {start // (256 * 1024) for start, _ in source.reads} <= touched


def test_a_read_over_several_parts_fetches_them_at_the_same_time(cache):
    source = MemorySource(content(20 * PART))
    together = threading.Barrier(4, timeout=10)  # breaks where one waits for the other
    source.before = lambda start, length: together.wait()
    with lazily(cache, source) as reader:
        data = bytearray(4 * PART)
        assert reader.raw.readinto(data) == 4 * PART
        assert data == source.data[: 4 * PART]
        assert sorted(source.reads) == [(at, PART) for at in range(0, 4 * PART, PART)]


def test_going_on_fetches_ahead_and_never_beyond_the_window(open_cache, monkeypatch):
    part = 100 * 1024
    monkeypatch.setattr(prefetch, "LONGEST", 4 * part)
    monkeypatch.setattr(prefetch, "AHEAD", 10 * part)
    cache = open_cache(part_size=part)
    source = MemorySource(content(50 * part))
    with lazily(cache, source) as reader:
        read = 0
        while read < 20 * part:
            read += len(reader.read(part // 2))
            # The buffer may be 64 KB ahead.
            assert source.parts(part)[-1] <= (read + 64 * 1024) // part + 10
        wait_until(lambda: source.parts(part)[-1] > 20 + 5)
        assert max(length for start, length in source.reads) == 4 * part
    cache.close()
    assert source.parts(part)[-1] <= 20 + 10


@pytest.fixture
def small_scale(monkeypatch):
    """A unit that is to the bounds of the requests as a megabyte is to those of every day."""
    unit = 16 * 1024
    monkeypatch.setattr(prefetch, "LONGEST", prefetch.LONGEST // MB * unit)
    monkeypatch.setattr(prefetch, "AHEAD", prefetch.AHEAD // MB * unit)
    return unit


def asked_at_best(ideal, read, mb):
    """The requests, in units, of the best of three readings: where the machine is busy with other things, a reader
    overtakes the threads that go ahead of him now and then, and asks for a part by himself."""
    for number in range(3):
        source = MemorySource(content(256 * mb))
        read(p64(number) if number else TID, source)
        asked = sorted((start // mb, length // mb) for start, length in source.reads)
        assert source.parts(4 * mb) == list(range(64)) and source.moved == 256 * mb
        if len(asked) <= ideal:
            break
    return asked


@pytest.mark.parametrize("piece", [1 / 16, 1, 6])
def test_a_large_blob_that_is_read_on_costs_few_requests(open_cache, small_scale, piece):
    """As with the defaults: 256 MB by parts of 4 MB."""
    mb = small_scale
    cache = open_cache(part_threshold=8 * mb, part_size=4 * mb)

    def read(tid, source):
        with cache.open_lazily(OID, tid, source, name=NAME) as reader:
            data = list(iter(lambda: reader.read(int(piece * mb)), b""))
        assert b"".join(data) == source.data

    # Who asks for more than a part at a time is sometimes faster than the requests that go ahead of him; 64 it would be
    # without any of them.
    most = 11 if piece < 4 else 32
    asked = asked_at_best(most, read, mb)
    if piece < 4:
        assert asked == [(0, 4), (4, 8), (12, 16), *((at, 32) for at in range(28, 252, 32)), (252, 4)]
    assert len(asked) <= most


@pytest.mark.parametrize("how", ["complete", "read"])
def test_a_whole_large_blob_costs_few_requests(open_cache, small_scale, how):
    mb = small_scale
    cache = open_cache(part_threshold=8 * mb, part_size=4 * mb)

    def read(tid, source):
        if how == "complete":
            assert bytes_at(cache, cache.complete(OID, tid, source)) == source.data
        else:
            with cache.open_lazily(OID, tid, source, name=NAME) as reader:
                assert reader.read() == source.data

    asked = asked_at_best(9, read, mb)
    # The first part says which version the others have to be of.
    assert asked[0] == (0, 4) and len(asked) == 9


def test_a_smaller_one_is_completed_by_four_requests_at_the_same_time(cache):
    source = MemorySource(content(17 * PART))
    with lazily(cache, source) as reader:
        reader.raw.readinto(bytearray(1))
    together = threading.Barrier(4, timeout=10)  # breaks where one waits for the other
    source.before = lambda start, length: together.wait()
    assert bytes_at(cache, cache.complete(OID, TID, source)) == source.data
    assert sorted(source.reads[1:]) == [(at * PART, 4 * PART) for at in (1, 5, 9, 13)]


def test_a_closed_reader_drops_what_has_not_begun(open_cache):
    part = 100 * 1024
    cache = open_cache(part_size=part)
    source = MemorySource(content(50 * part))
    proceed = threading.Event()
    held = threading.Semaphore(0)
    # All threads stand still, with the runs of two other blobs: what this reader wishes waits for one.
    fillers = []
    for number in range(2):
        other = MemorySource(content(50 * part))
        other.before = lambda start, length: start and (held.release(), proceed.wait(10))
        fillers.append(threading.Thread(target=cache.complete, args=(bytes([number] * 8), TID, other)))
    for filler in fillers:
        filler.start()
    for _ in range(PARALLEL + 2):
        assert held.acquire(timeout=10)
    reader = lazily(cache, source)
    assert reader.read(250 * 1024) == source.data[: 250 * 1024]  # by itself, a part at a time
    assert source.reads == [(at * part, part) for at in range(3)]
    started = time.monotonic()
    reader.close()
    assert time.monotonic() - started < 1
    proceed.set()
    for filler in fillers:
        filler.join()
    cache.close()
    assert len(source.reads) == 3, "parts that nobody waits for were fetched"


# A run that is under way


class Standing:
    """A source whose request for parts 3 to 6 stands still when it has delivered so many whole parts."""

    PART = 4 * 4096  # four blocks of the source

    def __init__(self, cache, parts):
        self.source = MemorySource(content(40 * self.PART))
        self.stands, self.proceed = threading.Event(), threading.Event()
        self._blocks = 4 * parts
        self.source.between = self._between
        self.reader = lazily(cache, self.source)
        # Parts 0, then 1 and 2, then 3 to 6: see test_parts_window.
        for at in range(5):
            assert self.reader.raw.readinto(bytearray(self.PART // 2)), at
        assert self.stands.wait(10)

    def _between(self, start, length):
        if start == 3 * self.PART and length == 4 * self.PART:
            self._blocks -= 1
            if self._blocks == 0:
                self.stands.set()
                assert self.proceed.wait(10)

    def expected(self, part):
        return self.source.data[part * self.PART : (part + 1) * self.PART]


def read_part(cache, source, part, size):
    with lazily(cache, source) as reader:
        reader.seek(part * size)
        data = bytearray(size)
        assert reader.raw.readinto(data) == size
        return data


def test_who_waits_for_a_part_of_a_run_waits_for_that_part_only(open_cache):
    cache = open_cache(part_size=Standing.PART)
    standing = Standing(cache, 2)
    source = standing.source
    for part in (3, 4):
        assert read_part(cache, source, part, standing.PART) == standing.expected(part)
    got = []
    thread = threading.Thread(target=lambda: got.append(read_part(cache, source, 5, standing.PART)))
    thread.start()
    wait_until(lambda: cache.counters.snapshot()["waits"] > 0)
    thread.join(0.1)
    assert got == []
    standing.proceed.set()
    thread.join()
    assert got == [standing.expected(5)]
    standing.reader.close()
    cache.close()
    assert source.reads[:3] == [(at * standing.PART, count * standing.PART) for at, count in ((0, 1), (1, 2), (3, 4))]
    assert len(source.parts(standing.PART)) == len(set(source.parts(standing.PART)))


@pytest.mark.parametrize("how", ["closed", "elsewhere"])
def test_a_run_that_nobody_wants_any_more_ends_at_the_next_border(open_cache, tmp_path, how):
    cache = open_cache(part_size=Standing.PART)
    standing = Standing(cache, 1)
    source, reader = standing.source, standing.reader
    if how == "closed":
        reader.close()
    else:
        reader.seek(30 * standing.PART)
        reader.raw.readinto(bytearray(1))
    assert downloads_are_locked(tmp_path)
    standing.proceed.set()
    wait_until(lambda: not downloads_are_locked(tmp_path))  # then nothing is under way
    elsewhere = [] if how == "closed" else [(30 * standing.PART, standing.PART)]
    assert source.reads[2:] == [(3 * standing.PART, 4 * standing.PART), *elsewhere]
    assert cache.counters.snapshot()["parts"] == 3 + 2 + len(elsewhere)  # 0 to 4: part 4 was begun
    reader.close()


def test_a_run_goes_on_to_the_last_part_that_somebody_waits_for(open_cache):
    cache = open_cache(part_size=Standing.PART)
    standing = Standing(cache, 1)
    source = standing.source
    before = cache.counters.snapshot()["waits"]
    got = []
    thread = threading.Thread(target=lambda: got.append(read_part(cache, source, 5, standing.PART)))
    thread.start()
    wait_until(lambda: cache.counters.snapshot()["waits"] > before)
    standing.reader.close()
    standing.proceed.set()
    thread.join()
    assert got == [standing.expected(5)]
    cache.close()
    assert cache.counters.snapshot()["parts"] == 6  # 0 to 5
    assert len(source.reads) == 3


def test_a_run_that_breaks_keeps_what_arrived_and_frees_what_did_not(open_cache):
    cache = open_cache(part_size=Standing.PART)
    standing = Standing(cache, 1)
    source, size = standing.source, standing.PART
    before = cache.counters.snapshot()["waits"]
    got, errors = {}, {}

    def read(part):
        try:
            got[part] = read_part(cache, source, part, size)
        except Unavailable as error:
            errors[part] = str(error)

    threads = [threading.Thread(target=read, args=(part,)) for part in (4, 5, 6)]
    for thread in threads:
        thread.start()
    wait_until(lambda: cache.counters.snapshot()["waits"] == before + 3)

    def fail(start, length):
        if start == 3 * size:
            raise Unavailable("down")

    source.between = fail  # after the first block of part 4
    standing.proceed.set()
    for thread in threads:
        thread.join()
    assert errors == {4: "down"}
    assert got == {5: standing.expected(5), 6: standing.expected(6)}
    assert sorted(source.reads[3:]) == [(5 * size, size), (6 * size, size)]
    asked = len(source.reads)
    assert read_part(cache, source, 3, size) == standing.expected(3)
    assert len(source.reads) == asked, "a part that had arrived was fetched again"
    assert read_part(cache, source, 4, size) == standing.expected(4)
    standing.reader.close()


def test_a_source_that_goes_on_after_it_was_stopped_writes_nothing_more(open_cache):
    cache = open_cache()
    source = MemorySource(content(20 * PART), known=False)
    read = source.read

    def swallowing(start, length, write, validator):
        def careless(data):
            with contextlib.suppress(Exception):
                write(data)

        return read(start, length, careless, validator)

    source.read = swallowing
    with lazily(cache, source) as reader:
        reader.raw.readinto(bytearray(PART))
        reader.raw.readinto(bytearray(PART))
    with lazily(cache, source) as reader:
        assert reader.read() == source.data


def test_closing_the_cache_while_parts_are_on_their_way(open_cache):
    cache = open_cache()
    source = MemorySource(content(100 * PART))
    started = threading.Event()

    def between(start, length):
        if start:
            started.set()
            time.sleep(0.05)

    source.between = between
    reader = lazily(cache, source)
    errors = []

    def read():
        try:
            reader.read()
        except Unavailable as error:
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    assert started.wait(10)
    cache.close()
    thread.join(10)
    assert not thread.is_alive() and len(errors) == 1
    reader.close()


# Several readers


def test_readers_in_several_threads_share_each_part(cache):
    source = MemorySource(content(60 * PART))
    source.before = lambda start, length: time.sleep(0.002)
    wrong = []

    def read(seed):
        randomly = random.Random(seed)
        with lazily(cache, source) as reader:
            for _ in range(30):
                at = randomly.randrange(60 * PART)
                reader.seek(at)
                if reader.read(3 * PART) != source.data[at : at + 3 * PART]:
                    wrong.append(at)
            reader.seek(0)
            if reader.read() != source.data:
                wrong.append("all")

    in_threads([lambda seed=seed: read(seed) for seed in range(6)])
    assert wrong == []
    assert set(source.parts(PART)) == set(range(60))
    assert cache.counters.snapshot()["parts"] == 60
    assert cache.counters.snapshot()["waits"] > 0


def test_a_waiting_reader_gets_its_bytes_when_the_part_is_there(cache):
    """Not when the blob is."""
    source = MemorySource(content(10 * PART))
    first, last = threading.Event(), threading.Event()

    def before(start, length):
        if start == 0:
            first.set()
        else:
            assert last.wait(10)

    source.before = before
    whole = threading.Thread(target=lambda: cache.complete(OID, TID, source))
    whole.start()
    assert first.wait(10)
    with lazily(cache, source) as reader:
        data = bytearray(100)
        assert reader.raw.readinto(data) == 100 and data == source.data[:100]
    last.set()
    whole.join()
    assert source.parts(PART) == list(range(10))


def test_a_failure_reaches_all_who_wait_and_no_later_one(cache):
    source = MemorySource(content(10 * PART))
    errors = []

    def fail(start, length):
        wait_until(lambda: cache.counters.snapshot()["waits"] == 4)
        raise Unavailable("down")

    source.between = fail

    def read():
        with lazily(cache, source) as reader:
            try:
                reader.raw.readinto(bytearray(10))
            except Unavailable as error:
                errors.append(str(error))

    in_threads([read] * 5)
    assert errors == ["down"] * 5 and len(source.reads) == 1
    source.between = lambda start, length: None
    with lazily(cache, source) as reader:
        assert reader.read() == source.data
    assert source.parts(PART) == [0, *range(10)]


def test_a_reader_goes_on_after_a_failure_where_it_was(cache):
    source = MemorySource(content(10 * PART))
    with lazily(cache, source) as reader:
        assert reader.raw.readinto(bytearray(PART)) == PART
        source.before = lambda start, length: (_ for _ in ()).throw(Unavailable("down"))
        with pytest.raises(Unavailable):
            reader.raw.readinto(bytearray(2 * PART))
        assert reader.tell() == PART
        source.before = lambda start, length: None
        assert reader.raw.readall() == source.data[PART:]


def test_what_a_source_raises_beside_its_contract_goes_through_too(cache):
    source = MemorySource(content(10 * PART))
    source.before = lambda start, length: (_ for _ in ()).throw(ConnectionResetError(104, "reset"))
    with lazily(cache, source) as reader, pytest.raises(ConnectionResetError):
        reader.read(1)
    with pytest.raises(ConnectionResetError):
        cache.complete(OID, TID, source)
    assert cache.counters.snapshot()["errors"] == 0


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x"])
def test_a_source_that_delivers_another_length_is_refused(cache, change):
    source = MemorySource(content(10 * PART))
    read = source.read

    def lie(start, length, write, validator):
        pieces = []
        version = read(start, length, pieces.append, validator)
        write(change(b"".join(bytes(piece) for piece in pieces)))
        return version

    source.read = lie
    with lazily(cache, source) as reader, pytest.raises(Corrupt):
        reader.read(1)
    source.read = read
    with lazily(cache, source) as reader:
        assert reader.read() == source.data


# Completing


def test_complete_uses_the_parts_that_are_here(cache):
    source = MemorySource(content(20 * PART))
    with lazily(cache, source) as reader:
        reader.seek(7 * PART)
        reader.raw.readinto(bytearray(2 * PART))
        assert len(source.reads) == 2
        assert bytes_at(cache, cache.complete(OID, TID, source)) == source.data
    assert source.parts(PART) == list(range(20))
    counted = cache.counters.snapshot()
    assert (counted["misses"], counted["parts"], counted["bytes"]) == (2, 20, 20 * PART)


def test_complete_in_ten_threads_downloads_once(cache):
    source = MemorySource(content(20 * PART))
    source.before = lambda start, length: wait_until(lambda: cache.counters.snapshot()["waits"] >= 9)
    paths = []
    in_threads([lambda: paths.append(cache.complete(OID, TID, source))] * 10)
    assert len(paths) == 10 and len(set(paths)) == 1
    assert source.parts(PART) == list(range(20))
    assert cache.counters.snapshot()["hits"] == 0 and cache.counters.snapshot()["misses"] == 10


def test_complete_of_a_small_blob_is_one_download(cache):
    source = MemorySource(content(THRESHOLD))
    assert bytes_at(cache, cache.complete(OID, TID, source)) == source.data
    assert (source.downloads, source.reads) == (1, [])
    assert cache.counters.snapshot()["misses"] == 1


def test_fileno_completes(cache):
    source = MemorySource(content(10 * PART))
    reader = lazily(cache, source)
    reader.seek(1234)
    descriptor = reader.fileno()
    assert os.fstat(descriptor).st_size == 10 * PART
    assert os.read(descriptor, 100) == source.data[1234:1334]
    assert reader.fileno() == descriptor
    with pytest.raises(OSError):
        os.write(descriptor, b"no")
    assert reader.read(10) == source.data[1234:1244]
    os.unlink(cache.get(OID, TID))
    assert os.pread(descriptor, 10, 0) == source.data[:10]
    reader.close()
    with pytest.raises(OSError):
        os.fstat(descriptor)


@pytest.mark.parametrize("size", [1000, 10 * PART])
def test_fileno_where_the_file_is_evicted_before_it_is_opened(cache, monkeypatch, size):
    source = MemorySource(content(size))
    complete = cache.complete

    def evicting(*arguments):
        path = complete(*arguments)
        os.unlink(path)
        return path

    monkeypatch.setattr(cache, "complete", evicting)
    with lazily(cache, source) as reader:
        assert os.pread(reader.fileno(), size, 0) == source.data


# The size is remembered


def test_what_the_source_said_of_itself_is_remembered_beside_the_parts(open_cache):
    source = MemorySource(content(10 * PART))
    cache = open_cache()
    with lazily(cache, source) as reader:
        reader.raw.readinto(bytearray(1))
    assert source.descriptions == 1
    cache.close()
    cache = open_cache()
    with lazily(cache, source) as reader:
        assert reader.seek(0, os.SEEK_END) == 10 * PART
        reader.seek(0)
        assert reader.read() == source.data
    assert source.descriptions == 1
    assert source.parts(PART) == list(range(10))


# Wrong as a whole


@pytest.mark.parametrize("how", ["read", "small reads", "complete", "fileno"])
def test_another_sha256_is_corrupt_and_leaves_nothing(cache, tmp_path, how, caplog):
    source = MemorySource(content(10 * PART))
    right = source.data
    source.data = right[:1500] + b"\0" + right[1501:]
    with lazily(cache, source) as reader:
        with pytest.raises(Corrupt):
            if how == "read":
                reader.read()
            elif how == "small reads":
                while reader.raw.readinto(bytearray(300)):
                    pass
            elif how == "complete":
                cache.complete(OID, TID, source)
            else:
                reader.fileno()
        if how != "complete":
            with pytest.raises(Corrupt):
                reader.seek(0)
                reader.read()
    assert "do not have the blob's SHA-256" in caplog.text
    assert files_of_blobs(tmp_path) == []
    assert cache.get(OID, TID) is None
    source.data = right
    with lazily(cache, source) as reader:
        assert reader.read() == right


# Rewritten while it is read


def test_rewritten_with_the_same_bytes_begins_anew(cache):
    source = MemorySource(content(10 * PART))
    with lazily(cache, source) as reader:
        assert reader.raw.readinto(bytearray(2 * PART)) == 2 * PART
        source.version = "v2"
        assert reader.raw.readall() == source.data[2 * PART :]
        reader.seek(0)
        assert reader.read() == source.data
    assert bytes_at(cache, published(cache)) == source.data
    assert set(source.validators) == {None, "v1", "v2"}
    with lazily(cache, source) as reader:
        assert reader.read() == source.data


@pytest.mark.parametrize("change", ["size", "unknown", "again"])
def test_rewritten_otherwise_is_an_error_and_the_next_reader_reads_the_new_one(cache, change, tmp_path):
    source = MemorySource(content(10 * PART), known=change != "unknown")
    with lazily(cache, source) as reader:
        reader.raw.readinto(bytearray(2 * PART))
        if change == "size":
            source.data = content(11 * PART, seed=2)
            source.sha256 = MemorySource(source.data).sha256
        source.version = "v2"
        if change == "again":
            reader.raw.readinto(bytearray(PART))
            source.version = "v3"
        with pytest.raises(Unavailable, match="rewritten while it was read"):
            reader.raw.readinto(bytearray(PART))
        with pytest.raises(Unavailable, match="rewritten while it was read"):
            reader.raw.readinto(bytearray(PART))  # never bytes of the one, then of the other
    with lazily(cache, source) as reader:
        assert reader.read() == source.data


def test_complete_begins_anew_once(cache):
    source = MemorySource(content(10 * PART))
    with lazily(cache, source) as reader:
        reader.raw.readinto(bytearray(2 * PART))
    source.version = "v2"
    assert bytes_at(cache, cache.complete(OID, TID, source)) == source.data


def test_parts_of_two_versions_never_become_one_file(cache):
    """Two parts are asked for at the same moment, and the object changes between the answers."""
    source = MemorySource(content(10 * PART), known=False)
    both = threading.Barrier(2, timeout=10)
    asked = set()
    read = source.read

    def changing(start, length, write, validator):
        if start in asked:
            # The reader came to the part only after the other thread had failed with it, and asks by itself.
            return read(start, length, write, validator)
        asked.add(start)
        both.wait()
        read(start, length, write, validator)
        both.wait()
        return f"of {start}"

    source.read = changing
    with lazily(cache, source) as reader:
        with pytest.raises(Unavailable, match="rewritten"):
            reader.raw.readinto(bytearray(2 * PART))
        with pytest.raises(Unavailable, match="rewritten"):
            reader.raw.readinto(bytearray(2 * PART))  # never bytes of the one, then of the other


# Evicted


def evict(tmp_path, suffixes=(".map", ".part")):
    for suffix in suffixes:
        for path in tmp_path.glob(f"cache/*/blobs/*/*{suffix}"):
            path.unlink()


@pytest.mark.parametrize("suffixes", [(".map", ".part"), (".map",), (".part",)])
def test_evicted_while_it_is_read(cache, tmp_path, suffixes):
    source = MemorySource(content(10 * PART))
    with lazily(cache, source) as reader:
        reader.raw.readinto(bytearray(2 * PART))
        evict(tmp_path, suffixes)
        assert reader.raw.readall() == source.data[2 * PART :]
        reader.seek(0)
        assert reader.read() == source.data
        assert source.parts(PART) == list(range(10))  # it goes on with what it has open
    assert bytes_at(cache, published(cache)) == source.data


@pytest.mark.parametrize("suffixes", [(".map", ".part"), (".map",), (".part",)])
def test_evicted_and_begun_anew_by_another_reader(cache, tmp_path, suffixes):
    source = MemorySource(content(10 * PART))
    with lazily(cache, source) as old:
        old.raw.readinto(bytearray(9 * PART))
        evict(tmp_path, suffixes)
        with lazily(cache, source) as new:
            new.raw.readinto(bytearray(PART))
            assert files_of_blobs(tmp_path) == [".map", ".part"]
            old.seek(0)
            assert old.read() == source.data  # publishes a copy: the names are the new reader's
            assert bytes_at(cache, published(cache)) == source.data
            new.seek(0)
            assert new.read() == source.data
    assert bytes_at(cache, cache.get(OID, TID)) == source.data


@pytest.mark.parametrize("exchanged", [False, True])
def test_evicted_while_it_is_published(cache, tmp_path, monkeypatch, exchanged):
    """The cleaner takes no lock of ours, and it may put back what it moved away."""
    source = MemorySource(content(10 * PART))
    evicted = []

    def evicting(file, now):
        seal(file, now)
        if not evicted:
            evicted.extend(tmp_path.glob("cache/*/blobs/*/*.part"))
            evicted[0].unlink()
            if exchanged:
                evicted[0].write_bytes(bytes(10 * PART))

    seal = PartFile.seal
    monkeypatch.setattr(PartFile, "seal", evicting)
    assert bytes_at(cache, cache.complete(OID, TID, source)) == source.data
    assert evicted
    assert bytes_at(cache, cache.get(OID, TID)) == source.data


def test_the_use_is_noted(open_cache, tmp_path):
    now = time.time() + 5000  # later than the kernel's, which notes reads on some mounts
    cache = open_cache(clock=lambda: now)
    source = MemorySource(content(10 * PART))
    with lazily(cache, source) as reader:
        reader.raw.readinto(bytearray(1))
    (map_,) = tmp_path.glob("cache/*/blobs/*/*.map")
    os.utime(map_, (1000, 2000))
    with lazily(cache, source) as reader:
        reader.raw.readinto(bytearray(1))
    assert map_.stat().st_atime == pytest.approx(now, abs=1) and map_.stat().st_mtime == 2000


# Being a file


class Blob:
    def __init__(self):
        self.told = []

    def closed(self, file):
        self.told.append(file)


def test_the_blob_is_told_once_when_it_is_closed(cache):
    blob = Blob()
    reader = lazily(cache, MemorySource(content(10 * PART)), blob=blob)
    reader.close()
    reader.close()
    assert blob.told == [reader]


@pytest.mark.parametrize("size", [100, 10 * PART])
def test_a_reader_that_nobody_holds_leaves_nothing(cache, size):
    blob = Blob()
    reader = lazily(cache, MemorySource(content(size)), blob=blob)
    reader.read(10)
    assert open_blob_files()
    gone = weakref.ref(reader)
    del reader
    gc.collect()
    assert len(blob.told) == 1
    blob.told.clear()  # holds it, as ZODB's blob does not
    gc.collect()
    assert gone() is None
    wait_until(lambda: not open_blob_files())


def test_it_cannot_be_pickled(cache):
    with lazily(cache, MemorySource(b"")) as reader, pytest.raises(TypeError):
        pickle.dumps(reader)


TEXT = "".join(f"{number};Zeile {number} mit ä\r\n" for number in range(2000)).encode()


def test_lines(cache):
    source = MemorySource(TEXT)
    with lazily(cache, source) as reader:
        assert list(reader) == TEXT.splitlines(keepends=True)
    with lazily(cache, source) as reader:
        rows = list(csv.reader(io.TextIOWrapper(reader, "utf-8", newline=""), delimiter=";"))
    assert rows[1999] == ["1999", "Zeile 1999 mit ä"] and len(rows) == 2000


def test_copyfileobj(cache):
    source = MemorySource(content(20 * PART))
    target = io.BytesIO()
    with lazily(cache, source) as reader:
        shutil.copyfileobj(reader, target, 700)
    assert target.getvalue() == source.data


def test_email(cache):
    message = b"Subject: Parts\r\n\r\n" + TEXT
    with lazily(cache, MemorySource(message)) as reader:
        parsed = email.message_from_binary_file(reader)
    assert parsed["Subject"] == "Parts" and len(parsed.get_payload()) > 30000


def test_tarfile(cache):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in ("a", "b", "c"):
            member = tarfile.TarInfo(name)
            member.size = 20 * PART
            archive.addfile(member, io.BytesIO(content(20 * PART, seed=name)))
    with lazily(cache, MemorySource(packed.getvalue())) as reader, tarfile.open(fileobj=reader) as archive:
        assert archive.getnames() == ["a", "b", "c"]
        assert archive.extractfile("b").read() == content(20 * PART, seed="b")


def test_a_zip_file_costs_its_directory_and_the_member(open_cache):
    cache = open_cache(part_threshold=8 * MB, part_size=MB)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(40):
            archive.writestr(f"{number}", content(700_000, seed=number))
    source = MemorySource(packed.getvalue())
    with lazily(cache, source) as reader, zipfile.ZipFile(reader) as archive:
        members = {info.filename: info.header_offset for info in archive.infolist()}
        directory = {start for start, _ in source.reads}
        # One that lies within a part, and what the buffer holds behind it too.
        name, begin = next((name, at) for name, at in members.items() if at % MB + 700_100 + 2 * 64 * 1024 < MB)
        assert archive.read(name) == content(700_000, seed=int(name))
    cache.close()
    assert directory == {len(source.data) // MB * MB}
    assert sorted(source.reads) == [(begin // MB * MB, MB), (len(source.data) // MB * MB, len(source.data) % MB)]


def test_an_image(cache):
    Image = pytest.importorskip("PIL.Image")
    image = Image.frombytes("RGB", (200, 200), content(120_000))
    for kind in ("PNG", "TIFF", "BMP"):
        packed = io.BytesIO()
        image.save(packed, kind)
        oid = kind.encode().ljust(8)
        with cache.open_lazily(oid, TID, MemorySource(packed.getvalue()), name=NAME) as reader:
            with Image.open(reader) as read:
                assert read.size == (200, 200) and read.tobytes() == image.tobytes()
