"""Whether the store is out: what one thread learnt spares the others the wait.

An outage begins with the first request that finds the store unavailable, and ends with the first answer, whichever
thread gets it; 403 and 404 are answers. Until it has lasted for ``patience`` seconds everybody rides it out. Then the
circuit is open: reads fail at once without a request, uploads go on waiting within their own patience, and once a
second one thread's request goes out as a probe. Its answer closes the circuit.

There is no thread and no timer: whether the circuit is open is computed from the clock when somebody asks.
"""

from __future__ import annotations

import logging
import threading

from collective.s3blobstorage.objectstore.clock import Clock

log = logging.getLogger(__name__)

# A probe of a store that refuses connections costs nothing, and a site is back this soon after its store.
PROBE_EVERY = 1.0

# A probe that has not come back after this many seconds (the default time-outs of a download) is not waited for.
PROBE_LOST = 15.0


class Circuit:
    """Of one store. Every method may be called from any thread and returns at once.

    :param patience: seconds that an outage is ridden out; 0: never open, no outage is ever told
    :param silence: seconds without any news after which a failure begins an outage of its own
    """

    def __init__(self, patience: float, clock: Clock, *, silence: float = 0.0) -> None:
        self.patience = patience
        self._clock = clock
        # Requests that time out bring news this rarely: a failure an hour ago says nothing about now.
        self._silence = max(patience, silence)
        self._lock = threading.Lock()  # guards all below; nothing waits while it is held
        self._out = False  # the last request found the store unavailable
        self._since: float | None = None
        self._last = 0.0
        self._probe: float | None = None  # when the one that is under way was let through
        self._next_probe = 0.0
        self._told = False

    @property
    def since(self) -> float | None:
        """When the present outage began, on the clock's scale; None while there is none."""
        with self._lock:
            return self._since

    @property
    def reachable(self) -> bool:
        """Whether the last request was answered, or none was made yet; with a patience of 0 too."""
        return not self._out

    @property
    def is_open(self) -> bool:
        with self._lock:
            return self._open(self._clock.monotonic())

    def _open(self, now: float) -> bool:
        return self._since is not None and now - self._since >= self.patience

    def admits(self) -> bool:
        """Whether a request may go out now. Where the circuit is open, True is said to one probe at a time."""
        with self._lock:
            now = self._clock.monotonic()
            if not self._open(now):
                return True
            if self._probe is not None and now - self._probe < PROBE_LOST:
                return False
            if self._probe is None and now < self._next_probe:
                return False
            self._probe = now
            return True

    def failed(self) -> None:
        """A request found the store unavailable."""
        with self._lock:
            self._out = True
            if not self.patience:
                return
            now = self._clock.monotonic()
            if self._since is None or now - self._last > self._silence:
                self._since = now
            self._last = now
            self._probe = None
            self._next_probe = now + PROBE_EVERY
            tell = self._open(now) and not self._told
            self._told = self._told or tell
        if tell:
            log.error(
                "the object store has been unavailable for %.0f s: reads fail at once until it answers", self.patience
            )

    def answered(self) -> None:
        """A request was answered, whatever the answer is."""
        if not self._out:  # the usual case, without the lock: a failure just now is told by the next answer
            return
        with self._lock:
            lasted = self._clock.monotonic() - (self._since or 0.0)
            tell, self._told = self._told, False
            self._out = False
            self._since = self._probe = None
        if tell:
            log.warning("the object store answers again after %.0f s", lasted)
