"""Blobs into the bucket, from sources or from a blob directory: compare, copy, verify, settle. What ``mirror`` and
``migrate`` do, as a job of a site or on the command line.

In the thread of the caller. ``running`` (``jobs/interfaces.py``) is told of each phase, and asks to stop.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from ..cache.interfaces import IBlobCache
from ..objectstore.interfaces import IObjectStore
from ..overlay.interfaces import IOverlay
from ..status.figures import keep_outside
from ..storage.mirrored import retract, write_mirrored
from . import migrate, mirror
from .comparing import Comparison, reader_of
from .findings import REST, Findings, Stopped
from .migrate import Plan
from .pace import Pace


@dataclass(frozen=True)
class Wish:
    """``comparing``: nothing is copied, and what the bucket lacks is missing. ``verify``: objects are read again.
    ``keep_there``: what is in the bucket is needed afterwards. ``limit_rate``: bytes a second."""

    comparing: bool = False
    dry_run: bool = False
    verify: bool = False
    keep_there: bool = False
    concurrency: int = 8
    limit_rate: int | None = None

    @property
    def copying(self) -> bool:
        return not (self.comparing or self.dry_run)


def from_sources(
    run: Comparison,
    planned: Plan,
    wish: Wish,
    running: Any,
    overlay: Callable[[Any], AbstractContextManager[IOverlay]],
    cache: Callable[[IOverlay], AbstractContextManager[IBlobCache]],
) -> bytes:
    """What only sources have; the tid of the last transaction that was seen. ``overlay`` opens them, given the base,
    and ``cache`` what their blobs come through."""
    findings, stop = planned.findings, running.stop
    pace = Pace(wish.limit_rate)
    # Open until the end: a <basesource> may read in it.
    with run.base() as base, overlay(base) as sources:
        seen = base.lastTransaction()
        try:
            streams = run.streams(base, running.phase("reading the database"), stop)
            mirror.plan(planned, streams, stop, comparing=wish.comparing, keep_there=wish.verify)
        except Stopped:
            findings.stopped = True
            return seen
        # All of it is read. An open snapshot would hold back the database's vacuum for as long as the copies take.
        getattr(base, "afterCompletion", lambda: None)()
        wanted = findings.wanted
        if wish.copying:
            with cache(sources) as through:
                moved = running.phase("copying", wanted.blobs, wanted.bytes)
                transfer = migrate.Transfer(wish.concurrency, stop, pace, moved)
                share = reader_of(run.store, run.marker).share_again
                mirror.execute(planned, sources, run.store, through, transfer, share, keep_there=wish.verify)
    if wish.dry_run:
        return seen
    if wish.verify and not findings.stopped:
        _verified(run, planned, wish, running, pace, directory=False)
    run.settle(planned.doubtful, findings, "it is neither in the bucket nor in a source")
    return seen


def note_mirrored(
    store: IObjectStore, findings: Findings, seen: bytes, names: list[str], *, whole: bool
) -> bytes | None:
    """Write what a run that copied from sources means for the bucket: up to which transaction no source is needed any
    more, which is returned, or that this does not hold any more; and how much only sources have.

    ``seen``: as ``from_sources`` returned it. ``whole``: every revision of the database was looked at. Inside the job:
    another mirror may begin as soon as that has ended. Raises what the store raises.
    """
    complete = None
    if findings.bad:
        retract(store)
    elif whole and not findings.stopped:
        write_mirrored(store, seen, names)
        complete = seen
    if whole and not findings.stopped:
        left = findings.wanted.blobs - findings.done.blobs - findings.nowhere.blobs
        size = findings.wanted.bytes - findings.done.bytes - findings.nowhere.bytes
        keep_outside(store, max(left, 0), max(size, 0), "mirror")  # of some the size is known only when they came
    return complete


def from_directory(run: Comparison, planned: Plan, wish: Wish, running: Any) -> None:
    """What only the blob directory has."""
    findings, stop = planned.findings, running.stop
    try:
        with run.base() as base:
            streams = run.streams(base, running.phase("reading the database"), stop)
            migrate.plan(planned, streams, stop, comparing=wish.comparing, keep_there=wish.keep_there)
    except Stopped:
        findings.stopped = True
        return
    pace = Pace(wish.limit_rate)
    if wish.copying:
        assert run.directory is not None
        moved = running.phase("uploading", findings.wanted.blobs, findings.wanted.bytes)
        transfer = migrate.Transfer(wish.concurrency, stop, pace, moved, looks_first=run.inventory is not None)
        migrate.execute(planned, run.store, run.directory, transfer, reader_of(run.store, run.marker))
    if wish.verify:
        _verified(run, planned, wish, running, pace, directory=True)
    run.settle(planned.doubtful, findings, "it is neither in the bucket nor in the directory")


def _verified(run: Comparison, planned: Plan, wish: Wish, running: Any, pace: Pace, *, directory: bool) -> None:
    size = sum(row[REST] or 0 for row in planned.there.rows())
    moved = running.phase("verifying", len(planned.there), size)
    transfer = migrate.Transfer(wish.concurrency, running.stop, pace, moved)
    migrate.verify(planned, reader_of(run.store, run.marker), run.directory if directory else None, transfer)
