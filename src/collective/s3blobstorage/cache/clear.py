"""Files with the plain bytes of blobs that the cache has encrypted, for whoever needs a path or a descriptor."""

from __future__ import annotations

import errno
import os
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import Unavailable
from .downloads import DiskFailure, disk
from .flights import Flights
from .form import Lost, StoredFile
from .interfaces import IBlobSource
from .layout import BLOB_SUFFIX
from .processes import ProcessFolder

if TYPE_CHECKING:
    from .blobcache import BlobCache

# Bytes that are decrypted at a time.
_BLOCK = 1024 * 1024

# How often files that are lost again and again are opened anew before the blob is read from a private one.
ATTEMPTS = 3

LOST = "The blob could not be decrypted: the cache's files are lost again and again."
_NO_SPACE = "The blob could not be decrypted: neither cache-dir nor the temporary folder (TMPDIR) takes a file."


class ClearPath(str):
    """The path of such a file, which is removed when nobody has this object any more.

    Whoever passes the path on keeps the object meanwhile: a promise does, and the local variable of a caller.
    """

    __slots__ = ("_process", "__weakref__")

    _process: int

    @classmethod
    def of(cls, path: str) -> ClearPath:
        made = cls(path)
        made._process = os.getpid()
        return made

    def __reduce_ex__(self, protocol: object) -> tuple[type, tuple[str]]:
        return str, (str.__str__(self),)

    def __del__(self) -> None:
        # A forked child has a copy of the object; the file is its parent's.
        try:
            if self._process == os.getpid():
                os.unlink(self)
        except (OSError, AttributeError):  # AttributeError: it was copied without its process, or the interpreter ends
            pass


class ClearFiles:
    """Those of one process, mode 0400, in its own folders, which are swept after a crash. Any thread.

    ``folders`` gives the folders to try in order; each raises OSError where its disk does not take it. ``written`` is
    told of each file's bytes. protect: seconds.
    """

    def __init__(
        self,
        cache: BlobCache,
        folders: tuple[Callable[[], ProcessFolder], ...],
        written: Callable[[int], None],
        protect: float,
    ) -> None:
        self._cache = cache
        self._folders = folders
        self._written = written
        self._protect = protect
        self._flights: Flights[ClearPath] = Flights()
        self._lock = threading.Lock()
        self._living: weakref.WeakValueDictionary[tuple[bytes, bytes], ClearPath] = weakref.WeakValueDictionary()
        self._kept: dict[ClearPath, float] = {}

    def path(self, oid: bytes, tid: bytes, source: Callable[[], IBlobSource]) -> ClearPath:
        """See ``IBlobCache.path``. One thread decrypts; those that come meanwhile wait, and get the same."""
        return self._flights.run((oid, tid), lambda: self._path(oid, tid, source), lambda: None)

    def _path(self, oid: bytes, tid: bytes, source: Callable[[], IBlobSource]) -> ClearPath:
        path = self._find(oid, tid)
        if path is not None:
            self._cache.get_text(oid, tid)  # the encrypted one is in use
            return path
        for _ in range(ATTEMPTS):
            stored = self._cache.get_text(oid, tid) or self._cache.complete(oid, tid, source())
            try:
                return self._decrypted(stored, oid, tid)
            except FileNotFoundError:
                continue  # evicted, or damaged and removed
            except (OSError, DiskFailure) as error:
                self._cache.failed(error)
                break
        try:
            return self._decrypted(self._cache.fetch_private(oid, tid, source().download), oid, tid)
        except (OSError, DiskFailure) as error:
            raise Unavailable(LOST) from error

    def _find(self, oid: bytes, tid: bytes) -> ClearPath | None:
        """The one that somebody has, and that is there."""
        with self._lock:
            path = self._living.get((oid, tid))
        return path if path is not None and os.path.exists(path) else None

    def _decrypted(self, stored: str | Path, oid: bytes, tid: bytes) -> ClearPath:
        """FileNotFoundError where it was evicted, or is damaged; other OSErrors, DiskFailure, Unavailable."""
        file = self._cache.open_stored(stored, oid, tid)
        try:
            path = self._make(file)
        except Lost:
            self._cache.discard(file, oid, tid)
            raise FileNotFoundError(errno.ENOENT, "a cache file was damaged", os.fspath(stored)) from None
        self._written(file.size)
        with self._lock:
            self._living[oid, tid] = path
        return path

    def _make(self, stored: StoredFile) -> ClearPath:
        """Lost where the encrypted file is damaged; Unavailable where no disk takes the file."""
        failure: BaseException | None = None
        for folder in self._folders:
            try:
                with disk():
                    return _write(folder(), stored)
            except DiskFailure as error:
                failure = error
        raise Unavailable(_NO_SPACE) from failure

    def keep(self, path: ClearPath) -> None:
        """For whoever was given the path as text only: as long as a file of the cache that was handed out stays."""
        with self._lock:
            self._kept[path] = time.monotonic()

    def drop(self) -> None:
        """Let go of those that were kept long enough."""
        limit = time.monotonic() - self._protect
        with self._lock:
            old = [path for path, handed_out in self._kept.items() if handed_out <= limit]
            for path in old:
                del self._kept[path]

    def close(self) -> None:
        with self._lock:
            self._kept.clear()


def _write(folder: ProcessFolder, stored: StoredFile) -> ClearPath:
    path = ClearPath.of(f"{folder.new_name()}{BLOB_SUFFIX}")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb", buffering=0) as file, memoryview(bytearray(min(_BLOCK, stored.size))) as buffer:
        position = 0
        while position < stored.size:
            with buffer[: min(len(buffer), stored.size - position)] as block:
                stored.read_into(block, position)
                done = 0
                while done < len(block):
                    done += file.write(block[done:])
                position += len(block)
        os.fchmod(file.fileno(), 0o400)
    return path
