"""In which form the cache's files lie on the disk: as they are, or encrypted (``sealedform.py``)."""

from __future__ import annotations

import contextlib
import errno
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from .downloads import SEALED_MODE, DiskFailure, DownloadFile, disk


class Lost(Exception):
    """A file is not what it was when it was opened, or written. Open it anew. Never leaves the cache."""


class PartWriter(Protocol):
    """Takes the bytes of one part, in order. For one thread. ``crc``: CRC-32 of what was written to the disk so far."""

    crc: int

    def write(self, octets: memoryview) -> None:
        """Lost where something cut the file; DiskFailure."""


class Body(Protocol):
    """A blob's bytes in a file of which only parts are there. Any thread; one part is written by one at a time.

    ``stored``: how long the file is.
    """

    stored: int

    def read_into(self, view: memoryview, offset: int) -> None:
        """Lost where the file is too short for it, or holds something else; DiskFailure."""

    def span(self, part: int) -> tuple[int, int]:
        """Where the part begins in the file, and where it ends."""

    def writer(self, part: int) -> PartWriter: ...


class StoredFile:
    """A complete file, opened. For one thread at a time.

    FileNotFoundError where it was evicted; DiskFailure where no descriptor is free, which is no fault of this file.
    ``size``: bytes of the blob.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str.__str__(os.fspath(path))  # text only: a ClearPath would keep its file
        self.descriptor = -1
        try:
            self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self.size = os.fstat(self.descriptor).st_size
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise DiskFailure(str(error)) from error
            raise

    def __del__(self) -> None:
        if self.descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self.descriptor)

    def read_into(self, view: memoryview, offset: int) -> None:
        """Lost where the file was cut or holds something else; DiskFailure."""
        fill(view, self.descriptor, offset)


class Form(Protocol):
    """What the cache asks of a form. Any thread."""

    sealed: bool  # whether the files cannot be read as they are

    def settle(self) -> None:
        """The cache's folder was made, or made anew: have what is needed to read what lies in it. OSError."""

    def download(self, path: str, written: Callable[[int], None], oid: bytes, tid: bytes) -> DownloadFile:
        """A new file that takes the bytes of that revision. OSError."""

    def open(self, path: str | Path, oid: bytes, tid: bytes) -> StoredFile:
        """Lost where the file is not that revision's, or damaged, as far as its beginning tells."""

    def new_body(self, descriptor: int, size: int, part_size: int, oid: bytes, tid: bytes) -> Body:
        """For an empty file, which gets its length. OSError."""

    def body(self, descriptor: int, size: int, part_size: int, oid: bytes, tid: bytes) -> Body | None:
        """For a file that is there; None where it is no such file. OSError."""

    def size_of(self, stored: int) -> int:
        """Bytes of the blob in a file of ``stored`` bytes that was not made of parts. Lost where none has that many."""

    def noted(self, size: int) -> int:
        """How long a note of ``size`` bytes is on the disk."""

    def seal_note(self, note: bytes, oid: bytes, tid: bytes) -> bytes: ...

    def open_note(self, stored: bytes, oid: bytes, tid: bytes) -> bytes:
        """What ``seal_note`` was given; b"" where it does not open."""


class Plain:
    """As they are: a file of the cache is the blob."""

    sealed = False

    def settle(self) -> None:
        return None

    def download(self, path: str, written: Callable[[int], None], oid: bytes, tid: bytes) -> DownloadFile:
        return DownloadFile(path, written, mode=SEALED_MODE)

    def open(self, path: str | Path, oid: bytes, tid: bytes) -> StoredFile:
        return StoredFile(path)

    def new_body(self, descriptor: int, size: int, part_size: int, oid: bytes, tid: bytes) -> Body:
        os.ftruncate(descriptor, size)
        return _PlainBody(descriptor, size, part_size)

    def body(self, descriptor: int, size: int, part_size: int, oid: bytes, tid: bytes) -> Body | None:
        return _PlainBody(descriptor, size, part_size) if os.fstat(descriptor).st_size == size else None

    def size_of(self, stored: int) -> int:
        return stored

    def noted(self, size: int) -> int:
        return size

    def seal_note(self, note: bytes, oid: bytes, tid: bytes) -> bytes:
        return note

    def open_note(self, stored: bytes, oid: bytes, tid: bytes) -> bytes:
        return stored


class _PlainBody:
    """The blob's own bytes, as long as the whole blob from the beginning, with holes."""

    def __init__(self, descriptor: int, size: int, part_size: int) -> None:
        self.descriptor = descriptor
        self.stored = size
        self._part_size = part_size

    def read_into(self, view: memoryview, offset: int) -> None:
        fill(view, self.descriptor, offset)

    def span(self, part: int) -> tuple[int, int]:
        start = part * self._part_size
        return start, min(start + self._part_size, self.stored)

    def writer(self, part: int) -> PartWriter:
        return _PlainWriter(self, part)


class _PlainWriter:
    def __init__(self, body: _PlainBody, part: int) -> None:
        self._body = body
        self._offset = body.span(part)[0]
        self.crc = 0

    def write(self, octets: memoryview) -> None:
        write_within(self._body, self._body.descriptor, octets, self._offset)
        self.crc = zlib.crc32(octets, self.crc)
        self._offset += len(octets)


def write_within(body: Body, descriptor: int, octets: bytes | memoryview, offset: int) -> None:
    """Write into a file of parts, which is never made longer. Lost where something cut it; DiskFailure."""
    with disk():
        if os.fstat(descriptor).st_size != body.stored:
            raise Lost
        write_at(descriptor, octets, offset)


def fill(view: memoryview, descriptor: int, offset: int) -> None:
    """Fill the buffer from that place of the file. Lost where the file ends before; DiskFailure."""
    done = 0
    while done < len(view):
        # Not `with disk()`: this is on the path of every read.
        try:
            count = os.preadv(descriptor, [view[done:]], offset + done)
        except OSError as error:
            raise DiskFailure(str(error)) from error
        if not count:
            raise Lost
        done += count


def write_at(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """All of ``data``. OSError."""
    with memoryview(data) as view:
        done = 0
        while done < len(view):
            done += os.pwrite(descriptor, view[done:], offset + done)
