"""Bodies: which bytes, when they are read, and that the file is closed whatever happens."""

from __future__ import annotations

import io

import pytest
from waitress.buffers import ReadOnlyFileBasedBuffer
from ZPublisher.Iterators import IStreamIterator

from collective.s3blobstorage.delivery.body import CHUNK, Pieces, Slice, multipart, size_of, whole_file
from collective.s3blobstorage.errors import Unavailable

DATA = bytes(range(256)) * 1024  # four chunks


class Noted(io.BytesIO):
    """Counts what is read."""

    taken = 0

    def read(self, size=-1):
        data = super().read(size)
        self.taken += len(data)
        return data


class Failing(Noted):
    """The store fails at a position."""

    fails_at = 0

    def read(self, size=-1):
        if self.tell() >= self.fails_at:
            raise Unavailable("out")
        return super().read(size)


def test_pieces_are_read_one_chunk_at_a_time_and_not_before():
    reader = Noted(DATA)
    pieces = Pieces(reader, [(1000, 1000 + 3 * CHUNK)])
    assert reader.taken == 0
    pieces.prepare()
    assert reader.taken == CHUNK
    assert len(pieces) == 3 * CHUNK
    assert b"".join(pieces) == DATA[1000 : 1000 + 3 * CHUNK]
    assert reader.closed


def test_nothing_outside_of_the_ranges_is_read():
    reader = Noted(DATA)
    assert b"".join(Pieces(reader, [(5, 10), b"|", (0, 2), b"|"])) == DATA[5:10] + b"|" + DATA[:2] + b"|"
    assert reader.taken == 7


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_a_client_that_goes_away_closes_the_file(taken):
    reader = Noted(DATA)
    pieces = Pieces(reader, [(0, len(DATA))])
    for _ in range(taken):
        next(pieces)
    pieces.close()
    assert reader.closed
    with pytest.raises(StopIteration):
        next(pieces)
    pieces.close()


def test_what_fails_at_the_first_bytes_is_raised_before_the_answer_begins():
    reader = Failing(DATA)
    with pytest.raises(Unavailable):
        Pieces(reader, [(0, 10)]).prepare()
    assert reader.closed


def test_what_fails_later_closes_too():
    reader = Failing(DATA)
    reader.fails_at = CHUNK
    pieces = Pieces(reader, [(0, len(DATA))])
    pieces.prepare()
    assert next(pieces) == DATA[:CHUNK]
    with pytest.raises(Unavailable):
        next(pieces)
    assert reader.closed


def test_a_file_that_is_shorter_than_it_said_ends():
    assert b"".join(Pieces(io.BytesIO(b"abc"), [(0, 10), b"end"])) == b"abc"


def test_pieces_cannot_be_sought():
    pieces = Pieces(io.BytesIO(DATA), [(0, 10)])
    assert IStreamIterator.providedBy(pieces)
    assert [name for name in ("read", "seek", "tell", "fileno") if hasattr(pieces, name)] == []


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "blob"
    path.write_bytes(DATA)
    with open(path, "rb") as file:
        yield file


def test_only_a_file_on_the_disk_is_a_whole_file(file):
    assert whole_file(file)
    assert size_of(file) == len(DATA)
    assert file.tell() == 0
    assert not whole_file(io.BytesIO(DATA))
    assert not whole_file(io.BufferedReader(io.BytesIO(DATA)))


@pytest.mark.parametrize(("start", "end"), [(0, len(DATA)), (0, 1), (7, 100_000), (len(DATA) - 1, len(DATA))])
def test_a_slice_is_what_waitress_sends_by_itself(file, start, end):
    body = Slice(file, start, end)
    assert IStreamIterator.providedBy(body)
    assert len(body) == end - start
    buffer = ReadOnlyFileBasedBuffer(body)
    assert buffer.prepare(end - start) == end - start
    sent = b""
    while data := buffer.get(30_000):
        sent += data
        buffer.skip(len(data)) if hasattr(buffer, "skip") else buffer.get(len(data), skip=True)
    assert sent == DATA[start:end]
    body.close()
    assert file.closed


def test_a_slice_gives_nothing_but_itself(file):
    body = Slice(file, 10, 20)
    assert body.read() == DATA[10:20]
    assert body.read() == body.read(5) == b""
    assert body.seek(-3, io.SEEK_END) == 7
    assert body.read(100) == DATA[17:20]
    assert body.seek(-100) == 0  # never before its beginning
    assert body.read(2) == DATA[10:12]
    assert body.seek(1, io.SEEK_CUR) == body.tell() == 3
    assert b"".join(body) == DATA[13:20]
    body.seek(100)
    assert body.read() == b""


def test_multipart_says_where_each_part_lies():
    text = b"".join(Pieces(io.BytesIO(b"0123456789"), multipart(10, [(1, 3), (8, 10)], "text/plain", "xyz")))
    assert text == (
        b"--xyz\r\nContent-Type: text/plain\r\nContent-Range: bytes 1-2/10\r\n\r\n12"
        b"\r\n--xyz\r\nContent-Type: text/plain\r\nContent-Range: bytes 8-9/10\r\n\r\n89"
        b"\r\n--xyz--\r\n"
    )
