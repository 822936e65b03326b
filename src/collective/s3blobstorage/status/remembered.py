"""What was read of a slow place, remembered for a while and read again in a thread behind: nobody waits long."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Generic, TypeVar

from ..errors import S3BlobStorageError
from ..objectstore.clock import Clock
from .interfaces import FRESH, PATIENCE

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Seconds without a word from what is read after which it counts as silent. A look gives up sooner, which says nothing:
# a dozen requests to a store that is far away take longer than anybody waits.
SILENT = 5.0

# What closing waits for a reading that is under way.
GRACE = 2.0  # seconds


class Remembered(Generic[T]):
    """``read`` brings it, given what is known already, in a thread of its own; one at a time. Any thread looks.

    What ``read`` raises is logged, and what was known stays. Once ``ended`` says so, nothing is read any more: who
    closes what is read calls ``join`` then.
    """

    def __init__(
        self,
        read: Callable[[T | None], T],
        clock: Clock,
        *,
        fresh: float = FRESH,
        ended: Callable[[], bool] = lambda: False,
    ) -> None:
        self._read = read
        self._clock = clock
        self._fresh = fresh
        self._ended = ended
        self._heard_at = 0.0  # by the monotonic clock; written by the reading thread whenever it heard something
        self._changed = threading.Condition()  # guards all below
        self._value: T | None = None
        self._read_at: datetime | None = None
        self._until = float("-inf")  # by the monotonic clock: when it is to be read again
        self._thread: threading.Thread | None = None  # which reads, or read last
        self._done = True  # it has
        self._patient = True  # nobody waited in vain for this reading, and the last one did not fail
        self._trouble: Exception | None = None

    def begin(self) -> None:
        """Read it again, behind, where it is time to. Waits for nothing."""
        with self._changed:
            self._begin()

    def _begin(self) -> None:
        if self._reading() or self._ended() or self._clock.monotonic() < self._until:
            return
        thread = threading.Thread(target=self._bring, name="s3blobs-status", daemon=True)
        self._heard_at = self._clock.monotonic()
        thread.start()
        # It takes the lock before it ends, so these are set by then.
        self._thread, self._done = thread, False

    def _reading(self) -> bool:
        # In a forked child the thread that read is not there.
        return not self._done and self._thread is not None and self._thread.is_alive()

    def look(self, patience: float = PATIENCE) -> tuple[T | None, datetime | None]:
        """What is known, and when it was read: of now, where that comes within ``patience`` seconds.

        After a failure nobody waits: a store that is away is asked again behind, and the page is there.
        """
        with self._changed:
            self._begin()
            if self._reading() and self._patient:
                self._patient = self._changed.wait_for(lambda: not self._reading(), patience) and self._patient
            return self._value, self._read_at

    def forget(self) -> None:
        """Something changed: the next look reads again."""
        with self._changed:
            self._until = float("-inf")
            self._patient = True

    def heard(self) -> None:
        """For ``read``: there was an answer, and it goes on."""
        self._heard_at = self._clock.monotonic()

    @property
    def silent(self) -> bool:
        """Whether a reading is under way that heard nothing for ``SILENT`` seconds."""
        with self._changed:
            return self._reading() and self._clock.monotonic() - self._heard_at > SILENT

    @property
    def trouble(self) -> Exception | None:
        """What the last reading raised; None where it did not."""
        with self._changed:
            return self._trouble

    def join(self) -> None:
        """After ``ended``: wait a little for a reading that is under way, so that it uses nothing that is closed. One
        that hangs is a daemon's: nobody waits for its time-out."""
        with self._changed:
            thread = self._thread
        if thread is not None:
            thread.join(GRACE)

    def _bring(self) -> None:
        # Of this thread there is one at a time, and it alone writes what follows.
        known, value, trouble = self._value, None, None
        try:
            value = self._read(known)
        except Exception as error:
            trouble = error
        if trouble is not None and not self._ended():
            expected = isinstance(trouble, S3BlobStorageError)
            logger.log(
                logging.INFO if expected else logging.ERROR,
                "the status was not read: %s",
                trouble,
                exc_info=None if expected else trouble,
            )
        with self._changed:
            if trouble is None:
                self._value, self._read_at = value, datetime.now(UTC)
            self._trouble, self._patient, self._done = trouble, trouble is None, True
            self._until = self._clock.monotonic() + self._fresh
            self._changed.notify_all()
