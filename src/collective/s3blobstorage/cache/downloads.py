"""The file that a download writes to, which knows whether it was our disk that failed."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from typing import Any

from .layout import BOOT, stamp

SEALED_MODE = 0o400  # of a file that is complete


class DiskFailure(Exception):
    """The cache's own disk did not do what was asked; the cause is an OSError. Never leaves the cache.

    Not an OSError: code that downloads takes an OSError for a failure of the network and tries again.
    """


class _Disk:
    """No generator, which takes several times as long: it is entered three times for each blob that is fetched."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, OSError):
            raise DiskFailure(str(error)) from error


_DISK = _Disk()


def disk() -> _Disk:
    """Around operations of our own on the cache's disk: OSError becomes DiskFailure.

    Whatever its number: full, quota, read-only, permission, input/output error, out of descriptors, folder deleted. A
    read must go on in all of these cases, and in those that nobody thought of.
    """
    return _DISK


class DownloadFile(io.RawIOBase):
    """A new file, for one thread: ``write`` (always whole), ``seek``, ``tell``, ``truncate``, ``flush``.

    ``mode``: 0400 is that of a sealed file from the beginning; only we have it open for writing.

    ``failure`` is the first error of the disk. It is raised as DiskFailure, and it is kept, since the
    code that downloads may catch it and raise something of its own. No ``fileno``: writes that went past this object
    could not be told from an error of the network.

    OSError where the file cannot be made.
    """

    def __init__(self, path: str, written: Callable[[int], None], *, mode: int = 0o600) -> None:
        super().__init__()
        self._descriptor = -1
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        self._mode = mode
        self._written = written
        self.failure: DiskFailure | None = None

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data) -> int:
        """Write all of ``data`` (any buffer) and return its length."""
        with memoryview(data) as view, view.cast("B") as octets:
            size = octets.nbytes
            done = 0
            with self._noting():
                while done < size:
                    done += os.write(self._descriptor, octets[done:])
        self._written(size)
        return size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with self._noting():
            return os.lseek(self._descriptor, offset, whence)

    def tell(self) -> int:
        return self.seek(0, os.SEEK_CUR)

    def truncate(self, size: int | None = None) -> int:
        size = self.tell() if size is None else size
        with self._noting():
            os.ftruncate(self._descriptor, size)
        return size

    def end(self) -> None:
        """No more bytes come. DiskFailure."""

    def seal(self, accessed: float) -> None:
        """Make the file read-only and set its times. DiskFailure."""
        with self._noting():
            seal(self._descriptor, accessed, read_only=self._mode == SEALED_MODE)

    def _noting(self) -> _Noting:
        if self.closed:
            raise ValueError("write to a closed download")
        return _Noting(self)

    def close(self) -> None:
        """Never raises: what was not sealed is not used."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        super().close()


class _Noting:
    """OSError becomes the file's DiskFailure."""

    __slots__ = ("_file",)

    def __init__(self, file: DownloadFile) -> None:
        self._file = file

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, OSError):
            failure = DiskFailure(str(error))
            self._file.failure = self._file.failure or failure
            raise failure from error


def run(download: Callable[[DownloadFile], object], file: DownloadFile) -> None:
    """``download(file)``; DiskFailure where the disk failed, whatever the download made of it."""
    try:
        download(file)
    except Exception:
        if file.failure is not None:
            raise file.failure from file.failure.__cause__
        raise
    if file.failure is not None:
        raise file.failure from file.failure.__cause__


def seal(descriptor: int, accessed: float, *, read_only: bool = False) -> None:
    """Make the file read-only, where it is not, and set when it was last used (seconds since 1970) and the stamp of its
    size.

    Its bytes need not be on the disk yet where the stamp says so: see ``layout.stamp``.
    """
    if not BOOT:
        os.fsync(descriptor)
    if not read_only:
        os.chmod(descriptor, SEALED_MODE)
    os.utime(descriptor, ns=_times(accessed, os.fstat(descriptor).st_size))


def seal_named(path: str | os.PathLike[str], accessed: float, size: int | None = None) -> None:
    """The same by its name, in a folder of ours. OSError.

    ``size``: in bytes, where the caller knows it. Then two calls do instead of five, and each is one in which a thread
    may lose the interpreter to another one.
    """
    if BOOT and size is not None:
        os.chmod(path, SEALED_MODE)
        os.utime(path, ns=_times(accessed, size))
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        seal(descriptor, accessed)
    finally:
        os.close(descriptor)


def _times(accessed: float, size: int) -> tuple[int, int]:
    return int(accessed * 1e9), stamp(size, BOOT) * 10**9
