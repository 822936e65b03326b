"""Filling the cache before anybody asks: of a new machine, before it gets requests; of a staging copy, over night.

The plan takes the newest blobs that fit, since those are read most; executing it fetches them in parallel. What is in
the cache already is not fetched, so stopping and starting again goes on where it was.
"""

from __future__ import annotations

import heapq
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from ZODB.utils import oid_repr

from ..cache.interfaces import IBlobCache
from ..errors import BlobMissing, S3BlobStorageError
from ..storage.reading import BlobReader
from .records import BlobRevision

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """Which blobs are wanted. Sizes in bytes.

    total: of all together, those that are in the cache already included; the newest first. largest: of one blob, None:
    any. since: only revisions committed by this tid or later. A blob whose record does not tell its size counts as
    nothing in the plan and is fetched.
    """

    total: int
    largest: int | None = None
    since: bytes = b""


@dataclass
class Plan:
    """What is to be fetched, newest first, and what was left out and why. Counts of blobs; bytes where known."""

    wanted: list[BlobRevision] = field(default_factory=list)
    bytes: int = 0
    cached: int = 0
    inline: int = 0
    too_large: int = 0
    too_old: int = 0
    no_room: int = 0
    damaged: int = 0


@dataclass
class Report:
    """What came of it. ``failed``: oid and error of each that could not be fetched."""

    fetched: int = 0
    bytes: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    stopped: bool = False


def plan(revisions: Iterable[BlobRevision], limits: Limits, cache: IBlobCache) -> Plan:
    """Look at each revision once. Memory: the records of what is to be fetched."""
    result = Plan()
    newest: list[tuple[bytes, bytes, int, bool, BlobRevision]] = []  # a heap, the oldest on top
    taken = 0
    for revision in revisions:
        try:
            state = revision.state
        except S3BlobStorageError as error:
            logger.warning("blob %s is left out: %s", oid_repr(revision.oid), error)
            result.damaged += 1
            continue
        size = state.size or 0
        if state.inline is not None:
            result.inline += 1
        elif revision.tid < limits.since:
            result.too_old += 1
        elif limits.largest is not None and size > limits.largest or size > limits.total:
            result.too_large += 1
        else:
            is_cached = os.path.exists(cache.expected(revision.oid, revision.tid))
            heapq.heappush(newest, (revision.tid, revision.oid, size, is_cached, revision))
            taken += size
            while taken > limits.total:
                taken -= heapq.heappop(newest)[2]
                result.no_room += 1
    for _, _, size, is_cached, revision in sorted(newest, reverse=True):
        if is_cached:
            result.cached += 1
        else:
            result.wanted.append(revision)
            result.bytes += size
    return result


def execute(
    planned: Plan,
    reader: BlobReader,
    *,
    concurrency: int,
    stop: threading.Event,
    advance: Callable[[int, int], None] = lambda blobs, size: None,
) -> Report:
    """Fetch what was planned, so many blobs at a time. ``stop`` ends it after those that are under way.

    ``advance(blobs, bytes)`` is called in the caller's thread as each one arrives. A blob that cannot be fetched is
    noted and the others go on.
    """
    report = Report()
    waiting = iter(planned.wanted)
    running: dict[Future[None], BlobRevision] = {}
    with ThreadPoolExecutor(concurrency, thread_name_prefix="s3blobs-warm") as pool:
        while True:
            while not stop.is_set() and len(running) < concurrency:
                revision = next(waiting, None)
                if revision is None:
                    break
                running[pool.submit(_fetch, reader, revision)] = revision
            if not running:
                break
            for future in _first_done(running):
                _note(report, running.pop(future), future, advance)
    report.stopped = next(waiting, None) is not None
    return report


def _fetch(reader: BlobReader, revision: BlobRevision) -> None:
    reader.bring(revision.oid, revision.tid, lambda: revision.record)


def _first_done(running: dict[Future[None], BlobRevision]) -> Iterator[Future[str]]:
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    yield from done


def _note(report: Report, revision: BlobRevision, future: Future[str], advance: Callable[[int, int], None]) -> None:
    size = revision.state.size or 0
    error = future.exception()
    if error is None:
        report.fetched += 1
        report.bytes += size
    elif isinstance(error, S3BlobStorageError):
        missing = isinstance(error, BlobMissing)  # as a POSKeyError it says its oid and nothing else
        report.failed.append(
            (oid_repr(revision.oid), "its object is in no place where it may be" if missing else str(error))
        )
    else:
        raise error
    advance(1, size)
