"""What ``migrate``, ``mirror`` and ``export`` share: options, store and database opened, comparison, report."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ..datatypes import DAY
from ..messages import byte_count
from . import output
from .configuration import Database, opened_read_only
from .interrupt import INTERRUPTED
from .parameters import OID_RANGE, SINCE, SIZE

if TYPE_CHECKING:
    from ..maintenance.findings import Findings
    from ..maintenance.scope import Scope
    from ..objectstore import S3ObjectStore
    from ..storage.owner import Marker

SHOWN = 20  # problems in the text for people

_OPTIONS = [
    click.option("--since", type=SINCE, help="Only revisions committed then or later: a date (UTC) or a tid."),
    click.option("--oid-range", type=OID_RANGE, help="Only these oids, as 0-1fff: to split the work over machines."),
    click.option("--concurrency", type=click.IntRange(1, 64), default=8, show_default=True, help="Blobs at a time."),
    click.option("--limit-rate", type=SIZE, help="Bytes a second over all transfers, as 10MB."),
    click.option("--dry-run", is_flag=True, help="Only say what would be done."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else."),
]


def transfer_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def scope_of(since: bytes | None, oid_range: tuple[bytes, bytes] | None) -> Scope:
    from ..maintenance.scope import Scope

    scope = Scope()
    if oid_range is not None:
        scope = replace(scope, first=oid_range[0], last=oid_range[1])
    return scope if since is None else replace(scope, since=since)


def looked(database: Database) -> Callable[[], Any]:
    """The base opened anew at each call, for reading: it sees what was committed until then."""
    return lambda: opened_read_only(database.factory.config.base)


def opened_store(
    stack: ExitStack,
    database: Database,
    *,
    writable: bool,
    concurrency: int,
    notes: bool = False,
    begins_to_share: bool = True,
) -> tuple[S3ObjectStore, Marker]:
    """The store, and what its prefix is; for writing it is opened as the site opens it, the owner marker included.

    ``notes``: opened for reading it may all the same write that a job runs, and what came of it.
    ``begins_to_share``: as the site, where it is the first one to open the prefix with dedup on.
    So many requests send at a time. A blob may take as long as ``--limit-rate`` makes it.
    """
    from ..objectstore import open_store  # here, since it imports boto3
    from ..storage.opening import keys_explained, open_once
    from ..storage.owner import open_prefix

    settings = database.settings if begins_to_share else replace(database.settings, dedup=False)
    wanted = replace(
        settings.store,
        upload_concurrency=concurrency,
        max_pool_connections=max(settings.store.max_pool_connections, concurrency + 2),
        download_deadline=7 * DAY,
    )
    store = stack.enter_context(closing(open_store(wanted, read_only=not (writable or notes))))
    if writable:
        return store, open_once(store, settings, read_only=False)
    store.open_bucket(writable=False)
    with keys_explained(store):
        return store, open_prefix(store, settings.owner, read_only=True)


def document(
    database: Database, way: dict[str, str], findings: Findings, done: str, scope: Scope, started: float, **more: Any
) -> dict[str, Any]:
    """The report as JSON has it. ``done``: what ``findings.done`` were: uploaded, written, deleted."""
    from ..maintenance.findings import document as found

    return {
        "database": database.name,
        **way,
        **more,
        **found(findings, done, with_objects=not any(scope.since)),
        "seconds": round(time.monotonic() - started, 3),
    }


def amount(count: dict[str, int], what: str = "blobs") -> str:
    return f"{count['blobs']:,} {what}, {byte_count(count['bytes'])}"


def in_bucket(told: dict[str, Any], before: str) -> list[tuple[str, str]]:
    """The first lines of a report about the bucket. ``before``: said of what was there before something was done."""
    found = told["found"]
    lines = [("kept revisions", f"{told['kept_revisions']:,}"), ("in the bucket", amount(found["there"]) + before)]
    if found["inline"]["blobs"]:
        lines.append(("in their records", f"{found['inline']['blobs']:,}"))
    if found["old"]["blobs"]:
        lines.append(("in the bucket", f"{amount(found['old'])} under keys of zodb-s3blobs"))
    if found["repeated"]["blobs"]:
        lines.append(("same object", f"{found['repeated']['blobs']:,} revisions that undo brought back"))
    return lines


def print_lines(lines: list[tuple[str, str]], findings: Findings) -> None:
    """The report as people have it: a line each, then the first problems."""
    console = output.console()
    for problem in findings.problems[:SHOWN]:
        lines.append((problem.what, f"{problem.oid} at {problem.tid}: {problem.detail}"))
    more = sum(findings.bad.values()) - min(len(findings.problems), SHOWN)
    if more:
        lines.append(("more", f"{more:,} (--json lists them)"))
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        console.print(f"{name:<{width}}  {value}", soft_wrap=True)


def totals(findings: Findings) -> list[tuple[str, str]]:
    """What every report has, where it is not nothing."""
    counts = [
        (kind, f"{findings.bad[kind]:,} kept revisions")
        for kind in ("missing", "different", "damaged", "failed")
        if kind in findings.bad
    ]
    lines = [("gone meanwhile", f"{findings.gone:,} revisions, by a pack")] if findings.gone else []
    for what, count in (("files", findings.extra_files), ("objects", findings.extra_objects)):
        if count.blobs:
            size = byte_count(count.bytes)  # what the site commits meanwhile is among them
            lines.append((f"extra {what}", f"{count.blobs:,}, {size}, which no revision needed when this began"))
    return [*lines, *counts]


def exit_status(findings: Findings) -> int:
    if findings.stopped:
        return INTERRUPTED
    return 1 if findings.bad else 0


def took(count: dict[str, int], seconds: float) -> str:
    return f"{amount(count)} in {seconds:,.1f} s, {byte_count(count['bytes'] / max(seconds, 0.001))}/s"


def inline_reader(base: Any) -> Callable[[bytes, bytes], bytes]:
    """The bytes in the record of a revision; BlobMissing where the base does not have it any more."""
    from ..errors import BlobMissing
    from ..storage.reading import read_exact, state_of

    def read(oid: bytes, tid: bytes) -> bytes:
        data = state_of(read_exact(base.loadBefore, oid, tid), oid, tid).inline
        if data is None:
            raise BlobMissing(oid, tid)
        return data

    return read
