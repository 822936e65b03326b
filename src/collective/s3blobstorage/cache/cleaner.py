"""The thread that keeps a cache folder within its bound and the disk's floor, and sweeps after dead processes.

Each process has one for each of its stores, and each looks at the folders of all stores in ``cache-dir``; one at a time
of the whole machine cleans. Where they were given different bounds each enforces its own: the smallest wins.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ..settings import MinFree
from . import bound, room
from .counters import Counters, add_to_total
from .layout import DOWNLOADS_LOCK, Layout, StoreFolder, stores
from .locks import FileLock
from .processes import living

logger = logging.getLogger(__name__)

# How often an idle cleaner saves the counters, if they changed, brings new files to the disk, if there are some, and
# asks how much of it is free: one system call.
_TICK = 5.0  # seconds
# How long an idle cleaner does not look whether another process died and left something. Reads one small folder per
# store.
_SWEEP_INTERVAL = 600.0  # seconds
# How long to wait before asking again whether the other process that is cleaning has finished.
_LOCK_PAUSE = 0.1  # seconds


class Cleaner:
    """Owned by one cache, which starts it and joins it by ``close``.

    ``sweep`` is called at each cleaning and each ten minutes, for what lies outside of ``cache-dir``, and ``sync`` at
    each tick.
    """

    def __init__(
        self,
        layout: Layout,
        margins: bound.Margins,
        min_free: MinFree,
        counters: Counters,
        clock: Callable[[], float],
        sweep: Callable[[], None],
        sync: Callable[[], None],
    ) -> None:
        self._layout = layout
        self._margins = margins
        self._min_free = min_free
        self._counters = counters
        self._clock = clock
        self._sweep = sweep
        self._sync = sync
        self._changed = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        self._closed = False
        self._requested = True  # once at the start
        self._look = False  # at how much of the disk is free
        self._written = 0
        self._unseen = 0  # bytes written since the last look
        self._step = math.inf  # bytes that may be written between two looks
        self._left = 0  # bytes of everything in the folders after the last cleaning
        self._since = 0  # bytes that this process wrote since it began
        self._processes = 1
        self._crowded = False
        self._cleaning = threading.Lock()  # so that two threads of this process do not take each other for others

    def start(self) -> None:
        """Start the thread where it is not running; it cleans at once, without holding up the caller."""
        with self._changed:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="s3blobs-cache-cleaner", daemon=True)
                self._thread.start()

    def written(self, size: int) -> None:
        """Note new bytes. After a tenth of the bound, divided among the processes that write here, it cleans; after a
        tenth of the floor it looks how much of the disk is free."""
        with self._changed:
            self._since += size
            self._written += size
            self._unseen += size
            if self._written * 10 * self._processes >= self._margins.size:
                self._written = 0
                self._requested = True
                self._changed.notify()
            elif self._unseen * self._processes >= self._step:
                self._unseen = 0
                self._look = True
                self._changed.notify()

    def crowded(self) -> bool:
        """Whether less than the floor is free and the last cleaning found nothing more that may go for it."""
        return self._crowded and self._lacking() > 0

    def close(self) -> None:
        """End the thread, also in the middle of a cleaning, and join it. Idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        again = math.inf  # when what could not go may go, by the monotonic clock
        swept = time.monotonic()
        while True:
            with self._changed:
                if not (self._requested or self._look or self._closed):
                    self._changed.wait(max(0.0, min(_TICK, again - time.monotonic())))
                if self._closed:
                    return
                requested, self._requested, self._look = self._requested, False, False
            now = time.monotonic()
            try:
                self._counters.save()
                self._sync()
                lacking = self._lacking()
                if requested or now >= again:
                    pause = self.clean()
                elif lacking and again == math.inf:
                    # Not where a cleaning found nothing more that may go: until ``again`` it would find the same.
                    pause = self._clean_for_floor()
                else:
                    if now - swept >= _SWEEP_INTERVAL:
                        swept = now
                        with self._cleaning:
                            self._remove_leftovers()
                    continue
                swept = time.monotonic()
                again = math.inf if pause is None else swept + pause
            except Exception:
                again = math.inf
                logger.exception("cleaning the cache in cache-dir %s failed", self._layout.root)

    def clean(self) -> float | None:
        """Sweep, then evict down to the target; seconds until it should be done again where too much is left, or None.

        Waits while another process cleans: what was written since that one looked must be seen too.
        """
        with self._cleaning:
            return self._clean(0, lambda: True)

    def estimate(self) -> int:
        """About how many bytes there are now, from the last look and what was written since; makes no system call."""
        with self._changed:
            return self._left + self._since * self._processes

    def free(self, size: int) -> None:
        """Evict ``size`` bytes below what is there, or what may go, whatever the bound. In the calling thread."""
        with self._cleaning:
            self._clean(size, lambda: True)

    def _clean_for_floor(self) -> float | None:
        with self._cleaning:
            return self._clean(0, lambda: self._lacking() > 0)

    def _clean(self, more: int, needed: Callable[[], bool]) -> float | None:
        """``needed`` is asked when it is our turn: what another process evicted meanwhile may be enough."""
        asked = time.time()
        with self._changed:
            before = self._since  # what is written from here on may be seen and count twice: it errs upwards
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
            if not needed() or (not more and self._is_kept_since(asked, before, lock)):
                return None
            return self._keep_bound(more, before, lock)
        finally:
            lock.release()

    def _note_left(self, left: int, before: int) -> None:
        with self._changed:
            self._left = left
            self._since -= before

    def _is_kept_since(self, asked: float, before: int, lock: FileLock) -> bool:
        """Whether another process looked after ``asked`` and left no more than we would. Then it saw what we wrote.

        So that of the many that are started at one time, or wait for each other, not each reads all folders.
        """
        try:
            looked, left = lock.note().split()
            # A time to come is from before the clock was set back.
            if not (asked < float(looked) <= time.time() and int(left) <= self._margins.target):
                return False
        except (OSError, ValueError):
            return False  # the first one of all
        if self._lacking():
            return False
        self._note_left(int(left), before)
        return True

    def _keep_bound(self, more: int, before: int, lock: FileLock) -> float | None:
        looked = time.time()
        now = self._clock()
        all_stores = stores(self._layout.root)
        found = bound.survey(all_stores, self._margins, now, self._is_closed)
        excess = max(found.total - self._margins.target, self._lacking(), more)
        limit = bound.oldest(found, excess)
        count = freed = 0
        if limit is not None:
            count, freed = bound.evict(all_stores, self._margins, limit, excess, now, self._is_closed)
            self._counters.add("evictions", count)
            self._counters.save()
            logger.debug("evicted %d files, %d bytes, from the cache", count, freed)
        self._note_left(found.total - freed, before)
        if not self._closed:  # else it did not look everywhere
            with contextlib.suppress(OSError):
                lock.leave_note(f"{looked!r} {found.total - freed}")
        self._crowded = self._lacking() > 0
        if found.total - freed <= self._margins.size and not self._crowded:
            return None
        # The rest is protected, or written right now, or not ours. It can go as soon as the protection ends.
        return max(1.0, self._margins.protect / 2)

    def _lacking(self) -> int:
        try:
            lacking, step = room.look(self._layout.root, self._min_free)
        except OSError:
            return 0  # no folder, or a disk that does not answer
        self._step = step or math.inf
        return lacking

    def _remove_leftovers(self) -> None:
        processes = 0
        for store in stores(self._layout.root):
            processes += sum(1 for _ in living(store.processes, bury=_bury_in(store)))
            with contextlib.suppress(OSError):
                for path in store.folder.glob(f"{DOWNLOADS_LOCK}.*"):
                    # Where each key has a file: of a process that was killed. Nobody holds it, or we do not get it.
                    lock = FileLock.take(path)
                    if lock is not None:
                        lock.release(remove=True)
            store.remove_old_markers()
        with self._changed:
            self._processes = max(1, processes)
        self._sweep()

    def _is_closed(self) -> bool:
        return self._closed


def _bury_in(store: StoreFolder) -> Callable[[Path], bool]:
    return lambda folder: add_to_total(store, folder)
