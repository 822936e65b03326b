"""What is known to be wrong, from the reports of the last runs: for whoever shows it without looking himself. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..jobs.interfaces import DONE, RUNNING, Job
from .finding import WRONG_BYTES, WRONG_ENCRYPTION, WRONG_METADATA
from .mend import REPAIRED

# So many of the last runs are asked at most: of weekly ones a quarter's.
RUNS = 12

# What a run that reads no object may pass over: that it does not tell of these proves nothing.
_SEEN_BY_READING = frozenset({WRONG_BYTES, WRONG_ENCRYPTION, WRONG_METADATA})


@dataclass(frozen=True, slots=True)
class Told:
    """``last``: of the last run that came to its end, for the status document, None where there was none; ``findings``:
    those that nothing took back since, by oid and tid as a report writes them, of as many as are kept of a run."""

    last: Mapping[str, Any] | None = None
    findings: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict, repr=False)


def came_to_its_end(job: Job) -> bool:
    told = job.result or {}
    return job.state == DONE and job.ended is not None and not told.get("stopped") and not told.get("outage")


def listed(job: Job) -> Iterable[Mapping[str, Any]]:
    """The findings that a report has itself."""
    found: Iterable[Mapping[str, Any]] = (job.result or {})["findings"]
    return found


def told_by(jobs: Iterable[Job], findings_of: Callable[[Job], Iterable[Mapping[str, Any]]] = listed) -> Told:
    """Of runs of one prefix, the newest first; no more are taken than are needed. ``findings_of``: all of a run.

    A finding is gone when a later run repaired it, or looked in the same way and did not find it: what only reading
    tells stays until a run that reads everything. A report that cannot be understood is passed over.
    """
    last: dict[str, Any] | None = None
    findings: dict[tuple[str, str], Mapping[str, Any]] = {}
    settled: set[tuple[str, str]] = set()
    earlier = 0
    for job in jobs:
        if job.state == RUNNING or job.result is None:
            continue
        try:
            run = _findings(findings_of(job))
            ended = came_to_its_end(job)
            here = _last(job) if ended and last is None else None
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
        for key, finding in run.items():
            if key in settled:
                continue
            repair = finding.get("repair") or {}
            if repair.get("what") == REPAIRED:
                settled.add(key)
            elif ended and (last is None or (job.options.get("deep") and finding["kind"] in _SEEN_BY_READING)):
                settled.add(key)
                findings[key] = finding
                earlier += last is not None
        last = here or last
        if ended and _read_all(job):
            break
    return Told(None if last is None else {**last, "earlier": earlier}, findings)


def _findings(found: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {(str(each["oid"]), str(each["tid"])): each for each in found if each["kind"]}


def _last(job: Job) -> dict[str, Any]:
    result = job.result or {}
    found = {str(kind): int(number) for kind, number in result["found"].items() if number}
    repaired = int((result.get("repaired") or {}).get(REPAIRED, 0))
    read = result.get("read") or {}
    assert job.ended is not None
    return {
        "job": job.id,
        "at": job.ended.isoformat(timespec="seconds"),
        "deep": _read_all(job),
        "read": int(read.get("blobs") or 0),
        "found": found,
        "repaired": repaired,
        "wrong": sum(found.values()) - repaired,
        "unknown": int(result.get("unknown") or 0),
    }


def _read_all(job: Job) -> bool:
    options = job.options
    return bool(options.get("deep")) and options.get("sample", 100.0) == 100 and not options.get("after")
