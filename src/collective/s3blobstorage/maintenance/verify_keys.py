"""Whether the keys open what they are for: some objects of each, or all, are read from the store, whole."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field

from ..errors import ObjectMissing, StoreError, Unavailable
from ..objectstore.interfaces import IObjectStore, Protection
from .findings import Count
from .pace import Pace
from .parallel import in_parallel
from .reading import read_whole
from .usage import Failures, Line, is_content


@dataclass
class Sample:
    """For ``usage.count``: of each mode and key so many blobs and objects of add-ons at random.

    Each object has the same chance, however many there are (reservoir sampling, Vitter's algorithm R).
    """

    size: int
    chance: random.Random = field(default_factory=random.Random)
    kept: dict[tuple[str, str], list[Line]] = field(default_factory=dict)
    _seen: dict[tuple[str, str], int] = field(default_factory=dict)

    def seen(self, line: Line, found: Protection) -> None:
        if not is_content(line.key):
            return
        kept = self.kept.setdefault((found.mode, found.key), [])
        number = self._seen[found.mode, found.key] = self._seen.get((found.mode, found.key), 0) + 1
        if len(kept) < self.size:
            kept.append(line)
        elif (at := self.chance.randrange(number)) < self.size:
            kept[at] = line

    @property
    def lines(self) -> list[Line]:
        return sorted((line for kept in self.kept.values() for line in kept), key=lambda line: line.key)


@dataclass
class Read:
    """``opened``: objects that were read and are right, by mode and key, with their plain bytes."""

    opened: dict[tuple[str, str], Count] = field(default_factory=dict)
    failures: Failures = field(default_factory=Failures)
    gone: int = 0
    stopped: bool = False


def read_each(
    store: IObjectStore,
    lines: Iterable[Line],
    stop: threading.Event,
    *,
    concurrency: int,
    pace: Pace,
    advance: Callable[[int, int], None] = lambda objects, size: None,
) -> Read:
    """Read each whole and compare it with the size and the SHA-256 that its metadata have. Raises Unavailable.

    A HEAD tells the key that it needs, a GET brings it. After ``stop`` the reads under way end.
    """
    report = Read()

    def read(line: Line) -> tuple[tuple[str, str], int] | None:
        found = store.protection(line.key)
        if found is None:
            return None
        return (found.mode, found.key), read_whole(store, line.key, pace.take).size

    with closing(in_parallel(lines, read, concurrency=concurrency, stop=stop, name="s3blobs-verify")) as running:
        for line, future in running:
            error = future.exception()
            if error is None and (opened := future.result()) is not None:
                report.opened.setdefault(opened[0], Count()).add(opened[1])
            elif error is None or isinstance(error, ObjectMissing):
                report.gone += 1
            elif isinstance(error, StoreError) and not isinstance(error, Unavailable):
                report.failures.add(line.key, error)
            else:
                raise error
            advance(1, line.size)
    report.stopped = stop.is_set()
    return report
