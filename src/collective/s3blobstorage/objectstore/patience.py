"""How often and how long a request is repeated.

botocore's own retries are off (one attempt): its quota is shared by all threads of a client, so that an outage of two
seconds under load ends in errors at once; it cannot be cancelled, knows no deadline, and does not tell whether a
first attempt may have been carried out.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from collective.s3blobstorage.errors import ObjectMissing, PreconditionFailed, Refused, Unavailable
from collective.s3blobstorage.objectstore.interfaces import Cancelled
from collective.s3blobstorage.objectstore.translate import Failure, failure_of

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and sleep, in seconds; replaced in tests, so that none waits."""

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True)
class Patience:
    """At most ``attempts``; none begins later than ``seconds`` after the first one failed."""

    attempts: int
    seconds: float = float("inf")
    first_pause: float = 0.1
    longest_pause: float = 5.0

    def pause(self, failures: int, retry_after: float = 0.0) -> float:
        """Seconds to wait after so many failures: doubling, with jitter so that a hundred threads do not return as one.

        A store's ``Retry-After`` is honoured up to the longest pause.
        """
        full = min(self.longest_pause, self.first_pause * 2 ** min(failures - 1, 16))
        return max(full * random.uniform(0.5, 1.0), min(retry_after, self.longest_pause))


# A commit rides out a restart of the store; 45 s are well below what load balancers grant a request (60 s).
UPLOADING = Patience(attempts=20, seconds=45.0)
# Deleting is repeated by whoever finds the leftover; an abort must not hold a thread for long.
DELETING = Patience(attempts=3, seconds=10.0)


class Attempts:
    """Counts the failures of one request and decides on the next attempt. Belongs to one thread."""

    def __init__(
        self,
        patience: Patience,
        clock: Clock,
        *,
        what: str,
        until: float | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self.patience = patience
        self.clock = clock
        self.what = what
        self.until = until
        self.cancelled = cancelled
        self.failures = 0
        self.ambiguous = False  # an earlier attempt may have been carried out
        self.refusal_expected = False  # the caller says what a refusal means, and how often
        self._first_failure = 0.0

    def progressed(self) -> None:
        """Bytes arrived: what failed before is no reason to give up."""
        self.failures = 0

    def failed(self, failure: Failure) -> None:
        """Sleep before the next attempt, or raise where there is none."""
        now = self.clock.monotonic()
        self.failures += 1
        self.ambiguous = self.ambiguous or failure.ambiguous
        if self.failures == 1:
            self._first_failure = now
        pause = self.patience.pause(self.failures, failure.retry_after)
        again = now + pause
        if (
            not failure.retry
            or self.failures >= self.patience.attempts
            or again - self._first_failure > self.patience.seconds
        ):
            # That a key is not there, or is there already, is an answer; the caller knows what it means.
            expected = isinstance(failure.error, (ObjectMissing, PreconditionFailed)) or (
                self.refusal_expected and isinstance(failure.error, Refused)
            )
            level = logging.DEBUG if expected else logging.WARNING
            log.log(level, "%s failed (attempt %d): %s", self.what, self.failures, failure.detail)
            raise failure.error from None
        if self.until is not None and again >= self.until:
            log.warning("%s failed (deadline): %s", self.what, failure.detail)
            raise Unavailable("The object store did not deliver before the deadline (download-deadline).") from None
        log.info("%s failed (attempt %d), again in %.2f s: %s", self.what, self.failures, pause, failure.detail)
        self._sleep(pause)

    def _sleep(self, pause: float) -> None:
        # In slices, so that a cancelled transaction does not wait for the end of a long pause.
        while pause > 0:
            if self.cancelled is not None and self.cancelled():
                raise Cancelled()
            self.clock.sleep(min(pause, 0.25))
            pause -= 0.25

    def run(self, request: Callable[[], T]) -> T:
        """Call ``request`` until it succeeds; raise our error where it does not. Other exceptions go through."""
        while True:
            try:
                return request()
            except Exception as error:
                failure = failure_of(error)
                if failure is None:
                    raise
            self.failed(failure)
