"""How many requests one store got, what came of them, and how long they took. Pure, but for the lock.

Whole numbers that only grow, by verb: what several processes counted can be added, name by name. A process counts every
attempt, so that a store that answers only at the second one shows.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field

# copy: inside the store, its bytes do not come here. other: parts of uploads begun and ended, versions, the bucket.
VERBS = ("get", "head", "put", "list", "delete", "copy", "other")

# unavailable: the store, or the way to it, failed. refused: 401, 403 and their like. other: what no retry mends, and
# bytes that were not those that were stored.
ERRORS = ("unavailable", "refused", "other")

# Seconds, upper bounds. From a store in the same rack (1 ms) to the longest time-outs in use, in steps of 2 to 3: a
# percentile, read between two bounds, is at most so far off. Every bound at which something is judged is one of them:
# 1 s, and the default time-outs 5 s, 10 s, 60 s and 300 s.
BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)

PREFIX = "store."  # of names in ``cache/counters.py``

_WITHIN = {bound: f"within.{bound:g}" for bound in BOUNDS}
_BEYOND = "beyond"


class Traffic:
    """Counts of one process; any thread. Each method takes about a microsecond. A forked child begins at zero.

    began: when counting began, seconds since 1970.
    """

    def __init__(self) -> None:
        self._begin()
        _of_this_process.add(self)

    def _begin(self) -> None:
        self.began = time.time()
        self._lock = threading.Lock()
        self._times = {verb: [0] * (len(BOUNDS) + 1) for verb in VERBS}
        self._seconds = dict.fromkeys(VERBS, 0.0)
        self._bytes = dict.fromkeys(VERBS, 0)
        self._errors = {verb: dict.fromkeys(ERRORS, 0) for verb in VERBS}

    def answered(self, verb: str, seconds: float, size: int = 0) -> None:
        """A request, after how long its answer began or it was given up, and how many bytes of data went there."""
        place = bisect_left(BOUNDS, seconds)
        with self._lock:
            self._times[verb][place] += 1
            self._seconds[verb] += seconds
            self._bytes[verb] += size

    def failed(self, verb: str, kind: str) -> None:
        """A request that was counted, or will be, came to nothing: one of ``ERRORS``."""
        with self._lock:
            self._errors[verb][kind] += 1

    def received(self, verb: str, size: int) -> None:
        """So many bytes of data came here."""
        with self._lock:
            self._bytes[verb] += size

    def snapshot(self) -> dict[str, int]:
        """By names that begin with ``PREFIX``; those that are zero are left out."""
        found: dict[str, int] = {}
        with self._lock:
            for verb in VERBS:
                times = self._times[verb]
                if not any(times):
                    continue
                name = f"{PREFIX}{verb}."
                found.update({name + within: count for within, count in zip(_WITHIN.values(), times, strict=False)})
                found[name + _BEYOND] = times[-1]
                found[name + "microseconds"] = round(self._seconds[verb] * 1e6)
                found[name + "bytes"] = self._bytes[verb]
                found.update({f"{name}errors.{kind}": count for kind, count in self._errors[verb].items()})
        return {name: count for name, count in found.items() if count}


_of_this_process: weakref.WeakSet[Traffic] = weakref.WeakSet()


def _begin_children() -> None:
    for each in _of_this_process:
        each._begin()  # another thread may have held the lock when the process forked


os.register_at_fork(after_in_child=_begin_children)


@dataclass
class Counted:
    """One verb's. ``within``: how many answers began by then, by upper bound, each only once; ``beyond``: later."""

    within: dict[float, int] = field(default_factory=lambda: dict.fromkeys(BOUNDS, 0))
    beyond: int = 0
    seconds: float = 0.0
    bytes: int = 0
    errors: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ERRORS, 0))

    @property
    def requests(self) -> int:
        return sum(self.within.values()) + self.beyond

    def add(self, other: Counted) -> None:
        for bound, count in other.within.items():
            self.within[bound] = self.within.get(bound, 0) + count
        self.beyond += other.beyond
        self.seconds += other.seconds
        self.bytes += other.bytes
        for kind, count in other.errors.items():
            self.errors[kind] = self.errors.get(kind, 0) + count

    def percentile(self, share: float) -> float | None:
        """After how many seconds that share of the answers had begun; None where there was no request.

        Evenly spread between two bounds, as Prometheus reads a histogram; of what is beyond all, the highest bound.
        """
        wanted = share * self.requests
        if not wanted:
            return None
        passed, lower = 0, 0.0
        for bound in sorted(self.within):
            count = self.within[bound]
            if count and passed + count >= wanted:
                return lower + (bound - lower) * (wanted - passed) / count
            passed, lower = passed + count, bound
        return lower


def read(counters: Mapping[str, int]) -> dict[str, Counted]:
    """By verb, of what one process or many counted. Names that another release has are passed over."""
    found = {verb: Counted() for verb in VERBS}
    for name, count in counters.items():
        verb, _, what = name.removeprefix(PREFIX).partition(".")
        if not name.startswith(PREFIX) or verb not in found:
            continue
        counted = found[verb]
        kind, _, which = what.partition(".")
        if kind == "within":
            try:
                bound = float(which)
            except ValueError:
                continue
            counted.within[bound] = counted.within.get(bound, 0) + count
        elif kind == "errors":
            counted.errors[which] = counted.errors.get(which, 0) + count
        elif what == _BEYOND:
            counted.beyond += count
        elif what == "microseconds":
            counted.seconds += count / 1e6
        elif what == "bytes":
            counted.bytes += count
    return found


def is_traffic(name: str) -> bool:
    return name.startswith(PREFIX)
