"""The thread that keeps a store's cache folder within its bound and sweeps after dead processes."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

from ..errors import Unavailable
from . import bound
from .counters import Counters
from .layout import Layout
from .locks import FileLock
from .processes import living

logger = logging.getLogger(__name__)

# How long an idle cleaner sleeps before it looks whether another process died and left something. Reads one small
# folder.
_SWEEP_INTERVAL = 600.0  # seconds
# How long to wait before asking again whether the other process that is cleaning has finished.
_LOCK_PAUSE = 0.1  # seconds


class Cleaner:
    """Owned by one cache, which starts it and joins it by ``close``.

    ``scratch`` gives a new name in a folder of this process on the cache's disk; OSError or Unavailable where there is
    none. ``sweep`` is called at each cleaning and each ten minutes, for what lies outside of the store's folder.
    """

    def __init__(
        self,
        layout: Layout,
        margins: bound.Margins,
        counters: Counters,
        clock: Callable[[], float],
        scratch: Callable[[], Path],
        sweep: Callable[[], None],
    ) -> None:
        self._layout = layout
        self._margins = margins
        self._counters = counters
        self._clock = clock
        self._scratch = scratch
        self._sweep = sweep
        self._changed = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        self._closed = False
        self._requested = True  # once at the start
        self._written = 0
        self._left = 0  # bytes of everything in the store's folder after the last cleaning
        self._since = 0  # bytes that this process wrote since it began
        self._processes = 1
        self._cleaning = threading.Lock()  # so that two threads of this process do not take each other for others

    def start(self) -> None:
        """Start the thread where it is not running; it cleans at once, without holding up the caller."""
        with self._changed:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="s3blobs-cache-cleaner", daemon=True)
                self._thread.start()

    def written(self, size: int) -> None:
        """Note new bytes. After a tenth of the bound, divided among the processes that write here, it cleans."""
        with self._changed:
            self._since += size
            self._written += size
            if self._written * 10 * self._processes >= self._margins.size:
                self._written = 0
                self._requested = True
                self._changed.notify()

    def close(self) -> None:
        """End the thread, also in the middle of a cleaning, and join it. Idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        again: float | None = None
        while True:
            with self._changed:
                if not self._requested and not self._closed:
                    self._changed.wait(_SWEEP_INTERVAL if again is None else again)
                if self._closed:
                    return
                requested, self._requested = self._requested, False
            try:
                if requested or again is not None:
                    again = self.clean()
                else:
                    with self._cleaning:
                        self._remove_leftovers()
            except Exception:
                again = None
                logger.exception("cleaning the cache in cache-dir %s failed", self._layout.root)

    def clean(self) -> float | None:
        """Sweep, then evict down to the target; seconds until it should be done again where too much is left, or None.

        Waits while another process cleans this folder: what was written since that one looked must be seen too.
        """
        with self._cleaning:
            return self._clean()

    def estimate(self) -> int:
        """About how many bytes there are now, from the last look and what was written since; makes no system call."""
        with self._changed:
            return self._left + self._since * self._processes

    def free(self, size: int) -> None:
        """Evict ``size`` bytes below what is there, or what may go, whatever the bound. In the calling thread."""
        with self._cleaning:
            self._clean(size)

    def _clean(self, more: int = 0) -> float | None:
        with self._changed:
            self._since = 0  # what is written from here on may be seen by the survey and count twice: it errs upwards
        self._remove_leftovers()
        while not self._closed:
            try:
                lock = FileLock.take(self._layout.cleaner_lock)
            except OSError:
                return None  # no folder, or a disk that does not let us: then there is nothing to evict
            if lock is not None:
                break
            with self._changed:
                if not self._closed:
                    self._changed.wait(_LOCK_PAUSE)
        else:
            return None
        try:
            return self._keep_bound(more)
        finally:
            lock.release()

    def _keep_bound(self, more: int) -> float | None:
        now = self._clock()
        found = bound.survey(self._layout, self._margins, now, self._is_closed)
        excess = max(found.total - self._margins.target, more)
        limit = bound.oldest(found, excess)
        freed = 0
        with self._changed:
            self._left = found.total
        if limit is not None:
            try:
                scratch = self._scratch()
            except (OSError, Unavailable):
                return None  # a disk that does not let us, or the cache was closed just now
            files, freed = bound.evict(self._layout, self._margins, limit, excess, now, scratch, self._is_closed)
            with self._changed:
                self._left = found.total - freed
            self._counters.add("evictions", files)
            logger.debug("evicted %d files, %d bytes, from the cache", files, freed)
        if found.total - freed <= self._margins.size:
            return None
        # The rest is protected, or written right now. It can go as soon as the protection ends.
        return max(1.0, self._margins.protect / 2)

    def _remove_leftovers(self) -> None:
        processes = sum(1 for _ in living(self._layout.processes))
        with self._changed:
            self._processes = max(1, processes)
        with contextlib.suppress(OSError):
            for name in os.listdir(self._layout.locks):
                # Of a download whose process was killed. Nobody holds it, or we do not get it.
                lock = FileLock.take(self._layout.locks / name)
                if lock is not None:
                    lock.release(remove=True)
        self._layout.remove_old_markers()
        self._sweep()

    def _is_closed(self) -> bool:
        return self._closed
