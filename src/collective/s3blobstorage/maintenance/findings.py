"""What came of comparing and of executing: one structure for terminal, JSON and tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from persistent.TimeStamp import TimeStamp
from ZODB.utils import oid_repr, tid_repr

from .blobdir import BlobFile
from .compare import Extra, Place, Verdict
from .kept import KeptRevision

# Of so many problems each is listed; of more only their number is known. Nobody mends more by hand, and memory is flat.
LISTED = 10_000

# What is a problem of its own, whatever is done.
_BAD = (Verdict.DIFFERENT, Verdict.DAMAGED)


class Stopped(Exception):
    """Somebody asked to stop while a plan was made: there is none."""


@dataclass(frozen=True)
class Problem:
    """One kept revision that is not as it shall be. ``what``: missing, different, damaged or failed."""

    what: str
    oid: str
    tid: str
    detail: str


@dataclass
class Count:
    """Revisions, files or objects, and their bytes as far as they are known."""

    blobs: int = 0
    bytes: int = 0

    def add(self, size: int | None, times: int = 1) -> None:
        """``size``: of each of ``times``."""
        self.blobs += times
        self.bytes += (size or 0) * times


def committed(tid: bytes) -> str | None:
    """When that transaction was committed, by the clock of who did: ISO 8601, UTC, to the second. None before the
    first one."""
    if not any(tid):
        return None
    return datetime.fromtimestamp(TimeStamp(tid).timeTime(), UTC).isoformat(timespec="seconds")


def _verdicts() -> dict[Verdict, Count]:
    return {verdict: Count() for verdict in Verdict}


@dataclass
class Findings:
    """``by_verdict``: how many kept revisions were what before anything was done. ``done``: what was uploaded, written
    or deleted; ``verified``: objects that were read again and are right. ``nowhere``: what was wanted of sources, and
    none has: it is missing, gone, or was committed after the bucket was listed. ``gone``: revisions that a pack removed
    from the base meanwhile. ``problems``: of each, the first ``LISTED``; ``bad``: how many there are of each kind.
    """

    by_verdict: dict[Verdict, Count] = field(default_factory=_verdicts)
    extra_files: Count = field(default_factory=Count)
    extra_objects: Count = field(default_factory=Count)
    done: Count = field(default_factory=Count)
    verified: Count = field(default_factory=Count)
    nowhere: Count = field(default_factory=Count)
    gone: int = 0
    bad: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    stopped: bool = False

    @property
    def revisions(self) -> int:
        return sum(count.blobs for count in self.by_verdict.values())

    @property
    def wanted(self) -> Count:
        return self.by_verdict[Verdict.WANTED]

    def blame(self, what: str, oid: bytes, tid: bytes, detail: str) -> None:
        """Note a problem."""
        self.bad[what] = self.bad.get(what, 0) + 1
        if len(self.problems) < LISTED:
            self.problems.append(Problem(what, oid_repr(oid), tid_repr(tid), detail))


def document(findings: Findings, done: str, *, with_objects: bool = True, listed: int = LISTED) -> dict[str, Any]:
    """For JSON. ``done``: what ``findings.done`` were: uploaded, copied, written, deleted. ``with_objects``: whether
    objects that nobody needs were looked for. ``listed``: so many problems at most."""
    return {
        "kept_revisions": findings.revisions,
        "found": {verdict.value: asdict(count) for verdict, count in findings.by_verdict.items()},
        done: asdict(findings.done),
        "extra": {
            "files": asdict(findings.extra_files),
            "objects": asdict(findings.extra_objects) if with_objects else None,
        },
        "gone": findings.gone,
        **{what: findings.bad.get(what, 0) for what in ("missing", "different", "damaged", "failed")},
        "problems": [asdict(problem) for problem in findings.problems[:listed]],
        "stopped": findings.stopped,
    }


def examine(
    found: Iterable[Place | Extra], judge: Callable[[Place], Verdict], findings: Findings, stop: threading.Event
) -> Iterator[tuple[Verdict, Place]]:
    """Count everything that ``matched`` brings, and yield each kept revision's place with its verdict.

    Notes problems but for missing ones, whose revisions may be gone from the base by now. Raises Stopped after
    ``stop``.
    """
    for item in found:
        if stop.is_set():
            raise Stopped
        if isinstance(item, Extra):
            of = findings.extra_files if isinstance(item.found, BlobFile) else findings.extra_objects
            of.add(item.size)
            continue
        verdict = judge(item)
        findings.by_verdict[verdict].add(max(item.sizes, default=None))
        if verdict in _BAD:
            revision = item.revision
            findings.blame(verdict.value, revision.oid, revision.tid, revision.damaged or _sizes(item))
        yield verdict, item


def _sizes(place: Place) -> str:
    told = {
        "the record says": place.revision.size,
        "the object has": place.object_size if place.object_size is not None else place.old_size,
        "the file has": place.file_size,
    }
    return ", ".join(f"{who} {size} bytes" for who, size in told.items() if size is not None)


def settle(
    doubtful: Iterable[tuple[bytes, bytes]],
    is_kept: Callable[[bytes, bytes], bool],
    findings: Findings,
    detail: str,
    is_there: Callable[[bytes, bytes], bool] = lambda oid, tid: False,
) -> None:
    """Revisions that were found nowhere: gone by a pack where the base does not keep them any more, else missing, but
    for those that are there by now."""
    for oid, tid in doubtful:
        if not is_kept(oid, tid):
            findings.gone += 1
        elif not is_there(oid, tid):
            findings.blame("missing", oid, tid, detail)


def revision_row(revision: KeptRevision) -> tuple[object, ...]:
    """For a table with the columns ``REVISION``."""
    inline = int(revision.inline)
    return revision.oid, revision.tid, revision.name, revision.size, revision.sha256, inline, revision.object


REVISION = ("oid BLOB", "tid BLOB", "name TEXT", "size INTEGER", "sha256 BLOB", "inline INTEGER", "object TEXT")
REST = len(REVISION)  # where the other columns of such a table begin


def revision_of(row: tuple) -> KeptRevision:
    return KeptRevision(*row[:5], inline=bool(row[5]), object=row[6])
