"""A blob revision in a file of somebody else's, which is only ever opened for reading."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from zope.interface import implementer

from ..cache.interfaces import IBlobSource
from ..errors import Corrupt, PreconditionFailed, Unavailable
from .interfaces import Revision

_BLOCK = 1024 * 1024

_OTHER = "The file of the blob does not have the bytes that its record names."


@implementer(IBlobSource)
class FileBytes:
    """See ``IBlobSource``. ``opened()`` gives a descriptor of the file, which we close; it raises BlobMissing where
    there is none for sure and Unavailable where that cannot be told. Each call opens the file anew.

    ``versioned``: whether another file under the name is another version (its inode and time tell). Where not, the
    place only ever has one version of a revision, and may fetch it anew.
    """

    def __init__(self, revision: Revision, opened: Callable[[], int], *, versioned: bool) -> None:
        self._state = revision.state
        self._opened = opened
        self._versioned = versioned

    @property
    def described(self) -> tuple[int, bytes | None] | None:
        return None if self._state.size is None else (self._state.size, self._state.sha256)

    def describe(self) -> tuple[int, bytes | None]:
        with self._open() as (_, status):
            return status.st_size, self._state.sha256

    def download(self, file: BinaryIO) -> None:
        with self._open() as (descriptor, status):
            digest = hashlib.sha256()
            left = status.st_size
            while left:
                block = self._block(descriptor, status.st_size - left, left)
                digest.update(block)
                file.write(block)
                left -= len(block)
        if self._state.sha256 not in (None, digest.digest()):
            raise Corrupt(_OTHER)

    def read(self, start: int, length: int, write: Callable[[bytes | memoryview], None], validator: str | None) -> str:
        with self._open() as (descriptor, status):
            version = self._version(status)
            if validator not in (None, version):
                raise PreconditionFailed("The file of the blob was replaced while it was read.")
            position, end = start, min(start + length, status.st_size)
            while position < end:
                block = self._block(descriptor, position, end - position)
                write(block)
                position += len(block)
        return version

    @contextmanager
    def _open(self) -> Iterator[tuple[int, os.stat_result]]:
        descriptor = self._opened()
        try:
            try:
                status = os.fstat(descriptor)
            except OSError as error:
                raise Unavailable(f"The file of the blob cannot be read: {error.strerror}.") from error
            if self._state.size not in (None, status.st_size):
                raise Corrupt(_OTHER)
            yield descriptor, status
        finally:
            os.close(descriptor)

    @staticmethod
    def _block(descriptor: int, position: int, wanted: int) -> bytes:
        try:
            block = os.pread(descriptor, min(wanted, _BLOCK), position)
        except OSError as error:
            raise Unavailable(f"The file of the blob cannot be read: {error.strerror}.") from error
        if not block:
            raise Corrupt("The file of the blob was cut while it was read.")
        return block

    def _version(self, status: os.stat_result) -> str:
        if not self._versioned:
            return str(status.st_size)
        return f"{status.st_dev:x}-{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
