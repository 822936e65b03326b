"""``s3blobs export``: the blobs of the bucket into a blob directory that stock ZODB opens."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from dataclasses import asdict
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
from .configuration import Database
from .request import Request, pass_request
from .shown import Shown

if TYPE_CHECKING:
    from ..maintenance.bringing import Wish
    from ..maintenance.by_path import Placed
    from ..maintenance.comparing import Comparison
    from ..maintenance.export import Plan
    from ..maintenance.findings import Findings

_UNPLACED = "without-tid"  # where objects go of which nobody knows the transaction


@click.command()
@click.option(
    "--to",
    "target",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The blob directory: a new or empty folder, or one of an earlier run.",
)
@click.option("--manifest", metavar="FILE|KEY|latest", help="Without the database: what that manifest lists.")
@click.option("--from-bucket", is_flag=True, help="Without database and manifest: what the objects themselves tell.")
@click.option("--by-path", is_flag=True, help="With --manifest: also each file at the path of its content.")
@transfer_options
@pass_request
def export(
    request: Request,
    target: Path,
    manifest: str | None,
    from_bucket: bool,
    by_path: bool,
    since: bytes | None,
    oid_range: tuple[bytes, bytes] | None,
    concurrency: int,
    limit_rate: int | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Write the file of every blob that the database needs into a blob directory, for ZODB without this package.

    Also beside a running site; database and bucket are only read. With --manifest or --from-bucket no database is
    opened. A file appears whole, checked and synced, so it can be stopped or killed and run again. Ctrl-C ends it after
    the downloads that are under way. Exit status: 0; 1 where a blob is missing or different; 2 where nothing could be
    done, the store cannot be reached, or the disk takes no more; 130 after Ctrl-C.
    """
    from ..maintenance.blobdir import BlobDirectory
    from ..maintenance.bringing import Wish
    from ..maintenance.comparing import Comparison
    from ..maintenance.export import Plan
    from ..maintenance.spool import Spool

    request.json = as_json
    if by_path and manifest is None:
        raise click.UsageError("--by-path needs --manifest, which knows the paths: --manifest latest --by-path")
    wish = Wish(dry_run=dry_run, concurrency=concurrency, limit_rate=limit_rate)
    if manifest is not None or from_bucket:
        if manifest is not None and from_bucket:
            raise click.UsageError("--manifest and --from-bucket are two ways: give one.")
        if since is not None or oid_range is not None:
            raise click.UsageError(
                "--since and --oid-range choose from a database, and none is opened: leave them out."
            )
        return _without_database(request.database(), target, manifest, wish, by_path, as_json)
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


def _without_database(
    database: Database, target: Path, manifest: str | None, wish: Wish, by_path: bool, as_json: bool
) -> int:
    """By a manifest, or, where that is None, by the objects alone."""
    from ..maintenance import by_path as paths
    from ..maintenance import rebuild
    from ..maintenance.blobdir import BlobDirectory
    from ..maintenance.export import Plan
    from ..maintenance.findings import Count
    from ..maintenance.manifests import opened, refuse_other
    from ..maintenance.scope import Scope
    from ..maintenance.spool import Spool
    from ..storage import owner

    started = time.monotonic()
    unplaced = Count()
    placed: Placed | None = None
    with ExitStack() as stack:
        spool = stack.enter_context(Spool())
        store, marker = opened_store(stack, database, writable=False, concurrency=wish.concurrency)
        # With a database the records say what is exported; here only the owner tells that it is this site's bucket.
        if not database.settings.read_only:
            owner.refuse_other(marker, database.settings.owner)
        planned = Plan(spool)
        findings = planned.findings

        def work(running: Shown) -> None:
            nonlocal placed
            from ..errors import BlobMissing
            from ..maintenance import export as exporting
            from ..maintenance.comparing import reader_of
            from ..maintenance.findings import Stopped, settle
            from ..maintenance.migrate import Transfer
            from ..maintenance.pace import Pace

            def no_inline(oid: bytes, tid: bytes) -> bytes:
                raise BlobMissing(oid, tid)

            inline, rest = no_inline, None
            try:
                whole = None
                if manifest is not None:
                    whole = stack.enter_context(opened(store, manifest, running.phase("reading the manifest")))
                    refuse_other(whole, marker)
                directory = BlobDirectory.made(target, dry_run=wish.dry_run)
                if whole is not None:
                    advance = running.phase("comparing", whole.totals.blobs)
                    inline = rebuild.plan_by_manifest(whole, planned, directory, spool, running.stop, advance)
                else:
                    advance = running.phase("asking the store")
                    rest = rebuild.plan_by_objects(
                        store, planned, directory, spool, wish.concurrency, running.stop, advance
                    )
                    unplaced.blobs, unplaced.bytes = rest.count.blobs, rest.count.bytes
            except Stopped:
                findings.stopped = True
                return
            if wish.dry_run:
                return
            wanted = findings.wanted
            moved = running.phase("exporting", wanted.blobs + unplaced.blobs, wanted.bytes + unplaced.bytes)
            transfer = Transfer(wish.concurrency, running.stop, Pace(wish.limit_rate), moved)
            exporting.execute(planned, reader_of(store, marker), inline, directory, transfer)
            if rest is not None and not findings.stopped:
                rebuild.bring_unplaced(store, rest, target / _UNPLACED, directory, findings, transfer)
            rows = planned.doubtful.rows("oid", "tid")
            settle(rows, lambda oid, tid: True, findings, "its object is not in the bucket")
            if whole is not None and by_path and not findings.stopped:
                placed = paths.place(whole, target, directory, spool)

        shown_until_interrupted(work, "downloads")
    way = {"to": str(target), "manifest": manifest}
    told = document(database, way, findings, "written", Scope(), started, dry_run=wish.dry_run)
    told["without_tid"] = asdict(unplaced)
    if placed is not None:
        told["by_path"] = asdict(placed)
    if as_json:
        output.print_json(told)
    else:
        _print(told, findings)
    return exit_status(findings)


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
    if told.get("without_tid", {}).get("blobs"):
        lines.append(("without a tid", f"{amount(told['without_tid'])}, in {_UNPLACED}/"))
    if placed := told.get("by_path"):
        lines.append(("by path", f"{amount(placed['there'])}, in by-path/"))
        if placed["unnamed"]:
            lines.append(("without a path", f"{placed['unnamed']:,} kept revisions: no file can be called like theirs"))
    print_lines([*lines, *totals(findings)], findings)
