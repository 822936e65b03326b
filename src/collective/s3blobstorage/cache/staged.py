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

from .cipher import SEGMENT, STAGED, FileCipher
from .downloads import DiskFailure, DownloadFile, run
from .form import Form, Lost, StoredFile
from .sealedform import SealedDownload, SealedFile

_BLOCK = 1024 * 1024  # bytes that are read at a time


class Staged(Protocol):
    """A complete file that belongs to whoever staged it. Any thread; every method raises OSError.

    ``path``: where it lies, ``text``: the same as text, since a ``Path`` costs a commit of many small blobs as much as
    all calls of the disk. ``size``: bytes of the blob. ``sha256``: where it was computed on the way, else None.
    ``content``: what ``IObjectStore.put_file`` takes.
    """

    text: str
    size: int
    sha256: bytes | None

    @property
    def path(self) -> Path: ...

    @property
    def content(self) -> str | StoredContent: ...

    def blocks(self) -> Iterator[bytes]:
        """The blob's bytes, in order."""

    def copy_to(self, target: Path) -> None:
        """Make a file with the blob's bytes as they are."""


class PlainStaged:
    """A file that is the blob. ``size``: where the caller knows it already."""

    def __init__(self, path: str | os.PathLike[str], size: int | None = None) -> None:
        self.text = os.fspath(path)
        self.sha256: bytes | None = None
        self.size = os.stat(path).st_size if size is None else size

    @property
    def path(self) -> Path:
        return Path(self.text)

    @property
    def content(self) -> str:
        return self.text

    def blocks(self) -> Iterator[bytes]:
        with open(self.text, "rb", buffering=0) as file:
            while block := file.read(_BLOCK):
                yield block

    def copy_to(self, target: Path) -> None:
        shutil.copyfile(self.text, target)


class StoredContent:
    """The bytes of an encrypted file, for an upload: decrypted as they are read. ``opening`` gives the open file, and
    raises OSError or DiskFailure."""

    def __init__(self, opening: Callable[[], StoredFile]) -> None:
        self._opening = opening

    @contextmanager
    def opened(self) -> Iterator[OpenContent]:
        """OSError."""
        try:
            file = self._opening()
        except DiskFailure as failure:
            raise failure.__cause__ or failure from None
        yield OpenContent(file)


class OpenContent:
    """Any number of threads may read it, each by a reader. ``size``: bytes of the blob."""

    def __init__(self, file: SealedFile) -> None:
        self._file = file  # which closes its descriptor when nobody has it any more
        self.size = file.size

    def reader(self) -> Callable[[int, int], bytes]:
        """``read(amount, start)``, for one thread: so many bytes from there on. OSError."""
        segments = self._file.another_reader()

        def read(amount: int, start: int) -> bytes:
            data = bytearray(max(0, min(amount, self.size - start)))
            try:
                if not data:
                    raise Lost
                segments.read_into(memoryview(data), start)
            except Lost:
                raise _changed() from None
            except DiskFailure as failure:
                raise OSError(errno.EIO, str(failure)) from failure
            return bytes(data)

        return read


def _changed() -> OSError:
    return OSError(errno.EIO, "an encrypted file was changed while it was uploaded")


class SealedStaged:
    """A file that is encrypted under a key that only this object has, until it is committed and the cache keeps it."""

    def __init__(self, path: Path, size: int, cipher: FileCipher) -> None:
        self.path = path
        self.text = os.fspath(path)
        self.size = size
        self.sha256: bytes | None = None
        self._cipher = cipher

    @property
    def content(self) -> StoredContent:
        return StoredContent(self._open)

    def _open(self) -> SealedFile:
        try:
            return SealedFile(self.path, lambda header: (SEGMENT, self._cipher))
        except Lost:
            raise _changed() from None

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
