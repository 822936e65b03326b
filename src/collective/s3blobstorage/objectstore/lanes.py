"""How many requests send bytes at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from collective.s3blobstorage.errors import Unavailable
from collective.s3blobstorage.objectstore.interfaces import Cancelled

CLOSED = "The object store was closed."


class Lanes:
    """At most ``count`` requests that send bytes at a time, over all threads of a store.

    Whole files are sent from their callers' threads, parts from the pool's. No deadlock: whoever holds a lane waits
    for nothing but the network, and a part never waits for another part.
    """

    def __init__(self, count: int) -> None:
        self._lanes = threading.BoundedSemaphore(count)
        self.count = count
        self.closing = threading.Event()
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def lane(self, cancelled: Callable[[], bool]) -> _Lane:
        """``with``: wait for a free lane. Raises Cancelled where ``cancelled()`` becomes true first, Unavailable after
        close."""
        return _Lane(self, cancelled)

    def _enter(self, cancelled: Callable[[], bool]) -> None:
        while not self._lanes.acquire(timeout=0.2):
            self._check(cancelled)
        try:
            self._check(cancelled)
        except BaseException:
            self._lanes.release()
            raise

    def _leave(self) -> None:
        self._lanes.release()

    def _check(self, cancelled: Callable[[], bool]) -> None:
        if cancelled():
            raise Cancelled()
        if self.closing.is_set():
            raise Unavailable(CLOSED)

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future:
        with self._lock:
            if self.closing.is_set():
                raise Unavailable(CLOSED)
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.count, thread_name_prefix="s3blobs-upload")
            return self._pool.submit(work, *arguments)

    def close(self) -> None:
        """Stop what is being sent and join the threads."""
        self.closing.set()
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)


class _Lane:
    """No generator: a small upload enters several such blocks, and each generator takes as long as a small call of the
    disk."""

    __slots__ = ("_cancelled", "_lanes")

    def __init__(self, lanes: Lanes, cancelled: Callable[[], bool]) -> None:
        self._lanes = lanes
        self._cancelled = cancelled

    def __enter__(self) -> None:
        self._lanes._enter(self._cancelled)

    def __exit__(self, *exception: Any) -> None:
        self._lanes._leave()
