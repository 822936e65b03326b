"""One line in the log per minute about a disk that fails at every read."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

INTERVAL = 60.0  # seconds


class DiskWarnings:
    """Logs at WARNING, at most once per interval, how often the disk failed since the last line. Any thread."""

    def __init__(self, logger: logging.Logger, subject: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._subject = subject
        self._clock = clock
        self._lock = threading.Lock()
        self._last: float | None = None
        self._silent = 0

    def warn(self, error: BaseException | str) -> None:
        now = self._clock()
        with self._lock:
            if self._last is not None and 0 <= now - self._last < INTERVAL:
                self._silent += 1
                return
            silent, self._silent = self._silent, 0
            self._last = now
        more = f" ({silent} more failures since the last message)" if silent else ""
        self._logger.warning("%s cannot be used, blobs are read without it: %s%s", self._subject, error, more)
