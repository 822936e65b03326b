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


class Remembered(Generic[T]):
    """``read`` brings it, given what is known already, in a thread of its own; one at a time. Any thread looks.

    What ``read`` raises is logged, and what was known stays.
    """

    def __init__(self, read: Callable[[T | None], T], clock: Clock, *, fresh: float = FRESH) -> None:
        self._read = read
        self._clock = clock
        self._fresh = fresh
        self._changed = threading.Condition()
        self._value: T | None = None
        self._read_at: datetime | None = None
        self._until = float("-inf")  # by the monotonic clock: when it is to be read again
        self._reading = False
        self._failed = False

    def look(self) -> tuple[T | None, datetime | None]:
        """What is known, and when it was read: of now, where that comes within ``PATIENCE``.

        After a failure nobody waits: a store that is away is asked again behind, and the page is there.
        """
        with self._changed:
            if not self._reading and self._clock.monotonic() >= self._until:
                self._reading = True
                threading.Thread(target=self._bring, name="s3blobs-status", daemon=True).start()
            if self._reading and not self._failed:
                self._failed = not self._changed.wait_for(lambda: not self._reading, PATIENCE) or self._failed
            return self._value, self._read_at

    def forget(self) -> None:
        """Something changed: the next look reads again."""
        with self._changed:
            self._until = float("-inf")
            self._failed = False

    @property
    def failed(self) -> bool:
        """Whether the last reading failed, or one is under way for longer than anybody waits."""
        with self._changed:
            return self._failed

    def _bring(self) -> None:
        # Only the one thread that ``_reading`` stands for is here, and it alone writes what follows.
        known, value, failed = self._value, None, True
        try:
            value = self._read(known)
            failed = False
        except S3BlobStorageError as error:
            logger.info("the status was not read: %s", error)
        except Exception:
            logger.exception("the status was not read")
        with self._changed:
            if not failed:
                self._value, self._read_at = value, datetime.now(UTC)
            self._failed, self._reading = failed, False
            self._until = self._clock.monotonic() + self._fresh
            self._changed.notify_all()
