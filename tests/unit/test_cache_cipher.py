"""The format of the cache's encrypted files: every byte right, and whatever does not fit is noticed."""

from __future__ import annotations

import io
import os
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collective.s3blobstorage.cache import cipher
from collective.s3blobstorage.cache.cipher import HEADER, OVERHEAD, SEGMENT, STAGED, Damaged, Geometry, MachineKey
from collective.s3blobstorage.cache.form import Lost
from collective.s3blobstorage.cache.sealedform import SealedDownload, SealedFile

OID, TID = bytes(7) + b"\1", bytes(7) + b"\2"
KEY = MachineKey(bytes(range(32)))


def written(path, data, key=KEY, oid=OID, tid=TID):
    with SealedDownload(str(path), lambda size: None, key, oid, tid) as file:
        file.write(data)
        file.seal(0.0)
    return path


def opened(path, key=KEY, oid=OID, tid=TID):
    return SealedFile(path, lambda header: key.open_file(header, oid, tid))


def read(file, start=0, end=None):
    data = bytearray((file.size if end is None else end) - start)
    file.read_into(memoryview(data), start)
    return bytes(data)


def content(size):
    return random.Random(size).randbytes(size)


# Where what lies


@given(st.integers(0, 5 * SEGMENT), st.integers(1, 3 * SEGMENT))
@example(0, SEGMENT)
@example(SEGMENT, SEGMENT)
@example(3 * SEGMENT, SEGMENT + 1)
def test_the_segments_are_the_whole_file_and_parts_begin_with_one(size, part_size):
    geometry = Geometry(size, part_size)
    plain, place = 0, HEADER
    for number in range(geometry.count):
        start, end, at = geometry.segment(number)
        assert (start, at) == (plain, place)
        assert end - start <= SEGMENT and start // part_size == max(start, end - 1) // part_size
        assert start == end or geometry.at(start) == geometry.at(end - 1) == number
        plain, place = end, at + end - start + OVERHEAD
    assert (plain, place) == (size, geometry.stored)
    assert Geometry.of_stored(geometry.stored, part_size) == geometry
    for part in range(-(-size // part_size)):
        start, end = geometry.part_span(part)
        assert geometry.segment(geometry.at(part * part_size))[2] == start
        assert end == (geometry.part_span(part + 1)[0] if (part + 1) * part_size < size else geometry.stored)


@given(st.integers(-10, 4 * SEGMENT), st.integers(-1, 2 * SEGMENT))
@example(HEADER, SEGMENT)
@example(HEADER + SEGMENT + 2 * OVERHEAD, SEGMENT)
def test_no_other_length_is_taken_for_a_file(stored, part_size):
    try:
        geometry = Geometry.of_stored(stored, part_size)
    except Damaged:
        return
    assert geometry.stored == stored and geometry.size >= 0


def test_a_length_that_no_file_has_is_damage():
    for stored in (0, HEADER, HEADER + OVERHEAD - 1, Geometry(SEGMENT).stored + OVERHEAD):
        with pytest.raises(Damaged):
            Geometry.of_stored(stored, SEGMENT)


# Segments


def test_a_segment_opens_in_its_own_place_only():
    _, file = KEY.new_file(OID, TID)
    _, other = KEY.new_file(OID, TID)
    sealed = memoryview(file.seal(3, False, b"data"))
    assert file.open(3, False, sealed) == b"data"
    for use in (
        lambda: file.open(2, False, sealed),
        lambda: file.open(3, True, sealed),
        lambda: other.open(3, False, sealed),
        lambda: file.open(3, False, sealed[:-1]),
        lambda: file.open(3, False, sealed[:5]),
    ):
        with pytest.raises(Damaged):
            use()


def test_what_is_encrypted_twice_has_another_nonce_each_time():
    _, file = KEY.new_file(OID, TID)
    sealed = [file.seal(0, False, b"the same") for _ in range(1000)]
    assert len({each[: cipher.NONCE] for each in sealed}) == len({each[cipher.NONCE :] for each in sealed}) == 1000


def test_each_file_has_a_key_of_its_own():
    salts = {KEY.new_file(OID, TID)[0][20:52] for _ in range(1000)}
    assert len(salts) == 1000


# Headers


@given(st.integers(0, HEADER * 8 - 1))
def test_any_bit_of_the_header_matters(bit):
    header = bytearray(KEY.new_file(OID, TID)[0])
    assert KEY.open_file(bytes(header), OID, TID)[0] == SEGMENT
    header[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Damaged):
        KEY.open_file(bytes(header), OID, TID)


def test_a_header_is_of_one_revision_and_one_machine():
    header, _ = KEY.new_file(OID, TID)
    for key, oid, tid in [(KEY, TID, TID), (KEY, OID, OID), (MachineKey.draw(), OID, TID)]:
        with pytest.raises(Damaged):
            key.open_file(header, oid, tid)
    for length in (0, 1, HEADER - 1):
        with pytest.raises(Damaged):
            KEY.open_file(header[:length], OID, TID)


def test_a_staged_file_becomes_the_revision_that_was_committed():
    header, file = KEY.new_file(OID, STAGED)
    committed = KEY.committed(header, OID, TID)
    _, again = KEY.open_file(committed, OID, TID)
    assert again.open(0, True, memoryview(file.seal(0, True, b"data"))) == b"data"
    for wrong in (committed, KEY.new_file(OID, TID)[0]):
        with pytest.raises(Damaged):
            KEY.committed(wrong, OID, TID)


def test_a_file_of_a_newer_format_is_not_opened(monkeypatch):
    monkeypatch.setattr(cipher, "_FORMAT", 2)
    header, _ = KEY.new_file(OID, TID)
    monkeypatch.undo()
    with pytest.raises(Damaged):
        KEY.open_file(header, OID, TID)


def test_notes_are_of_one_revision():
    sealed = KEY.seal_note(b"note", OID, TID)
    assert b"note" not in sealed and len(sealed) == 4 + OVERHEAD
    assert KEY.open_note(sealed, OID, TID) == b"note"
    for other, oid in [(sealed, TID), (sealed[:-1], OID), (b"", OID), (sealed[1:], OID)]:
        with pytest.raises(Damaged):
            KEY.open_note(other, oid, TID)


def test_a_key_shows_itself_nowhere():
    for text in (repr(KEY), str(KEY), repr(KEY.key), f"{KEY.key}", repr(vars(KEY))):
        assert "\\x01\\x02" not in text and bytes(range(32)).hex() not in text


# Files


@pytest.mark.parametrize("size", [0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 3 * SEGMENT, 3 * SEGMENT + 7])
def test_every_size_is_read_from_everywhere(tmp_path, size):
    data = content(size)
    path = written(tmp_path / "file", data)
    assert path.stat().st_size == Geometry(size).stored
    file = opened(path)
    assert file.size == size and read(file) == data
    for start in {0, size // 3, max(0, size - 1), max(0, SEGMENT - 1), min(SEGMENT, size)}:
        for end in {start, min(size, start + 1), min(size, start + SEGMENT + 1), size}:
            if start <= end <= size:
                assert read(file, start, end) == data[start:end]
    with pytest.raises(Lost):
        read(file, size, size + 1)


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 2 * SEGMENT + 5)),
        st.tuples(st.just("truncate"), st.integers(0, 4 * SEGMENT)),
    ),
    max_size=8,
)


@given(OPERATIONS)
@example([("write", SEGMENT), ("truncate", SEGMENT), ("write", 1)])
@example([("write", 2 * SEGMENT + 5), ("truncate", SEGMENT + 5), ("write", SEGMENT)])
@example([("write", 2 * SEGMENT), ("truncate", 0), ("write", 0)])
@example([("write", 2 * SEGMENT), ("truncate", SEGMENT)])
def test_what_is_taken_back_and_written_again_is_as_in_any_file(tmp_path_factory, operations):
    path = tmp_path_factory.mktemp("files") / "file"
    model = io.BytesIO()
    with SealedDownload(str(path), lambda size: None, KEY, OID, TID) as file:
        for number, (kind, size) in enumerate(operations):
            if kind == "write":
                data = random.Random(number).randbytes(size)
                assert file.write(memoryview(data)) == model.write(data)
            else:
                size = min(size, len(model.getvalue()))
                for each in (file, model):
                    each.seek(size)
                    each.truncate()
            assert file.tell() == model.tell() == file.seek(0, os.SEEK_END)
        file.seal(0.0)
    assert read(opened(path)) == model.getvalue()


def test_it_is_written_in_order(tmp_path):
    with SealedDownload(str(tmp_path / "file"), lambda size: None, KEY, OID, TID) as file:
        file.write(b"data")
        file.seek(1)
        with pytest.raises(ValueError, match="in order"):
            file.write(b"x")
        with pytest.raises(ValueError, match="in order"):
            file.truncate(5)
        with pytest.raises(ValueError, match="negative"):
            file.seek(-1)
    with pytest.raises(ValueError, match="closed"):
        file.truncate(0)


def test_one_that_was_not_sealed_does_not_open(tmp_path):
    """A process died, or nobody said that this was all: its last segment is not there, or not the last one."""
    for size in (0, 5, SEGMENT, SEGMENT + 1, 2 * SEGMENT + 1):
        path = tmp_path / str(size)
        with SealedDownload(str(path), lambda size: None, KEY, OID, TID) as file:
            file.write(content(size))
        with pytest.raises(Lost):
            opened(path)


SIZE = 3 * SEGMENT + 100


@given(st.data())
def test_a_flipped_bit_anywhere_is_noticed(tmp_path_factory, data):
    path = written(tmp_path_factory.mktemp("files") / "file", content(SIZE))
    bit = data.draw(st.integers(0, path.stat().st_size * 8 - 1))
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(bit // 8)
        (octet,) = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([octet ^ 1 << bit % 8]))
    with pytest.raises(Lost):
        read(opened(path))


@given(st.integers(0, Geometry(SIZE).stored - 1))
@example(Geometry(SEGMENT).stored)
@example(Geometry(2 * SEGMENT).stored)
@example(Geometry(0).stored)
def test_a_cut_is_noticed_when_it_is_opened(tmp_path_factory, length):
    path = written(tmp_path_factory.mktemp("files") / "file", content(SIZE))
    path.chmod(0o600)
    os.truncate(path, length)
    with pytest.raises(Lost):
        opened(path)


@pytest.mark.parametrize("order", [(1, 0, 2), (0, 0, 2), (0, 2, 1), (2, 1, 0)])
def test_segments_in_another_order_are_noticed(tmp_path, order):
    path = written(tmp_path / "file", content(3 * SEGMENT))
    stored, each = path.read_bytes(), SEGMENT + OVERHEAD
    segments = [stored[HEADER + number * each :][:each] for number in range(3)]
    path.chmod(0o600)
    path.write_bytes(stored[:HEADER] + b"".join(segments[number] for number in order))
    with pytest.raises(Lost):
        read(opened(path))


def test_segments_of_another_file_of_the_same_revision_are_noticed(tmp_path):
    one, two = (written(tmp_path / name, content(2 * SEGMENT)) for name in ("one", "two"))
    mixed = one.read_bytes()[: HEADER + SEGMENT + OVERHEAD] + two.read_bytes()[HEADER + SEGMENT + OVERHEAD :]
    one.chmod(0o600)
    one.write_bytes(mixed)
    with pytest.raises(Lost):
        read(opened(one))
