"""What a cache did since it was opened, in this process."""

from __future__ import annotations

import threading


class Counters:
    """Whole numbers that only grow. ``snapshot`` is consistent; any thread may call anything.

    hits: reads answered by a file that was here. misses: reads that found none. waits: reads that waited for another
    thread's download. downloads: downloads of whole blobs begun. parts: downloads of parts begun. bytes_written: bytes
    downloaded or adopted. evictions: files removed for the bound. errors: operations of the cache's own disk that
    failed.
    """

    names = ("hits", "misses", "waits", "downloads", "parts", "bytes_written", "evictions", "errors")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values = dict.fromkeys(self.names, 0)

    def add(self, name: str, amount: int = 1) -> None:
        with self._lock:
            self._values[name] += amount

    def snapshot(self) -> dict[str, int]:
        with self._lock:
            return dict(self._values)
