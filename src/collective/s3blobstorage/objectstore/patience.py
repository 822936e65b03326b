"""How often and how long a request is repeated.

botocore's own retries are off (one attempt): its quota is shared by all threads of a client, so that an outage of two
seconds under load ends in errors at once; it cannot be cancelled, knows no deadline, and does not tell whether a
first attempt may have been carried out.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from collective.s3blobstorage.errors import Corrupt, ObjectMissing, PreconditionFailed, Refused, Unavailable
from collective.s3blobstorage.objectstore.circuit import Circuit
from collective.s3blobstorage.objectstore.clock import Clock
from collective.s3blobstorage.objectstore.interfaces import Cancelled
from collective.s3blobstorage.objectstore.translate import Failure, UploadGone, failure_of

log = logging.getLogger(__name__)

T = TypeVar("T")

_OUT = "The object store has been unavailable for a while; it is asked again every second."


@dataclass(frozen=True, slots=True)
class Patience:
    """At most ``attempts``; none begins later than ``seconds`` after the first one failed.

    ``rides_out``: while the store as a whole is out (``Circuit``), only ``seconds`` count, and an open circuit ends it
    at once: somebody waits for the answer. Otherwise an open circuit is one more failed attempt, for which no
    request was made.
    """

    attempts: int
    seconds: float = float("inf")
    first_pause: float = 0.1
    longest_pause: float = 5.0
    rides_out: bool = False

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
        circuit: Circuit | None = None,
        until: float | None = None,
        cancelled: Callable[[], bool] | None = None,
        on_silence: Callable[[], None] = lambda: None,
    ) -> None:
        self.patience = patience
        self.clock = clock
        self.what = what
        self.circuit = circuit or Circuit(0.0, clock)
        self.until = until
        self.cancelled = cancelled
        self.on_silence = on_silence  # called when a connection was silent for a whole time-out
        self.failures = 0
        self.lost = 0  # failed attempts that may have been carried out all the same, or still will be
        self.refusal_expected = False  # the caller says what a refusal means, and how often
        self._first_failure = 0.0

    @property
    def ambiguous(self) -> bool:
        """Whether an earlier attempt may have been carried out."""
        return self.lost > 0

    def progressed(self) -> None:
        """Bytes arrived: what failed before is no reason to give up."""
        self.failures = 0

    def admit(self) -> None:
        """Call before each request: waits, or raises Unavailable, where an open circuit lets none through."""
        while not self.circuit.admits():
            if self.patience.rides_out:
                raise Unavailable(_OUT)
            self._again(Failure(Unavailable(_OUT), retry=True, detail="no request, the circuit is open"))

    def answered(self) -> None:
        """The store answered; its body may still break."""
        self.circuit.answered()

    def failed(self, failure: Failure) -> None:
        """Sleep before the next attempt, or raise where there is none."""
        if isinstance(failure.error, Unavailable) and failure.retry and not isinstance(failure.error, UploadGone):
            self.circuit.failed()
        elif failure.status or isinstance(failure.error, Corrupt):
            self.circuit.answered()
        if failure.silent:
            self.on_silence()
        self._again(failure)

    def _lasting(self) -> bool:
        """Whether nobody has had an answer since this request first failed."""
        since = self.circuit.since
        return self.patience.rides_out and since is not None and since <= self._first_failure

    def _again(self, failure: Failure) -> None:
        now = self.clock.monotonic()
        self.failures += 1
        self.lost += failure.ambiguous
        if self.failures == 1:
            self._first_failure = now
        pause = self.patience.pause(self.failures, failure.retry_after)
        again = now + pause
        if (
            not failure.retry
            or (self.failures >= self.patience.attempts and not self._lasting())
            or (self.patience.rides_out and self.circuit.is_open)
            or (now if self.patience.rides_out else again) - self._first_failure > self.patience.seconds
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
            if self.patience.rides_out and self.circuit.is_open:
                raise Unavailable(_OUT) from None
            self.clock.sleep(min(pause, 0.25))
            pause -= 0.25

    def run(self, request: Callable[[], T]) -> T:
        """Call ``request`` until it succeeds; raise our error where it does not. Other exceptions go through."""
        while True:
            self.admit()
            try:
                result = request()
            except Exception as error:
                failure = failure_of(error)
                if failure is None:
                    raise
            else:
                self.answered()
                return result
            self.failed(failure)
