"""The store's own clock, read off the ``Date`` of its answers.

Ages of objects are differences to what the store wrote into their listing: by this machine's clock, which may be wrong,
an object could look days old that is a second old.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from collective.s3blobstorage.objectstore.clock import Clock


class StoreTime:
    """Of one store. Any thread may call anything."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._noted: tuple[datetime, float] | None = None

    def note(self, response: Mapping[str, Any]) -> None:
        """Take the ``Date`` of an answer that arrived just now. One without is passed over."""
        headers = response.get("ResponseMetadata", {}).get("HTTPHeaders") or {}
        try:
            date = parsedate_to_datetime(headers["date"])
        except (KeyError, ValueError, TypeError):
            return
        date = date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
        with self._lock:
            self._noted = date, self._clock.monotonic()

    def now(self) -> datetime | None:
        """What time it is there, to about a second; None where no answer told yet.

        Never ahead of the store's clock but for what the two drift apart since the last answer: ``Date`` is a whole
        second, rounded down, and older by the way of the answer. So nothing looks older than it is.
        """
        with self._lock:
            if self._noted is None:
                return None
            date, noted = self._noted
            return date + timedelta(seconds=self._clock.monotonic() - noted)
