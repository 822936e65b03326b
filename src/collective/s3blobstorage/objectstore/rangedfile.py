"""A file of one object, of which only what is read is fetched."""

from __future__ import annotations

import io
import os
from typing import Any

from collective.s3blobstorage.objectstore.interfaces import IObjectStore

# Bytes of the first request, and of the largest: whoever looks at the beginning pays for little, and whoever reads all
# of it makes a request for each 8 MB, which a round trip of 50 ms slows down by a tenth at 20 MB/s.
SMALLEST = 64 * 1024
LARGEST = 8 * 1024 * 1024


class RangedFile(io.RawIOBase):
    """Readable and seekable; for one thread at a time. It has no ``fileno`` and no name.

    All bytes are of the object with that ETag: PreconditionFailed is raised where it is another one by now, and what
    ``IObjectStore.get_range`` raises. Requests grow while it is read on, and are small after a ``seek``.
    """

    def __init__(self, store: IObjectStore, key: str, size: int, etag: str) -> None:
        self._store = store
        self._key = key
        self._size = size
        self._etag = etag
        self._position = 0
        self._start = 0
        self._block = b""
        self._next = SMALLEST

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}.get(whence)
        if base is None:
            raise ValueError(f"unsupported whence value: {whence}")
        if base + offset < 0:
            raise ValueError("a position before the file's beginning")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        wanted = min(len(buffer), self._size - self._position)
        if wanted <= 0:
            return 0
        at = self._position - self._start
        if not 0 <= at < len(self._block):
            self._fetch(wanted)
            at = 0
        found = self._block[at : at + wanted]
        buffer[: len(found)] = found
        self._position += len(found)
        return len(found)

    def readall(self) -> bytes:
        """The rest, by one request: whoever asks for all of it has the memory."""
        if self.closed:
            raise ValueError("I/O operation on closed file")
        start, length = self._position, self._size - self._position
        if length <= 0:
            return b""
        self._block = b""
        # BytesIO hands out its buffer without copying it.
        rest = io.BytesIO()
        self._store.get_range(self._key, start, length, rest.write, size=self._size, if_match=self._etag or None)
        self._position = self._size
        return rest.getvalue()

    def _fetch(self, wanted: int) -> None:
        goes_on = self._position == self._start + len(self._block)
        self._next = min(self._next * 4, LARGEST) if goes_on and self._block else SMALLEST
        length = min(max(self._next, min(wanted, LARGEST)), self._size - self._position)
        block = bytearray()
        self._block = b""  # so that both are not held at once
        self._store.get_range(
            self._key, self._position, length, block.extend, size=self._size, if_match=self._etag or None
        )
        self._start, self._block = self._position, bytes(block)


def ranged(store: IObjectStore, key: str, size: int, etag: str) -> io.BufferedReader:
    """It, with ``read`` that gives as much as was asked for."""
    return io.BufferedReader(RangedFile(store, key, size, etag), SMALLEST)  # type: ignore[type-var]
