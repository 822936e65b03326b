"""What ``migrate``, ``mirror`` and ``export`` share: options, store and database opened, comparison, report."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from ..datatypes import DAY
from ..messages import byte_count
from . import output
from .configuration import Database, opened_read_only
from .interrupt import INTERRUPTED
from .parameters import OID_RANGE, SINCE, SIZE

if TYPE_CHECKING:
    from ..maintenance.compare import Extra, Place
    from ..maintenance.findings import Findings
    from ..maintenance.scope import Scope
    from ..maintenance.spool import Spool
    from ..objectstore import S3ObjectStore
    from ..overlay.interfaces import IOverlay
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


def opened_store(
    stack: ExitStack, database: Database, *, writable: bool, concurrency: int
) -> tuple[S3ObjectStore, Marker]:
    """The store, and what its prefix is; for writing it is opened as the site opens it, the owner marker included.

    So many requests send at a time. A blob may take as long as ``--limit-rate`` makes it.
    """
    from ..objectstore import open_store  # here, since it imports boto3
    from ..storage.opening import keys_explained, open_once
    from ..storage.owner import open_prefix

    settings = database.settings
    wanted = replace(
        settings.store,
        upload_concurrency=concurrency,
        max_pool_connections=max(settings.store.max_pool_connections, concurrency + 2),
        download_deadline=7 * DAY,
    )
    store = stack.enter_context(closing(open_store(wanted, read_only=not writable)))
    if writable:
        return store, open_once(store, settings, read_only=False)
    store.open_bucket(writable=False)
    with keys_explained(store):
        return store, open_prefix(store, settings.owner, read_only=True)


@dataclass(frozen=True)
class Comparison:
    """The three streams of a run, opened when they are needed, in the thread that reads them.

    ``directory``: the blob directory, or None where the run has none.
    """

    database: Database
    store: S3ObjectStore
    marker: Marker
    directory: Any
    scope: Scope
    spool: Spool

    def base(self) -> Any:
        """The base opened anew, for reading: it sees what was committed until now."""
        return opened_read_only(self.database.factory.config.base)

    def streams(self, base: Any, advance: Callable[[int], None], stop: threading.Event) -> Iterator[Place | Extra]:
        """What ``compare.matched`` brings. Raises Stopped, also while the base is read."""
        from ..maintenance.blobdir import BlobFile
        from ..maintenance.bucket import blob_objects
        from ..maintenance.compare import Extra, matched
        from ..maintenance.findings import Stopped
        from ..maintenance.kept import kept_revisions

        def counted(count: int) -> None:
            if stop.is_set():
                raise Stopped
            advance(count)

        found = matched(
            kept_revisions(base, self.scope, self.spool, counted),
            blob_objects(
                self.store,
                self.scope,
                self.spool,
                with_foreign_keys=self.marker.foreign_keys,
                advance=lambda count: counted(0),
            ),
            self.directory.files(self.scope, self.spool) if self.directory is not None else (),
        )
        if not any(self.scope.since):
            return found
        # A drawn name does not tell when: an object that no revision of that time needs may be an older one's.
        return (item for item in found if not isinstance(item, Extra) or isinstance(item.found, BlobFile))

    def settle(self, doubtful: Any, findings: Findings, detail: str) -> None:
        """Tell missing revisions from those that a pack removed meanwhile."""
        from ..maintenance.findings import settle
        from ..maintenance.kept import is_kept

        if len(doubtful) and not findings.stopped:
            with self.base() as base:
                rows = doubtful.rows("oid", "tid")
                settle(rows, lambda oid, tid: is_kept(base, oid, tid), findings, detail)


def reader_of(store: S3ObjectStore, marker: Marker, overlay: IOverlay | None = None) -> Any:
    """The ordinary reader, which a tool asks for sources only: it reads each blob once, so no cache takes them.

    ``overlay``: what is behind the bucket; None: only the bucket is read.
    """
    from ..overlay.chain import NoOverlay
    from ..storage.reading import BlobReader

    behind = NoOverlay() if overlay is None else overlay
    return BlobReader(store, None, behind, with_foreign_keys=marker.foreign_keys)  # type: ignore[arg-type]


def document(
    database: Database, way: dict[str, str], findings: Findings, done: str, scope: Scope, started: float, **more: Any
) -> dict[str, Any]:
    """The report as JSON has it. ``done``: what ``findings.done`` were: uploaded, written, deleted."""
    return {
        "database": database.name,
        **way,
        **more,
        "kept_revisions": findings.revisions,
        "found": {verdict.value: asdict(count) for verdict, count in findings.by_verdict.items()},
        done: asdict(findings.done),
        "extra": {
            "files": asdict(findings.extra_files),
            "objects": None if any(scope.since) else asdict(findings.extra_objects),
        },
        "gone": findings.gone,
        **{what: findings.bad.get(what, 0) for what in ("missing", "different", "damaged", "failed")},
        "problems": [asdict(problem) for problem in findings.problems],
        "seconds": round(time.monotonic() - started, 3),
        "stopped": findings.stopped,
    }


def amount(count: dict[str, int]) -> str:
    return f"{count['blobs']:,} blobs, {byte_count(count['bytes'])}"


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
            lines.append((f"extra {what}", f"{count.blobs:,}, {byte_count(count.bytes)}, which no kept revision needs"))
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
