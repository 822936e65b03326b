"""The cache's disk breaks while a blob is read by parts: reading goes on, no byte is wrong, memory stays small."""

from __future__ import annotations

import logging
import os
import random
import resource
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from cache_state import Form, stored_bytes, until_idle
from part_source import MemorySource
from rings import ring

from collective.s3blobstorage.cache import BlobCache, partreader
from collective.s3blobstorage.errors import Unavailable

KB = 1024
MB = 1024 * KB
KEY = bytes(8), bytes(8)
PART = 128 * KB


@pytest.fixture(autouse=True, params=["plain", "encrypted"])
def form(request, monkeypatch):
    """Everything here holds whether the files are encrypted or not."""
    monkeypatch.setattr(Form, "ring", ring() if request.param == "encrypted" else None)


def bytes_at(cache, path):
    return stored_bytes(cache, path, *KEY)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The machine's temporary folder."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"a file system cannot be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def source():
    return MemorySource(random.Random(1).randbytes(3 * MB + 5))


def opened(root, **options):
    return BlobCache(
        root, "store", **{"size": 10 * MB, "part_threshold": 256 * KB, "part_size": PART, "ring": Form.ring, **options}
    )


def lazily(cache, source):
    return cache.open_lazily(*KEY, source, name=Path("/name"))


def fill(folder, leave=0):
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            file.truncate(file.tell() - leave)


def all_of(reader):
    reader.seek(0)
    pieces = []
    while piece := reader.read(50_000):
        pieces.append(piece)
    return b"".join(pieces)


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_disk_that_fills_up_in_the_middle(small_disk, elsewhere, source, caplog):
    cache = opened(small_disk)
    with lazily(cache, source) as reader:
        assert all_of(reader) == source.data
        requests = len(source.reads)
        # Each part once, and once more those that the full disk cut off: of the runs that were under way.
        assert 25 < len(source.parts(PART)) <= 25 + 2 * 16
        assert set(source.parts(PART)) == set(range(25))
        reader.seek(0)
        assert reader.read(PART) == source.data[:PART]
        assert len(source.reads) == requests, "a part that is on the disk was fetched again"
    assert bytes_at(cache, cache.complete(*KEY, source)) == source.data
    assert cache.counters.snapshot()["errors"] >= 2
    cache.close()  # who fetched ahead may tell of the disk after the reader went on without him
    assert len(warnings_of(caplog)) == 1 and f"cache-dir {small_disk}" in warnings_of(caplog)[0]


def test_a_disk_that_is_full_from_the_start_and_then_has_room(small_disk, elsewhere, source, monkeypatch):
    cache = opened(small_disk)
    cache.clean()
    fill(small_disk)
    with lazily(cache, source) as reader:
        assert all_of(reader) == source.data
        assert [start for start, _ in source.reads] == list(range(0, len(source.data), PART))
        (small_disk / "filler").unlink()
        assert list(small_disk.glob("*/blobs/*/*")) == []
        monkeypatch.setattr(partreader, "_REFUSED", 0.0)  # a minute later
        reader.seek(0)
        assert reader.read(10) == source.data[:10]
        assert len(list(small_disk.glob("*/blobs/*/*"))) == 2
    cache.close()


def test_a_disk_that_is_read_only(small_disk, elsewhere, source):
    cache = opened(small_disk)
    with lazily(cache, source) as reader:
        assert reader.read(10) == source.data[:10]
    cache.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    cache = opened(small_disk)
    with lazily(cache, source) as reader:
        assert all_of(reader) == source.data
    assert bytes_at(cache, cache.complete(*KEY, source)) == source.data
    cache.close()


@pytest.mark.parametrize("size", [1, 1000, 3 * MB])
def test_no_folder_at_all(elsewhere, size):
    source = MemorySource(random.Random(2).randbytes(size))
    cache = opened(Path("/proc/no-such-folder"))
    with lazily(cache, source) as reader:
        assert all_of(reader) == source.data
        assert os.pread(reader.fileno(), size, 0) == source.data
    cache.close()


@pytest.mark.parametrize("size", [1000, 3 * MB])
def test_no_disk_anywhere(tmp_path, elsewhere, size):
    """A limit on the size of files stands for a disk that is full everywhere."""
    source = MemorySource(random.Random(2).randbytes(size))
    cache = opened(tmp_path / "cache")
    cache.clean()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with lazily(cache, source) as reader:
            assert all_of(reader) == source.data
            with pytest.raises(Unavailable, match="neither cache-dir nor the temporary folder"):
                reader.fileno()
            assert all_of(reader) == source.data
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    cache.close()


@pytest.mark.parametrize("size", [1000, 3 * MB])
@pytest.mark.parametrize("cached", [False, True])
def test_no_descriptor_is_free(tmp_path, elsewhere, size, cached):
    source = MemorySource(random.Random(2).randbytes(size))
    cache = opened(tmp_path / "cache")
    cache.clean()
    if cached:
        cache.complete(*KEY, source)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    reader = lazily(cache, source)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        data = all_of(reader)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert data == source.data
    reader.close()
    cache.close()


def test_no_descriptor_is_free_any_more(tmp_path, elsewhere, source):
    cache = opened(tmp_path / "cache")
    cache.clean()
    with lazily(cache, source) as reader:
        assert reader.read(10) == source.data[:10]
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            data = all_of(reader)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert data == source.data
        assert cache.counters.snapshot()["errors"] > 0
    cache.close()


def test_somebody_deletes_the_folder(tmp_path, elsewhere, source):
    cache = opened(tmp_path / "cache")
    until_idle(cache)
    with lazily(cache, source) as reader:
        assert reader.read(10) == source.data[:10]
        shutil.rmtree(tmp_path / "cache")
        assert all_of(reader) == source.data
    assert bytes_at(cache, cache.complete(*KEY, source)) == source.data
    cache.close()


def test_a_part_that_another_process_never_ends_is_waited_for_only_so_long(tmp_path, elsewhere, source):
    cache, other = opened(tmp_path / "cache", patience=0.1), opened(tmp_path / "cache")
    stuck = MemorySource(source.data)
    started, end = threading.Event(), threading.Event()

    def before(start, length):
        started.set()
        assert end.wait(10)

    stuck.before = before
    thread = threading.Thread(target=lambda: lazily(other, stuck).read(1))
    thread.start()
    assert started.wait(10)
    with lazily(cache, source) as reader:
        assert reader.read(10) == source.data[:10]
    end.set()
    thread.join()
    cache.close()
    other.close()


def test_an_error_of_the_store_beside_a_full_disk_goes_through(small_disk, elsewhere, source):
    cache = opened(small_disk)
    cache.clean()
    fill(small_disk)
    source.before = lambda start, length: (_ for _ in ()).throw(Unavailable("down"))
    with lazily(cache, source) as reader, pytest.raises(Unavailable, match="down"):
        reader.read(1)
    cache.close()


def test_rewritten_while_it_is_read_without_the_disk(small_disk, elsewhere, source):
    cache = opened(small_disk)
    cache.clean()
    fill(small_disk)
    with lazily(cache, source) as reader:
        assert reader.raw.readinto(bytearray(PART)) == PART
        source.version = "v2"
        assert reader.raw.readall() == source.data[PART:]
        source.version = "v3"
        reader.seek(0)
        with pytest.raises(Unavailable, match="rewritten"):
            reader.read()
    cache.close()


def test_parts_on_the_disk_and_in_memory_are_of_one_version(small_disk, elsewhere):
    source = MemorySource(random.Random(1).randbytes(3 * MB), known=False)
    cache = opened(small_disk)
    with lazily(cache, source) as reader:
        assert reader.raw.readinto(bytearray(PART)) == PART
    fill(small_disk)
    with lazily(cache, source) as reader:
        assert reader.raw.readinto(bytearray(PART)) == PART  # from the disk
        versions = iter(["v1", "v2"])  # of what is then refused by the disk, and of what is read instead
        source.before = lambda start, length: setattr(source, "version", next(versions))
        reader.seek(5 * PART)  # elsewhere, so that nothing is fetched ahead
        with pytest.raises(Unavailable, match="rewritten"):
            reader.raw.readinto(bytearray(PART))
    cache.close()


def test_a_disk_that_works_again_has_another_version(small_disk, elsewhere, monkeypatch):
    source = MemorySource(random.Random(1).randbytes(3 * MB), known=False)
    cache = opened(small_disk)
    cache.clean()
    fill(small_disk)
    with lazily(cache, source) as reader:
        assert reader.raw.readinto(bytearray(PART)) == PART
        (small_disk / "filler").unlink()
        monkeypatch.setattr(partreader, "_REFUSED", 0.0)
        source.version = "v2"
        with pytest.raises(Unavailable, match="rewritten"):
            reader.raw.readinto(bytearray(PART))
    cache.close()


def test_a_failure_of_the_disk_that_the_source_swallows_is_noticed(small_disk, elsewhere, source):
    cache = opened(small_disk)
    read = source.read

    def swallowing(start, length, write, validator):
        def careless(data):
            try:
                write(data)
            except Exception:
                pass

        return read(start, length, careless, validator)

    source.read = swallowing
    with lazily(cache, source) as reader:
        assert all_of(reader) == source.data
    cache.close()
