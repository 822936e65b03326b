"""What the processes of a machine had counted by when: a sample of their sums every five minutes, for a day.

Kept beside the sums (``counters.py``), so that hit rates of the last hour and day are those of all processes, also of
those that ended. Every process looks at each tick of its cleaner (5 s); the first one in a slot writes. A sample is
what was counted until then, so one that is missing makes the picture coarser and no sum wrong.

Clocks may jump. A sample of a time that is still to come is from before the clock was set back, and is dropped; a sum
that fell means that counting began anew (the folder was deleted, the file was damaged): what was counted since then
counts, as Prometheus takes a counter that fell.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .counters import Counters, counted_since_made, write
from .layout import StoreFolder
from .locks import FileLock

HISTORY = "history.json"
FORMAT = 1
SLOT = 300.0  # seconds: twelve points make an hour's line, and a day's file has ten kilobytes
KEPT = 24 * 3600.0  # seconds

NAMES = ("hits", "misses", "downloads", "bytes")

# A day's slots, one before them that the first is measured from, and one that is begun.
_MOST = int(KEPT / SLOT) + 2


@dataclass(frozen=True, slots=True)
class Sample:
    """``sums`` by ``NAMES``, of what was counted until ``at``: seconds since 1970."""

    at: float
    sums: tuple[int, ...]


class History:
    """Of one cache, in one process. Only the cleaner's thread calls it."""

    def __init__(self, store: StoreFolder, counters: Callable[[], Counters], clock: Callable[[], float]) -> None:
        self._store = store
        self._counters = counters
        self._clock = clock
        self._slot: int | None = None  # the one that somebody has written, as far as this process knows

    def tick(self) -> None:
        """Write a sample where nobody did in this slot. Never raises for the disk."""
        slot = int(self._clock() // SLOT)
        folder = self._counters().folder
        if slot == self._slot or folder is None:
            return
        with contextlib.suppress(OSError):
            self._write(slot, folder)

    def _write(self, slot: int, folder: Path) -> None:
        lock = FileLock.take(self._store.folder / "history.lock")
        if lock is None:
            return  # somebody is about to
        try:
            now = self._clock()
            samples = [sample for sample in read(self._store) if now - KEPT - SLOT <= sample.at <= now]
            if not samples or int(samples[-1].at // SLOT) != slot:
                counters, _ = counted_since_made(self._store)
                samples.append(Sample(now, tuple(counters[name] for name in NAMES)))
                rows = [[round(sample.at, 3), *sample.sums] for sample in samples[-_MOST:]]
                write(self._store.folder / HISTORY, {"format": FORMAT, "names": NAMES, "samples": rows}, folder)
            self._slot = slot
        finally:
            lock.release(remove=True)


def read(store: StoreFolder) -> list[Sample]:
    """In the order of their times. Empty where there is no file, or none that this release can read. Never raises."""
    try:
        document = json.loads((store.folder / HISTORY).read_bytes())
        if document["format"] != FORMAT or tuple(document["names"]) != NAMES:
            return []
        samples = [Sample(float(at), tuple(int(each) for each in sums)) for at, *sums in document["samples"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return []
    if any(len(sample.sums) != len(NAMES) for sample in samples):
        return []
    # A time that no date can be made of is damage.
    return sorted((sample for sample in samples if 0 <= sample.at < 1e11), key=lambda sample: sample.at)


def told(samples: list[Sample], counters: Mapping[str, int], since: float, now: float | None = None) -> dict[str, Any]:
    """``hour``, ``day`` and ``history`` as the status document has them. Pure.

    ``counters``: the sums by now; ``since``: when counting began. ``hour`` is what was counted since the last sample
    that is at least an hour old, or since counting began where that is less; None where nobody can tell.
    """
    now = time.time() if now is None else now
    points = [sample for sample in samples if sample.at <= now]
    if now - KEPT - SLOT <= since <= (points[0].at if points else now):
        points.insert(0, Sample(since, (0,) * len(NAMES)))
    points.append(Sample(now, tuple(counters.get(name, 0) for name in NAMES)))
    return {
        "hour": _rate(points, now - 3600.0),
        "day": _rate(points, now - KEPT),
        "history": [
            {"at": _iso(before.at), **dict(zip(NAMES, _since(before, after), strict=True))}
            for before, after in zip(points, points[1:], strict=False)
            if after.at > now - KEPT
        ],
    }


def _rate(points: list[Sample], start: float) -> dict[str, Any] | None:
    if len(points) < 2:
        return None
    first = max((index for index, point in enumerate(points[:-1]) if point.at <= start), default=0)
    steps = [_since(before, after) for before, after in zip(points[first:], points[first + 1 :], strict=False)]
    hits, misses = (sum(step[NAMES.index(name)] for step in steps) for name in ("hits", "misses"))
    return {"hits": hits, "misses": misses, "rate": hits / (hits + misses) if hits + misses else None}


def _since(before: Sample, after: Sample) -> tuple[int, ...]:
    pairs = list(zip(before.sums, after.sums, strict=True))
    if any(new < old for old, new in pairs):  # all were counted anew, those that are already past the old ones too
        return after.sums
    return tuple(new - old for old, new in pairs)


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
