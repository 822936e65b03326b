"""A store whose time a test moves on: what the real one tells of time is shifted, everything else goes through."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from time import time as real_time  # also where a test moves the clock of the machine
from typing import Any

HOUR = 3600.0
DAY = 86400.0


class ShiftedStore:
    """A real store, seen at another time. What was written before the clock was moved on looks as much older."""

    def __init__(self, store: Any, shifts: list[tuple[float, float]] | None = None) -> None:
        self._store = store
        # From which real moment on which offset holds. May be shared by several stores.
        self._shifts = [(0.0, 0.0)] if shifts is None else shifts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def advance(self, seconds: float) -> None:
        # MiniStack's and Ceph's listings have milliseconds: nothing is written in the one in which the clock is moved.
        time.sleep(0.01)
        self._shifts.append((real_time(), self._shifts[-1][1] + seconds))
        time.sleep(0.01)

    def _shifted(self, moment: datetime) -> datetime:
        real = moment.timestamp()
        return moment + timedelta(seconds=next(offset for since, offset in reversed(self._shifts) if since <= real))

    def now(self) -> datetime:
        return self._store.now() + timedelta(seconds=self._shifts[-1][1])

    def list(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        for line in self._store.list(*args, **kwargs):
            yield dataclasses.replace(line, last_modified=self._shifted(line.last_modified))

    def stored(self, key: str) -> Any:
        found = self._store.stored(key)
        if found is None:
            return None
        info = dataclasses.replace(found.info, last_modified=self._shifted(found.info.last_modified))
        return dataclasses.replace(found, info=info)

    def list_uploads(self, *args: Any) -> Iterator[Any]:
        for key, upload_id, initiated in self._store.list_uploads(*args):
            yield key, upload_id, self._shifted(initiated)

    def list_versions(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        for version in self._store.list_versions(*args, **kwargs):
            yield dataclasses.replace(version, last_modified=self._shifted(version.last_modified))
