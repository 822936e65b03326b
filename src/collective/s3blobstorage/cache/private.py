"""Files for reads that the cache's own disk could not serve."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import Unavailable
from .downloads import DiskFailure, DownloadFile, disk, run
from .form import Form
from .processes import ProcessFolder, living

# When the temporary folder is full too, files go before their time, but none that a thread got so lately that it
# may not have opened it yet.
_OPENING = 10.0  # seconds

_NO_SPACE = "The blob could not be read: neither cache-dir nor the temporary folder (TMPDIR) takes a file."


@dataclass(slots=True)
class _PrivateFile:
    path: Path
    handed_out: float  # time.monotonic(): a clock that is set does not matter inside one process


class PrivateFiles:
    """Files in the machine's temporary folder that only this process uses, each kept ``protect`` seconds after it was
    handed out last. Any thread may call anything; two downloads of one key at a time are the caller's to prevent.
    They have the form of the cache's other files.
    """

    def __init__(self, store: str, form: Form, protect: float) -> None:
        self._form = form
        self._prefix = f"s3blobs-{store}-"
        self._protect = protect
        self._lock = threading.Lock()
        self._files: dict[tuple[bytes, bytes], _PrivateFile] = {}
        self._folder: ProcessFolder | None = None
        self._closed = False

    def find(self, key: tuple[bytes, bytes]) -> Path | None:
        """The file of an earlier download, kept for another ``protect`` seconds."""
        with self._lock:
            file = self._files.get(key)
            if file is None:
                return None
            file.handed_out = time.monotonic()
        return file.path if file.path.exists() else None

    def download(self, key: tuple[bytes, bytes], download: Callable[[DownloadFile], object]) -> Path:
        """A new file with what ``download`` writes. Unavailable where no file can be written here either."""
        self.drop(self._protect)
        try:
            try:
                return self._download(key, download)
            except DiskFailure:
                self.drop(min(self._protect, _OPENING))
                return self._download(key, download)
        except DiskFailure as failure:
            raise Unavailable(_NO_SPACE) from failure

    def _download(self, key: tuple[bytes, bytes], download: Callable[[DownloadFile], object]) -> Path:
        path: Path | None = None
        try:
            with disk():
                path = Path(self.folder().new_name())
                file = self._form.download(str(path), lambda size: None, *key)
            with file:
                run(download, file)
                file.seal(time.time())
            with self._lock:
                if self._closed:
                    raise Unavailable("The blob storage is closed.")
                old = self._files.get(key)
                self._files[key] = _PrivateFile(path, time.monotonic())
            if old is not None:
                _unlink(old.path)
            return path
        except BaseException:
            if path is not None:
                _unlink(path)
            raise

    def folder(self) -> ProcessFolder:
        """This process's folder in the temporary folder, made at first use. OSError; Unavailable after ``close``."""
        with self._lock:
            if self._closed:
                raise Unavailable("The blob storage is closed.")
            if self._folder is None or not self._folder.usable:
                if self._folder is not None:
                    self._folder.remove()  # somebody deleted it; its lock is still held
                    self._folder = None
                self._folder = ProcessFolder.make(Path(tempfile.gettempdir()), self._prefix)
            return self._folder

    def drop(self, age: float) -> None:
        """Delete the files that were handed out last at least ``age`` seconds ago."""
        limit = time.monotonic() - age
        with self._lock:
            old = [key for key, file in self._files.items() if file.handed_out <= limit]
            paths = [self._files.pop(key).path for key in old]
        for path in paths:
            _unlink(path)

    def sweep(self) -> None:
        """Remove what dead processes left in the temporary folder."""
        with contextlib.suppress(OSError):  # raised where no temporary folder is usable
            for _ in living(Path(tempfile.gettempdir()), self._prefix):
                pass

    def close(self) -> None:
        with self._lock:
            self._closed = True
            folder, self._folder = self._folder, None
            self._files.clear()
        if folder is not None:
            folder.remove()


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
