"""``s3blobs jobs``: what runs on a bucket, here or elsewhere, and what came of it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from ..errors import ConfigurationError
from ..maintenance.jobs.interfaces import KINDS
from ..messages import byte_count
from . import output
from .comparing import opened_store
from .request import Request, pass_request

if TYPE_CHECKING:
    from ..maintenance.jobs.interfaces import Job
    from ..maintenance.jobs.jobs import Jobs

_STATES = {"running": "cyan", "done": "green", "failed": "bold red", "interrupted": "yellow"}

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")


@click.group()
def jobs() -> None:
    """Jobs of the bucket: garbage collection, copies, rotations of keys, whoever started them."""


@jobs.command("list")
@click.option("--kind", type=click.Choice(KINDS), help="Only jobs of that kind.")
@click.option("--count", type=click.IntRange(1, 1000), default=25, show_default=True, help="So many at most.")
@json_option
@pass_request
def list_(request: Request, kind: str | None, count: int, as_json: bool) -> int:
    """List them, the newest first.

    Exit status: 0; 2 where they could not be read.
    """
    request.json = as_json
    with ExitStack() as stack:
        found, all_of_them = _opened(stack, request, writable=False).list(kind, size=count)
    if as_json:
        output.print_json({"jobs": [_document(job) for job in found], "total": all_of_them})
        return 0
    if not found:
        output.console().print("there are no jobs")
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("job", "state", "started (UTC)", "took", "where", "how far"):
        table.add_column(name, no_wrap=name != "how far", overflow="fold")
    for job in found:
        state = Text(job.state, style=_STATES.get(job.state, ""))
        table.add_row(job.id, state, f"{job.started:%Y-%m-%d %H:%M}", _took(job), job.host, _how_far(job))
    console = output.console()
    console.print(table)
    if all_of_them > len(found):
        console.print(f"{len(found)} of {all_of_them:,}")
    return 0


@jobs.command()
@click.argument("id")
@json_option
@pass_request
def show(request: Request, id: str, as_json: bool) -> int:
    """Show one: how far it is, its log, its report.

    Exit status: 0; 2 where there is no such job, or it could not be read.
    """
    request.json = as_json
    with ExitStack() as stack:
        job = _get(_opened(stack, request, writable=False), id)
    if as_json:
        output.print_json(_document(job))
        return 0
    lines = [
        ("job", job.id),
        ("state", f"{job.state}{', to be cancelled' if job.cancelling and job.state == 'running' else ''}"),
        ("started", f"{job.started:%Y-%m-%d %H:%M:%S} UTC on {job.host}, process {job.pid}"),
        ("took", _took(job)),
        ("how far", _how_far(job)),
    ]
    if job.by:
        lines.append(("started by", job.by))
    if job.resumed:
        lines.append(("goes on with", job.resumed))
    if job.error:
        lines.append(("error", job.error))
    lines += [("log", f"{line.at:%H:%M:%S} {line.message}") for line in job.log]
    lines += [("report", f"{name}: {value}") for name, value in (job.result or {}).items() if value not in (None, [])]
    output.print_lines(lines)
    return 0


@jobs.command()
@click.argument("id")
@pass_request
def cancel(request: Request, id: str) -> int:
    """Ask a job to stop: it ends within half a minute, after what is under way.

    What was done stays, and a later one goes on from there. Exit status: 0, also where it has ended; 2 where there is
    no such job, or the store cannot be reached.
    """
    with ExitStack() as stack:
        found = _opened(stack, request, writable=True)
        job = _get(found, id)
        if job.state != "running":
            output.console().print(f"{job.id} is {job.state}: nothing to cancel")
            return 0
        found.cancel(id)
    output.console().print(f"{job.id} was asked to stop; s3blobs jobs show {job.id} tells when it has ended")
    return 0


def _opened(stack: ExitStack, request: Request, *, writable: bool) -> Jobs:
    from ..maintenance.jobs.jobs import Jobs

    database = request.database()
    if writable and database.settings.read_only:
        raise ConfigurationError("read-only is on, and to cancel is to write into the bucket: set read-only off")
    store, _ = opened_store(stack, database, writable=writable, concurrency=1)
    return Jobs(store)


def _get(found: Jobs, id: str) -> Job:
    try:
        return found.get(id)
    except KeyError:
        raise ConfigurationError(f"there is no job {id!r}: s3blobs jobs list shows them") from None


def _document(job: Job) -> dict[str, Any]:
    from ..maintenance.jobs.job import job_document

    return job_document(job)


def _took(job: Job) -> str:
    seconds = max(0.0, ((job.ended or job.beat) - job.started).total_seconds())
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"


def _how_far(job: Job) -> str:
    progress = job.progress
    if not progress.phase:
        return job.error or "–"
    count = f"{progress.done:,}" + (f" of {progress.total:,}" if progress.total is not None else "")
    size = f", {byte_count(progress.done_bytes)}" if progress.done_bytes else ""
    return f"{progress.phase}: {count}{size}"
