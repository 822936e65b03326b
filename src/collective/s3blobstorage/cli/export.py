"""``s3blobs export``: the blobs of the bucket into a blob directory that stock ZODB opens."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import output
from .as_job import shown_until_interrupted
from .comparing import (
    amount,
    document,
    exit_status,
    inline_reader,
    looked,
    opened_store,
    print_lines,
    scope_of,
    took,
    totals,
    transfer_options,
)
from .request import Request, pass_request
from .shown import Shown

if TYPE_CHECKING:
    from ..maintenance.bringing import Wish
    from ..maintenance.comparing import Comparison
    from ..maintenance.export import Plan
    from ..maintenance.findings import Findings


@click.command()
@click.option(
    "--to",
    "target",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The blob directory: a new or empty folder, or one of an earlier run.",
)
@transfer_options
@pass_request
def export(
    request: Request,
    target: Path,
    since: bytes | None,
    oid_range: tuple[bytes, bytes] | None,
    concurrency: int,
    limit_rate: int | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Write the file of every blob that the database needs into a blob directory, for ZODB without this package.

    Also beside a running site; database and bucket are only read. A file appears whole, checked and synced, so it can
    be stopped or killed and run again. Ctrl-C ends it after the downloads that are under way. Exit status: 0; 1 where a
    blob is missing or different; 2 where nothing could be done, the store cannot be reached, or the disk takes no more;
    130 after Ctrl-C.
    """
    from ..maintenance.blobdir import BlobDirectory
    from ..maintenance.bringing import Wish
    from ..maintenance.comparing import Comparison
    from ..maintenance.export import Plan
    from ..maintenance.spool import Spool

    request.json = as_json
    scope = scope_of(since, oid_range)
    database = request.database()
    started = time.monotonic()
    with ExitStack() as stack:
        spool = stack.enter_context(Spool())
        store, marker = opened_store(stack, database, writable=False, concurrency=concurrency)
        directory = BlobDirectory.made(target, dry_run=dry_run)
        run = Comparison(looked(database), store, marker, directory, scope, spool)
        planned = Plan(spool)
        sources = database.settings.sources
        wish = Wish(dry_run=dry_run, concurrency=concurrency, limit_rate=limit_rate)
        shown_until_interrupted(lambda running: _work(run, planned, sources, wish, running), "downloads")
    told = document(database, {"to": str(target)}, planned.findings, "written", scope, started, dry_run=dry_run)
    if as_json:
        output.print_json(told)
    else:
        _print(told, planned.findings)
    return exit_status(planned.findings)


def _work(run: Comparison, planned: Plan, sources: Any, wish: Wish, running: Shown) -> None:
    """Compare and bring. In a thread of its own."""
    from ..maintenance import export as work
    from ..maintenance.comparing import reader_of
    from ..maintenance.findings import Stopped
    from ..maintenance.migrate import Transfer
    from ..maintenance.pace import Pace
    from ..overlay.chain import open_overlay

    findings = planned.findings
    # Open until the end: the bytes of inline blobs are in its records.
    with run.base() as base, closing(open_overlay(sources, base, check=False)) as overlay:
        try:
            work.plan(planned, run.streams(base, running.phase("reading the database"), running.stop), running.stop)
        except Stopped:
            findings.stopped = True
            return
        if wish.dry_run:
            return
        moved = running.phase("exporting", findings.wanted.blobs, findings.wanted.bytes)
        transfer = Transfer(wish.concurrency, running.stop, Pace(wish.limit_rate), moved)
        reader = reader_of(run.store, run.marker, overlay)
        work.execute(planned, reader, inline_reader(base), run.directory, transfer)
    run.settle(planned.doubtful, findings, "its object is in no place where it may be", in_bucket=False)


def _print(told: dict[str, Any], findings: Findings) -> None:
    found = told["found"]
    lines = [
        ("kept revisions", f"{told['kept_revisions']:,}"),
        ("in the directory", amount(found["there"]) + " before"),
    ]
    if told["dry_run"]:
        lines.append(("would be written", amount(found["wanted"])))
    else:
        lines.append(("written", took(told["written"], told["seconds"])))
        if findings.stopped:
            lines.append(("stopped", f"of {amount(found['wanted'])}; run it again to go on"))
    print_lines([*lines, *totals(findings)], findings)
