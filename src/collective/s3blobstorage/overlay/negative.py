"""What a source was found not to have, remembered for a while: a listing of a staging site asks again and again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

# Of 16 bytes each, with what Python needs around them about two megabytes.
ENTRIES = 10_000


class NegativeCache:
    """Keys that were missing, each for ``seconds``. At most ``entries``; the oldest goes first. Any thread.

    ``monotonic`` gives seconds on a scale that is never set back.
    """

    def __init__(self, seconds: float, monotonic: Callable[[], float], *, entries: int = ENTRIES) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._entries = entries
        self._until: OrderedDict[bytes, float] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._until)

    def note(self, key: bytes) -> None:
        if not self._seconds:
            return
        with self._lock:
            self._until[key] = self._monotonic() + self._seconds
            self._until.move_to_end(key)
            while len(self._until) > self._entries:
                self._until.popitem(last=False)

    def __contains__(self, key: bytes) -> bool:
        until = self._until.get(key)
        if until is None:
            return False
        if self._monotonic() < until:
            return True
        with self._lock:
            if self._until.get(key) == until:
                del self._until[key]
        return False
