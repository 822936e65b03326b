"""One line in the log per reason and minute about what happens at every request."""

import threading
import time

INTERVAL = 60.0  # seconds
MOST_REASONS = 100


class Seldom:
    """Logs at WARNING, at most once per interval and reason. Any thread."""

    def __init__(self, logger, clock=time.monotonic):
        self._logger = logger
        self._clock = clock
        self._lock = threading.Lock()
        self._last = {}

    def warn(self, reason, message, *arguments):
        now = self._clock()
        with self._lock:
            last = self._last.get(reason)
            if last is not None and 0 <= now - last < INTERVAL:
                return
            if len(self._last) >= MOST_REASONS:
                self._last.clear()
            self._last[reason] = now
        self._logger.warning(message, *arguments)
