"""Bringing published files to the disk, in the background."""

from __future__ import annotations

import contextlib
import logging
import os
import threading

from .layout import BOOT, stamp

logger = logging.getLogger(__name__)


class Unsynced:
    """The files that this process published since it last synced. Any thread may call anything.

    One that is lost (the process was killed) keeps the stamp of this boot: it is good until the machine starts anew.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paths: list[str] = []

    def add(self, path: str) -> None:
        if BOOT:  # else it was synced before it was published
            with self._lock:
                self._paths.append(path)

    def sync(self) -> None:
        """Sync them and give them the stamp that lasts. Never raises for the disk: a file that it failed goes, and one
        that could not be opened now waits for the next time."""
        with self._lock:
            paths, self._paths = self._paths, []
        for path in paths:
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            except FileNotFoundError:
                continue  # evicted meanwhile
            except OSError:
                self.add(path)
                continue
            try:
                _sync(descriptor)
            except OSError as error:
                logger.warning("a cache file did not get to the disk and is removed: %s", error)
                with contextlib.suppress(OSError):
                    os.unlink(path)
            finally:
                os.close(descriptor)


def _sync(descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    os.fsync(descriptor)
    status = os.fstat(descriptor)
    if status.st_mtime == stamp(size, BOOT):
        # A use noted between these two lines is lost. The file is some seconds old, and whoever was given its path just
        # now must expect that it is gone.
        os.utime(descriptor, ns=(status.st_atime_ns, stamp(size) * 10**9))
