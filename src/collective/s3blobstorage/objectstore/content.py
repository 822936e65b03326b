"""The bytes of an upload: a file as it is, or sealed on its way out."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

from collective.s3blobstorage.encryption import segments
from collective.s3blobstorage.encryption.envelope import DataKey

BLOCK = 1024 * 1024  # bytes read at a time for hashing

# Segments that are sealed at a time: 1 MB, as much as is read for a hash. A body is read in pieces of 16 KB.
_SEGMENTS = 16

# (how many bytes, from which on) -> at least one of them. Belongs to one thread.
Reader = Callable[[int, int], bytes]


def sha256_of(blocks: Iterable[bytes]) -> bytes:
    """Of a file that is not taken into memory. Raises what its blocks raise."""
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.digest()


def read_all(read: Reader, start: int, size: int) -> bytes:
    """So many bytes from there on, in memory; in one call of the disk, nearly always. Raises what the reader raises."""
    data = read(size, start) if size else b""
    while len(data) < size:
        data += read(size - len(data), start + len(data))
    return data


class Content(Protocol):
    """What is to be stored, of ``size`` bytes in the store. Any number of threads may read it, each by a reader."""

    size: int
    plain: bool  # whether these are the caller's bytes
    once: bool  # whether it is read once only, in order and by one thread: who sends it holds what may be sent again

    def reader(self) -> Reader:
        """Raises OSError where the file became shorter."""
        ...

    def plain_blocks(self) -> Iterator[bytes]:
        """The caller's bytes, in order."""
        ...

    def digest(self) -> bytes:
        """SHA-256 of the caller's bytes. Of what is read once: after that, and it costs nothing."""
        ...


class OpenFile(Protocol):
    """A file whose bytes do not lie on the disk as they are: the cache's, where it is encrypted. ``size``: of them."""

    size: int

    def reader(self) -> Reader:
        """Raises OSError."""
        ...


class Openable(Protocol):
    """What ``put_file`` takes in the place of a path."""

    def opened(self) -> AbstractContextManager[OpenFile]:
        """Raises OSError."""
        ...


class FileContent:
    """An open file as it is. ``pread`` has no position, so threads share the descriptor."""

    plain = True
    once = False

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def reader(self) -> Reader:
        return self._read

    def _read(self, amount: int, start: int) -> bytes:
        block = os.pread(self._descriptor, amount, start)
        if not block:
            # Without this the server would wait for bytes that never come, until its own time-out.
            raise OSError(errno.EIO, "the file became shorter while it was uploaded")
        return block

    def plain_blocks(self) -> Iterator[bytes]:
        read = self.reader()
        position = 0
        while position < self.size:
            block = read(min(BLOCK, self.size - position), position)
            position += len(block)
            yield block

    def digest(self) -> bytes:
        return sha256_of(self.plain_blocks())


class OpenedFile(FileContent):
    """The same, closed by leaving the ``with`` block that it is for. Raises OSError where it cannot be opened."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            super().__init__(descriptor)
        except BaseException:
            os.close(descriptor)
            raise

    def __enter__(self) -> OpenedFile:
        return self

    def __exit__(self, *exception: Any) -> None:
        os.close(self._descriptor)


class DecryptedContent(FileContent):
    """The bytes of an ``OpenFile``."""

    def __init__(self, file: OpenFile) -> None:
        self._file = file
        self.size = file.size

    def reader(self) -> Reader:
        return self._file.reader()


class SealedContent:
    """A file as the segments of a sealed object. It is sealed anew each time it is read, for a hash, for the body, for
    another attempt: the same segments come out, and nothing more is kept than one megabyte for each reader.

    The file must not change: one nonce of a segment would then encrypt two texts. Its callers own it (staging-dir).
    """

    plain = False

    def __init__(self, file: FileContent, key: DataKey) -> None:
        self.once = file.once
        self._file = file
        self._key = key
        self._count = segments.count(file.size)
        self.size = segments.sealed_size(file.size)

    def plain_blocks(self) -> Iterator[bytes]:
        return self._file.plain_blocks()

    def digest(self) -> bytes:
        return self._file.digest()

    def reader(self) -> Reader:
        return _Sealing(self).read

    def sealed(self, first: int) -> bytes:
        """The segments from that one on, at most ``_SEGMENTS``."""
        end = min(first + _SEGMENTS, self._count)
        start = first * segments.SEGMENT
        plain = self._plain(start, min(end * segments.SEGMENT, self._file.size) - start)
        encrypt, last = self._key.cipher.encrypt, self._count - 1
        with memoryview(plain) as view:
            return b"".join(
                encrypt(
                    number,
                    number == last,
                    view[(number - first) * segments.SEGMENT : (number - first + 1) * segments.SEGMENT],
                )
                for number in range(first, end)
            )

    def _plain(self, start: int, size: int) -> bytes:
        return read_all(self._file.reader(), start, size)

    @property
    def header(self) -> bytes:
        return segments.header(self._key.commitment)


class SealedBytes:
    """A small blob, sealed as a whole in memory: it is read once, and sealed once. ``data``: the blob."""

    plain = False
    once = False

    def __init__(self, data: bytes, key: DataKey) -> None:
        self._data = data
        self._sealed = segments.sealed(key.cipher, key.commitment, data)
        self.size = len(self._sealed)

    def plain_blocks(self) -> Iterator[bytes]:
        yield self._data

    def digest(self) -> bytes:
        return hashlib.sha256(self._data).digest()

    def reader(self) -> Reader:
        return lambda amount, start: self._sealed[start : start + amount]


class _Sealing:
    """One reader's position: the segments that were sealed last."""

    def __init__(self, content: SealedContent) -> None:
        self._content = content
        self._start = 0
        self._sealed = content.header

    def read(self, amount: int, start: int) -> bytes:
        if not self._start <= start < self._start + len(self._sealed):
            if start < segments.HEADER:
                self._start, self._sealed = 0, self._content.header
            else:
                first = (start - segments.HEADER) // segments.SEALED_SEGMENT
                self._start = segments.HEADER + first * segments.SEALED_SEGMENT
                self._sealed = self._content.sealed(first)
        at = start - self._start
        return self._sealed[at : at + amount]
