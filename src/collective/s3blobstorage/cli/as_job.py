"""A command's work, with its bars, until Ctrl-C; and as a job that every process of the site sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from . import output
from .interrupt import until_interrupted
from .shown import Shown

if TYPE_CHECKING:
    from ..maintenance.findings import Findings

T = TypeVar("T")


def shown_until_interrupted(work: Callable[[Shown], T], what: str) -> T:
    """``work(running)`` in a thread; see ``until_interrupted``."""

    def run(stop: Any) -> T:
        with Shown(stop) as shown:
            return work(shown)

    return until_interrupted(run, what)


def in_job(
    store: Any,
    kind: str,
    options: Mapping[str, Any],
    work: Callable[[Shown], T],
    what: str,
    result: Callable[[T], Mapping[str, Any]],
) -> T:
    """The same as a job of that kind: ``result`` makes of what ``work`` returns the job's report, which is returned by
    this as it is. Raises JobRuns where one runs, here or elsewhere."""
    from ..maintenance.jobs.jobs import Jobs

    jobs = Jobs(store)

    def run(stop: Any) -> T:
        found: list[T] = []

        def do(running: Any) -> Mapping[str, Any]:
            with Shown(running.stop, running) as shown:
                found.append(work(shown))
            return result(found[0])

        jobs.run(kind, options, do, stop=stop, complain=output.complain)
        return found[0]

    return until_interrupted(run, what)


def report(findings: Findings, done: str) -> Mapping[str, Any]:
    """What a job tells of them."""
    from ..maintenance.jobs.work import found

    return found(findings, done, dry_run=False)
