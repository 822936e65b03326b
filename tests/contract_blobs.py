"""``IJobs`` and ``IStatus`` in memory, after their contracts: for tests of what is built upon them, REST and pages.

Errors that a real store gives once in a year are given here when a test asks for them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from zope.interface import implementer

from collective.s3blobstorage.errors import ConfigurationError, JobRuns
from collective.s3blobstorage.maintenance.jobs.interfaces import (
    CANCELLED,
    DONE,
    KINDS,
    RUNNING,
    IJobs,
    Job,
    Kind,
    LogLine,
    Progress,
)
from collective.s3blobstorage.status.interfaces import IStatus

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)

OPTIONS: dict[str, dict[str, Any]] = {
    "gc": {"dry_run": True, "plan": None, "allow": 0.2},
    "fsck": {"dry_run": True, "deep": False, "sample": 100.0, "limit_rate": 0},
    "mirror": {"dry_run": True, "limit_rate": 0},
    "migrate": {"dry_run": True, "source": None, "limit_rate": 0},
    "rotate": {"dry_run": True, "convert": False, "limit_rate": 0},
    "count": {},
    "report": {"report": "types", "top": 20},
}


@implementer(IJobs)
class Jobs:
    """Dry runs and ``count`` are done at once, others run until they are cancelled."""

    def __init__(self, *, why_not: Mapping[str, str] | None = None) -> None:
        self.why_not = why_not or {}
        self.jobs: dict[str, Job] = {}
        self.started: list[tuple[str, dict[str, Any], str]] = []
        self.plans: dict[str, list[dict[str, Any]]] = {}
        self.failure: Exception | None = None  # what every method raises
        self._numbers = itertools.count(1)

    def _trouble(self) -> None:
        if self.failure is not None:
            raise self.failure

    def kinds(self) -> list[Kind]:
        return [Kind(name, self.why_not.get(name, ""), OPTIONS[name]) for name in KINDS]

    def start(self, kind: str, options: Mapping[str, Any], by: str = "") -> Job:
        self._trouble()
        if self.why_not.get(kind):
            raise ConfigurationError(self.why_not[kind])
        running = next((job for job in self.jobs.values() if job.kind == kind and job.state == RUNNING), None)
        if running is not None:
            message = f"a job of the kind {kind} runs: {running.id} on {running.host} since {running.started:%H:%M}"
            raise JobRuns(message, running.id)
        if options.get("plan") and options["plan"] not in self.plans:
            raise ValueError(f"plan {options['plan']!r} is none that is kept")
        self.started.append((kind, dict(options), by))
        id = f"{kind}-{next(self._numbers)}"
        ends = options.get("dry_run", True)
        job = Job(id, kind, DONE if ends else RUNNING, dict(options), NOW, NOW, host="web1", pid=1, by=by)
        if ends:
            result: dict[str, Any] = {"objects": 3}
            if kind == "gc":
                result["plan"] = f"plan-{id}"
                self.plans[f"plan-{id}"] = [{"key": f"blobs/{n}", "size": n, "oid": f"{n:016x}"} for n in range(60)]
            job = replace(job, ended=NOW, result=result, log=(LogLine(NOW, "info", "done"),))
        else:
            job = replace(job, progress=Progress("deleting", 1, 3, 10, 30))
        self.jobs[id] = job
        return job

    def run(self, kind: str, options: Mapping[str, Any], work: Any, *, stop: Any = None, complain: Any = None) -> Any:
        raise NotImplementedError

    def get(self, id: str) -> Job:
        self._trouble()
        return self.jobs[id]

    def list(self, kind: str | None = None, *, start: int = 0, size: int = 25) -> tuple[list[Job], int]:
        self._trouble()
        found = [job for job in reversed(self.jobs.values()) if kind in (None, job.kind)]
        return found[start : start + size], len(found)

    def latest(self) -> dict[str, tuple[Job | None, Job | None]]:
        found = {}
        for kind in KINDS:
            jobs = self.list(kind, size=1000)[0]
            ended = next((job for job in jobs if job.state != RUNNING), None)
            found[kind] = (ended, next((job for job in jobs if job.state == RUNNING), None))
        return found

    def close(self) -> None:
        pass

    def cancel(self, id: str) -> None:
        self._trouble()
        job = self.jobs[id]
        if job.state == RUNNING:
            self.jobs[id] = replace(job, state=CANCELLED, cancelling=True, ended=NOW)

    def findings(self, job: Job, *, start: int = 0, size: int = 25) -> tuple[list[Mapping[str, Any]], int]:
        self._trouble()
        found = list((job.result or {}).get("findings") or ())
        return found[start : start + size], len(found)

    def candidates(self, plan: str, *, start: int = 0, size: int = 25) -> tuple[list[dict[str, Any]], int]:
        self._trouble()
        found = self.plans[plan]
        return found[start : start + size], len(found)


@implementer(IStatus)
class Status:
    """``parts`` of the document besides those that are unknown."""

    def __init__(self, database: str = "main", **parts: Any) -> None:
        self.parts = {"database": database, "at": NOW.isoformat(), **parts}
        self.checks = 0

    def document(self) -> dict[str, Any]:
        from collective.s3blobstorage.status.reduced import UNKNOWN

        return UNKNOWN | self.parts

    def check(self) -> dict[str, Any]:
        self.checks += 1
        self.parts["check"] = {"at": NOW.isoformat(), "ok": True, "seconds": 0.1, "findings": []}
        return self.parts["check"]

    def trial(self) -> list[dict[str, Any]]:
        return []

    def broken(self) -> dict[tuple[str, str], Any]:
        return {}

    def counters(self) -> dict[str, int]:
        return {}
