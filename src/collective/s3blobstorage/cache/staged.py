"""Files that are on their way into the bucket: as they are, or encrypted (``cache-encrypt``)."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from .cipher import STAGED, FileCipher, Geometry
from .downloads import DiskFailure, DownloadFile, run
from .form import Form, Lost
from .sealedform import SealedDownload, SegmentReader

_BLOCK = 1024 * 1024  # bytes that are read at a time


class Staged(Protocol):
    """A complete file that belongs to whoever staged it. Any thread; every method raises OSError.

    ``path``: where it lies. ``size``: bytes of the blob. ``sha256``: where it was computed on the way, else None.
    ``content``: what ``IObjectStore.put_file`` takes.
    """

    path: Path
    size: int
    sha256: bytes | None

    @property
    def content(self) -> Path | SealedContent: ...

    def blocks(self) -> Iterator[bytes]:
        """The blob's bytes, in order."""

    def copy_to(self, target: Path) -> None:
        """Make a file with the blob's bytes as they are."""


class PlainStaged:
    """A file that is the blob."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sha256: bytes | None = None
        self.size = path.stat().st_size

    @property
    def content(self) -> Path:
        return self.path

    def blocks(self) -> Iterator[bytes]:
        with self.path.open("rb", buffering=0) as file:
            while block := file.read(_BLOCK):
                yield block

    def copy_to(self, target: Path) -> None:
        shutil.copyfile(self.path, target)


class SealedContent:
    """The bytes of an encrypted file, for an upload: decrypted as they are read. ``opening`` gives a descriptor, where
    the segments lie and their cipher; who reads closes the descriptor. It raises OSError."""

    def __init__(self, opening: Callable[[], tuple[int, Geometry, FileCipher]]) -> None:
        self._opening = opening

    @contextmanager
    def opened(self) -> Iterator[OpenContent]:
        descriptor, geometry, cipher = self._opening()
        try:
            yield OpenContent(descriptor, geometry, cipher)
        finally:
            os.close(descriptor)


class OpenContent:
    """Any number of threads may read it, each by a reader. ``size``: bytes of the blob."""

    def __init__(self, descriptor: int, geometry: Geometry, cipher: FileCipher) -> None:
        self._descriptor = descriptor
        self._geometry = geometry
        self._cipher = cipher
        self.size = geometry.size

    def reader(self) -> Callable[[int, int], bytes]:
        """``read(amount, start)``, for one thread: so many bytes from there on. OSError."""
        segments = SegmentReader(self._descriptor, self._geometry, self._cipher)

        def read(amount: int, start: int) -> bytes:
            data = bytearray(max(0, min(amount, self.size - start)))
            try:
                if not data:
                    raise Lost
                segments.read_into(memoryview(data), start)
            except Lost:
                raise OSError(errno.EIO, "an encrypted file was changed while it was uploaded") from None
            except DiskFailure as failure:
                raise OSError(errno.EIO, str(failure)) from failure
            return bytes(data)

        return read


class SealedStaged:
    """A file that is encrypted under a key that only this object has, until it is committed and the cache keeps it."""

    def __init__(self, path: Path, size: int, cipher: FileCipher) -> None:
        self.path = path
        self.size = size
        self.sha256: bytes | None = None
        self._cipher = cipher

    @property
    def content(self) -> SealedContent:
        return SealedContent(self._open)

    def _open(self) -> tuple[int, Geometry, FileCipher]:
        return os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), Geometry(self.size), self._cipher

    def blocks(self) -> Iterator[bytes]:
        with self.content.opened() as content:
            read = content.reader()
            for start in range(0, self.size, _BLOCK):
                yield read(_BLOCK, start)

    def copy_to(self, target: Path) -> None:
        try:
            with target.open("xb") as file:
                for block in self.blocks():
                    file.write(block)
        except BaseException:
            with suppress(OSError):
                target.unlink()
            raise


def received(
    form: Form,
    target: Path,
    oid: bytes,
    download: Callable[[DownloadFile], object],
    written: Callable[[int], None] = lambda size: None,
) -> Staged:
    """A new staged file ``target`` with what ``download`` writes, as ``IBlobCache.fetch`` calls it.

    Raises what ``download`` raises, and OSError; then nothing is left.
    """
    file = form.download(os.fspath(target), written, oid, STAGED)
    try:
        with file:
            run(download, file)
            file.end()
        return SealedStaged(target, file.size, file.cipher) if isinstance(file, SealedDownload) else PlainStaged(target)
    except BaseException as error:
        with suppress(OSError):
            target.unlink()
        if isinstance(error, DiskFailure):
            raise error.__cause__ or error from None
        raise


def taken_over(form: Form, source: Path, target: Path, oid: bytes) -> Staged:
    """The same with the bytes of the file ``source``, which is gone afterwards."""
    digest = hashlib.sha256()

    def copy(file: DownloadFile) -> None:
        with source.open("rb", buffering=0) as given, memoryview(bytearray(_BLOCK)) as buffer:
            while count := given.readinto(buffer):
                file.write(buffer[:count])
                digest.update(buffer[:count])

    staged = received(form, target, oid, copy)
    staged.sha256 = digest.digest()
    try:
        source.unlink()
    except OSError:
        target.unlink()
        raise
    return staged
