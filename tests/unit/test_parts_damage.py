"""Files of parts that something cut, wrote to or exchanged: fetched again, never a wrong byte."""

from __future__ import annotations

import os
import random
import zlib
from pathlib import Path

import pytest
from cache_state import Form, stored_bytes
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from part_source import MemorySource
from rings import ring

from collective.s3blobstorage.cache import BlobCache
from collective.s3blobstorage.cache.downloads import DiskFailure
from collective.s3blobstorage.cache.partfile import Header, PartFile, Place, describe
from collective.s3blobstorage.cache.partstore import PartStore

MB = 1024 * 1024
KEY = bytes(8), bytes(8)
PART = 1000
SIZE = 10 * PART + 123


@pytest.fixture(autouse=True, params=["plain", "encrypted"])
def form(request, monkeypatch):
    """Everything here holds whether the files are encrypted or not."""
    monkeypatch.setattr(Form, "ring", ring() if request.param == "encrypted" else None)


def bytes_at(cache, path):
    return stored_bytes(cache, path, *KEY)


def content(size=SIZE, seed=1):
    return random.Random(seed).randbytes(size)


def opened(folder, **options):
    return BlobCache(
        folder, "store", **{"size": MB, "part_threshold": 2000, "part_size": PART, "ring": Form.ring, **options}
    )


def lazily(cache, source):
    return cache.open_lazily(*KEY, source, name=Path("/name"))


def the_file(folder, suffix):
    (path,) = folder.glob(f"*/blobs/*/*{suffix}")
    return path


def filled(folder, parts, known=True):
    """A cache folder with these parts of the blob in it, and the source. All parts: the process died just then."""

    def died(store, parts):
        raise DiskFailure

    source = MemorySource(content(), known=known)
    cache = opened(folder)
    with pytest.MonkeyPatch.context() as patch, lazily(cache, source) as reader:
        patch.setattr(PartStore, "publish", died)
        for part in parts:
            reader.seek(part * PART)
            reader.raw.readinto(bytearray(1))
        cache.close()
    assert len(source.reads) == len(parts)
    return source


def flip(path, offset, mask):
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ mask]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sets(st.integers(0, 10)),
    st.lists(
        st.tuples(
            st.sampled_from([".part", ".map"]),
            st.sampled_from(["flip", "cut", "append", "zero"]),
            st.integers(0, SIZE - 1),
            st.integers(1, 255),
        ),
        min_size=1,
        max_size=3,
    ),
    st.booleans(),
)
@example({0, 1, 2}, [(".part", "cut", 1500, 1)], False)
@example({0, 1, 2}, [(".part", "cut", 1500, 1), (".part", "append", SIZE - 1500 - 1, 1)], False)
@example({0, 1, 2}, [(".map", "flip", 12, 1)], False)
@example(set(range(11)), [(".part", "flip", 5000, 1)], False)
def test_never_a_wrong_byte(tmp_path_factory, parts, damages, known):
    folder = tmp_path_factory.mktemp("cache")
    source = filled(folder, parts or {0}, known)
    for suffix, kind, offset, mask in damages:
        path = the_file(folder, suffix)
        size = path.stat().st_size
        if kind == "flip" and size:
            flip(path, offset % size, mask)
        elif kind == "cut":
            os.truncate(path, offset % (size + 1))
        elif kind == "append":
            with path.open("ab") as file:
                file.write(bytes([mask]) * (offset + 1))
        elif kind == "zero" and size:
            with path.open("r+b") as file:
                file.seek(offset % size)
                file.write(bytes(min(mask, size - offset % size)))
    cache = opened(folder)
    with lazily(cache, source) as reader:
        reader.seek(SIZE // 2)
        assert reader.raw.readall() == source.data[SIZE // 2 :]
        reader.seek(0)
        assert reader.read() == source.data
    assert bytes_at(cache, cache.complete(*KEY, source)) == source.data
    assert cache.counters.snapshot()["errors"] == 0
    cache.close()


def test_a_part_that_is_whole_is_not_fetched_again_because_of_another(tmp_path):
    source = filled(tmp_path, range(11))
    flip(the_file(tmp_path, ".part"), 4500, 1)
    del source.reads[:]
    cache = opened(tmp_path)
    with lazily(cache, source) as reader:
        assert reader.read() == source.data
    assert source.reads == [(4000, PART)]
    cache.close()


def test_a_crash_of_the_machine_that_lost_the_bytes_and_kept_the_map(tmp_path):
    source = filled(tmp_path, range(11))
    path = the_file(tmp_path, ".part")
    os.truncate(path, 0)
    os.truncate(path, SIZE)
    del source.reads[:]
    cache = opened(tmp_path)
    with lazily(cache, source) as reader:
        assert reader.read() == source.data
    assert source.parts(PART) == list(range(11))
    cache.close()


@pytest.mark.parametrize("suffix", [".part", ".map"])
def test_one_file_alone_is_of_no_use(tmp_path, suffix):
    source = filled(tmp_path, [3])
    the_file(tmp_path, suffix).unlink()
    cache = opened(tmp_path)
    with lazily(cache, source) as reader:
        assert reader.read() == source.data
    assert source.parts(PART) == sorted([*range(11), 3])
    cache.close()


def test_parts_of_another_size_are_fetched_anew(tmp_path):
    source = filled(tmp_path, [3])
    cache = opened(tmp_path, part_size=700)
    with lazily(cache, source) as reader:
        assert reader.read() == source.data
    cache.close()


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path):
    source = filled(tmp_path / "cache", [3])
    victim = tmp_path / "victim"
    victim.write_bytes(b"x" * SIZE)
    path = the_file(tmp_path / "cache", ".part")
    path.unlink()
    path.symlink_to(victim)
    cache = opened(tmp_path / "cache")
    with lazily(cache, source) as reader:
        assert reader.read() == source.data
    cache.close()
    assert victim.read_bytes() == b"x" * SIZE


# Under an open reader


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("length", [0, 1, 1500, 5000, SIZE - 1])
def test_cut_while_it_is_read(tmp_path, length, known):
    source = MemorySource(content(), known=known)
    cache = opened(tmp_path)
    with lazily(cache, source) as reader:
        assert reader.raw.readinto(bytearray(6 * PART)) == 6 * PART
        os.truncate(the_file(tmp_path, ".part"), length)
        assert reader.raw.readall() == source.data[6 * PART :]
        reader.seek(0)
        assert reader.raw.readall() == source.data
    assert bytes_at(cache, cache.complete(*KEY, source)) == source.data
    cache.close()


def test_cut_between_the_last_part_and_publishing(tmp_path, monkeypatch):
    source = MemorySource(content(), known=False)
    cache = opened(tmp_path)
    seal = PartFile.seal
    cuts = []

    def cutting(file, now):
        if not cuts:
            cuts.append(1)
            os.truncate(the_file(tmp_path, ".part"), 5000)
        return seal(file, now)

    monkeypatch.setattr(PartFile, "seal", cutting)
    assert bytes_at(cache, cache.complete(*KEY, source)) == source.data
    assert cuts
    cache.close()


def test_a_map_that_is_cut_while_it_is_read(tmp_path):
    source = MemorySource(content())
    cache = opened(tmp_path)
    with lazily(cache, source) as reader:
        reader.raw.readinto(bytearray(2 * PART))
        os.truncate(the_file(tmp_path, ".map"), 100)
        assert reader.raw.readall() == source.data[2 * PART :]
    assert bytes_at(cache, cache.complete(*KEY, source)) == source.data
    cache.close()


def test_the_complete_file_is_cut_while_it_is_read(tmp_path):
    source = MemorySource(content())
    cache = opened(tmp_path)
    path = cache.complete(*KEY, source)
    with lazily(cache, source) as reader:
        reader.raw.readinto(bytearray(10))
        path.chmod(0o600)
        os.truncate(path, 500)
        assert reader.raw.readall() == source.data[10:]
    cache.close()


def test_files_that_are_cut_again_and_again_are_read_past(tmp_path):
    source = MemorySource(content())
    cache = opened(tmp_path)
    source.after = lambda start, length: [os.truncate(path, 10) for path in tmp_path.glob("*/blobs/*/*.part")]
    with lazily(cache, source) as reader:
        assert reader.raw.readall() == source.data
    assert cache.counters.snapshot()["errors"] >= 1
    cache.close()


# The map


headers = st.builds(
    Header,
    st.integers(0, 2**64 - 1),
    st.integers(1, 2**32 - 1),
    st.none() | st.binary(min_size=32, max_size=32),
    st.none() | st.text(st.characters(codec="ascii"), min_size=1, max_size=449),
)


@given(headers)
def test_a_header_reads_back(header):
    assert len(header.encode()) == 512
    assert Header.decode(header.encode()) == header


@given(headers, st.integers(0, 511), st.integers(1, 255))
def test_a_header_with_a_wrong_byte_is_none(header, offset, mask):
    data = bytearray(header.encode())
    data[offset] ^= mask
    assert Header.decode(bytes(data)) is None


@pytest.mark.parametrize("length", range(0, 512, 37))
def test_a_header_that_was_cut_is_none(length):
    assert Header.decode(Header(1, 1, None).encode()[:length]) is None


def test_a_map_of_a_newer_format_is_none():
    data = bytearray(Header(1, 1, None).encode())
    data[8] = 2
    data[508:] = zlib.crc32(bytes(data[:508])).to_bytes(4, "little")
    assert Header.decode(bytes(data)) is None


def test_a_validator_that_is_too_long_is_read_without_the_disk(tmp_path):
    source = MemorySource(content(), version="v" * 450)
    cache = opened(tmp_path)
    with lazily(cache, source) as reader:
        assert reader.read() == source.data
    cache.close()


def test_a_store_without_versions(tmp_path):
    source = MemorySource(content(), version="")
    cache = opened(tmp_path)
    with lazily(cache, source) as reader:
        assert reader.read() == source.data
    assert set(source.validators) == {None}
    cache.close()


def test_what_a_map_says_of_the_blob(tmp_path):
    filled(tmp_path, [0])
    base = str(the_file(tmp_path, ".map")).removesuffix(".map")
    cache = opened(tmp_path)
    assert describe(Place(base, cache._form, *KEY))[0] == SIZE
    assert describe(Place(str(tmp_path / "nothing"), cache._form, *KEY)) is None
    cache.close()


def test_a_process_that_died_after_it_sealed_the_file(tmp_path):
    """As an ordinary user it cannot open the file for writing any more."""
    source = filled(tmp_path, range(11))
    the_file(tmp_path, ".part").chmod(0o400)
    cache = opened(tmp_path)
    with lazily(cache, source) as reader:
        assert reader.read() == source.data
    assert bytes_at(cache, cache.complete(*KEY, source)) == source.data
    assert cache.counters.snapshot()["errors"] == 0
    cache.close()
