"""The bytes of a response: a whole blob or ranges of it, read when the server asks for them.

What may wait for the store is iterated by the request's thread. What lies on the disk, complete, is given to the server
as a file: that sends it in its own time, and no thread of Zope waits for a slow client (see ``response_body.py``).
"""

from __future__ import annotations

import io
from collections.abc import Generator
from typing import BinaryIO

from zope.interface import implementer
from ZPublisher.Iterators import IStreamIterator

CHUNK = 64 * 1024  # bytes; what ZPublisher's own filestream_iterator gives at a time

Piece = bytes | tuple[int, int]  # as it is, or from the reader: start, and end not included


def whole_file(reader: BinaryIO) -> bool:
    """Whether a reader is an ordinary file on the disk, which has all its bytes."""
    return type(reader) is io.BufferedReader and isinstance(reader.raw, io.FileIO)


def size_of(reader: BinaryIO) -> int:
    """In bytes; of a blob whose record says it without a request."""
    size = reader.seek(0, io.SEEK_END)
    reader.seek(0)
    return size


@implementer(IStreamIterator)
class Pieces:
    """Some pieces, one after the other. Without ``read``, ``seek`` and ``tell``: a server iterates it.

    Closes the reader with the last byte, or when it is closed: the server does that where the client goes away.
    Raises what reading raises: Unavailable, Refused, Corrupt, BlobMissing; the client then gets fewer bytes than
    ``Content-Length`` says, and knows by that. ``prepare`` makes the first bytes wait here, so that a store which is
    out is an error page and not an empty file.
    """

    def __init__(self, reader: BinaryIO, pieces: list[Piece]):
        self._reader = reader
        self._length = sum(len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in pieces)
        self._chunks = self._read(pieces)
        self._first: bytes | None = None

    def prepare(self) -> None:
        try:
            self._first = next(self._chunks, None)
        except BaseException:
            self.close()
            raise

    def _read(self, pieces: list[Piece]) -> Generator[bytes, None, None]:
        for piece in pieces:
            if isinstance(piece, bytes):
                yield piece
                continue
            position, end = piece
            self._reader.seek(position)
            while position < end:
                data = self._reader.read(min(CHUNK, end - position))
                if not data:
                    return
                position += len(data)
                yield data

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Pieces:
        return self

    def __next__(self) -> bytes:
        first, self._first = self._first, None
        if first is not None:
            return first
        try:
            return next(self._chunks)
        except BaseException:  # the end too
            self.close()
            raise

    def close(self) -> None:
        try:
            self._chunks.close()
        finally:
            self._reader.close()


@implementer(IStreamIterator)
class Slice:
    """A part of a file on the disk, as a file of its own: with ``read``, ``seek`` and ``tell``."""

    def __init__(self, file: BinaryIO, start: int, end: int):
        self._file = file
        self._start = start
        self._end = end
        file.seek(start)

    def __len__(self) -> int:
        return self._end - self._start

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._end - self._file.tell())
        return self._file.read(left if size is None or size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: self._start, io.SEEK_CUR: self._file.tell(), io.SEEK_END: self._end}[whence]
        return self._file.seek(max(self._start, base + offset)) - self._start

    def tell(self) -> int:
        return self._file.tell() - self._start

    def __iter__(self) -> Slice:
        return self

    def __next__(self) -> bytes:
        data = self.read(CHUNK)
        if not data:
            raise StopIteration
        return data

    def close(self) -> None:
        self._file.close()


def multipart(reader_size: int, ranges: list[tuple[int, int]], content_type: str | None, boundary: str) -> list[Piece]:
    """The pieces of a ``multipart/byteranges`` (RFC 9110, section 14.6) of a file of ``reader_size`` bytes."""
    pieces: list[Piece] = []
    for start, end in ranges:
        lines = [f"--{boundary}", f"Content-Range: bytes {start}-{end - 1}/{reader_size}", "", ""]
        if content_type:
            lines.insert(1, f"Content-Type: {content_type}")
        if pieces:
            lines.insert(0, "")
        pieces += ["\r\n".join(lines).encode("latin-1"), (start, end)]
    return [*pieces, f"\r\n--{boundary}--\r\n".encode()]
