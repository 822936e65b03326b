"""``--limit-rate``: how many bytes a second all transfers of a run may take together."""

from __future__ import annotations

import threading

from ..objectstore.clock import Clock

_SECOND = 1.0  # what was not used of one second may be used in the next, no more


class Pace:
    """Makes threads wait. ``rate`` in bytes per second; None: nobody waits. Any thread may call anything."""

    def __init__(self, rate: int | None, clock: Clock | None = None) -> None:
        self._rate = rate
        self._clock = clock or Clock()
        self._lock = threading.Lock()
        self._free_at = self._clock.monotonic()  # when everything that was taken will have been paid for

    def take(self, count: int) -> None:
        """Wait until so many bytes may pass. A negative count gives back what an attempt that failed had taken."""
        if self._rate is None:
            return
        with self._lock:
            now = self._clock.monotonic()
            self._free_at = max(self._free_at, now - _SECOND) + count / self._rate
            wait = self._free_at - now
        if wait > 0:
            self._clock.sleep(wait)
