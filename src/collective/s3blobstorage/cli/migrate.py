"""``s3blobs migrate``: the blobs of a blob directory into the bucket, and what may go then."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ConfigurationError
from ..messages import byte_count
from . import output
from .as_job import in_job, report, shown_until_interrupted
from .comparing import (
    amount,
    document,
    exit_status,
    in_bucket,
    looked,
    opened_store,
    print_lines,
    scope_of,
    took,
    totals,
    transfer_options,
)
from .configuration import Database
from .confirming import typed
from .elsewhere import elsewhere, opening
from .interrupt import until_interrupted
from .inventory import found_report, inventory_options
from .request import Request, pass_request

if TYPE_CHECKING:
    from ..maintenance.bringing import Wish
    from ..maintenance.comparing import Comparison
    from ..maintenance.migrate import Plan
    from ..maintenance.scope import Scope


@click.command()
@click.option(
    "--from",
    "source",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR|FILE",
    help="The site's blob directory, as its blob-dir named it; or a configuration whose storage has the blobs.",
)
@click.option("--compare", "comparing", is_flag=True, help="Upload nothing; say what is missing, extra or different.")
@click.option("--verify", is_flag=True, help="With --compare or --purge-source: read every object again.")
@click.option("--purge-source", "purging", is_flag=True, help="Compare, ask, and delete the files that the bucket has.")
@inventory_options
@transfer_options
@pass_request
def migrate(
    request: Request,
    source: Path,
    comparing: bool,
    verify: bool,
    purging: bool,
    where: str | None,
    inventory_max_age: float,
    since: bytes | None,
    oid_range: tuple[bytes, bytes] | None,
    concurrency: int,
    limit_rate: int | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Upload the blobs that the database needs and the bucket does not have, from a blob directory or another storage.

    The other storage is what the site's old configuration describes (RelStorage with its blobs in the database, a ZEO
    server's client, a FileStorage), or another <s3blobstorage>. Only a directory can be purged.

    Before or after the configuration was switched to <s3blobstorage>, also beside a running site; the database is
    only read. Nothing in the bucket is overwritten, so it can be stopped or killed and run again. Ctrl-C ends it after
    the uploads that are under way. With --inventory the newest report of S3 Inventory says what is there. Exit status:
    0; 1 where a blob is missing, different, or could not be read; 2 where nothing could be done, or the store cannot be
    reached; 130 after Ctrl-C.
    """
    from ..maintenance.blobdir import BlobDirectory
    from ..maintenance.bringing import from_directory, from_sources
    from ..maintenance.comparing import Comparison
    from ..maintenance.findings import Stopped
    from ..maintenance.migrate import Plan
    from ..maintenance.spool import Spool
    from ..storage.owner import refuse_other

    request.json = as_json
    wish = _Wish(comparing, verify, purging, dry_run, concurrency, limit_rate)
    wish.check()
    if where is not None and (comparing or purging):
        raise click.UsageError(
            "--compare and --purge-source tell what the bucket has now, which no report does: leave out --inventory."
        )
    scope = scope_of(since, oid_range)
    if purging and not scope.whole:
        raise click.UsageError("--purge-source compares the whole database: leave out --oid-range and --since.")
    database = request.database()
    if database.settings.read_only and not comparing:
        raise ConfigurationError("read-only is on, and migrate writes into the bucket: set read-only off")
    if purging and database.settings.keep_in_base:
        raise ConfigurationError(
            "keep-in-base is on, so processes with the old configuration may read the files that --purge-source would"
            " delete: when there are none any more, set keep-in-base off, restart, and run it again"
        )
    there = elsewhere(source, request.database_name) if source.is_file() else None
    folder = source if there is None else there.directory
    if purging and folder is None:
        raise click.UsageError("--purge-source deletes the files of a blob directory, and --from has none.")
    directory = None if folder is None else BlobDirectory.at(folder)
    started = time.monotonic()
    refused = None
    with ExitStack() as stack:
        spool = stack.enter_context(Spool())
        store, marker = opened_store(stack, database, writable=wish.uploading, concurrency=concurrency)
        if not comparing:
            refuse_other(marker, database.settings.owner)
        run = Comparison(looked(database), store, marker, directory, scope, spool)
        listed = found_report(stack, store, marker, where, inventory_max_age, scope)
        planned = Plan(spool)

        def work(running: Any) -> None:
            nonlocal run
            try:
                run = run if listed is None else replace(run, inventory=listed.listing(stack, running))
            except Stopped:
                planned.findings.stopped = True
                return
            if there is None or folder is not None:
                from_directory(run, planned, wish.whole, running)
            else:
                from_sources(run, planned, wish.whole, running, *opening(there, database, store))

        if wish.uploading and oid_range is None:  # a part is no job: others bring theirs at the same time
            options = {"dry_run": False, "source": str(source)}
            in_job(store, "migrate", options, work, "uploads", lambda done: report(planned.findings, "uploaded"))
        else:
            shown_until_interrupted(work, "uploads" if wish.uploading else "requests")
        if purging and folder is not None:
            refused = _purge(run, planned, folder, database, dry_run)
        told = _document(planned, database, source, scope, started, wish, refused)
        told["inventory"] = None if listed is None else listed.created
        if as_json:
            output.print_json(told)
        else:
            _print(told, planned, wish)
    if refused is None:
        return exit_status(planned.findings)
    output.complain(f"nothing was deleted: {refused}")
    return exit_status(planned.findings) or 1


@dataclass(frozen=True)
class _Wish:
    """What was asked for on the command line."""

    comparing: bool
    verify: bool
    purging: bool
    dry_run: bool
    concurrency: int
    limit_rate: int | None

    @property
    def uploading(self) -> bool:
        return not (self.comparing or self.purging or self.dry_run)

    @property
    def whole(self) -> Wish:
        """For ``maintenance``."""
        from ..maintenance.bringing import Wish

        return Wish(
            comparing=self.comparing or self.purging,
            dry_run=self.dry_run,
            verify=self.verify,
            keep_there=self.verify or self.purging,
            concurrency=self.concurrency,
            limit_rate=self.limit_rate,
        )

    def check(self) -> None:
        """Refuse what does not go together, and what would be of no effect."""
        if self.comparing and self.purging:
            raise click.UsageError("--purge-source compares by itself: leave out --compare.")
        if self.comparing and self.dry_run:
            raise click.UsageError("--compare changes nothing: leave out --dry-run.")
        if self.verify and not (self.comparing or self.purging):
            raise click.UsageError("--verify goes with --compare or with --purge-source.")
        if self.limit_rate is not None and (self.comparing or self.purging) and not self.verify:
            raise click.UsageError("--limit-rate is of no use here: without --verify no blob is transferred.")


def _purge(run: Comparison, planned: Plan, source: Path, database: Database, dry_run: bool) -> str | None:
    """Delete, where nothing is in the way and somebody typed the name; why not, or None."""
    from ..maintenance import purge

    reason = purge.refusal(planned.findings, run.scope) or purge.unreadable(run.store)
    if reason is not None or dry_run:
        return reason
    going = purge.deletable(planned)
    if not going.blobs:
        return None
    name = database.settings.owner or source.resolve().name
    files = f"{going.blobs:,} files, {byte_count(going.bytes)}, of {source}"
    if not typed(name, f"to delete {files}"):
        return f"{name} was not typed"
    until_interrupted(lambda stop: purge.execute(planned, run.directory, stop), "deletions")
    return None


def _document(
    planned: Plan,
    database: Database,
    source: Path,
    scope: Scope,
    started: float,
    wish: _Wish,
    refused: str | None,
) -> dict[str, Any]:
    more: dict[str, Any] = {"dry_run": wish.dry_run, "comparing": wish.comparing}
    if wish.verify:
        more["verified"] = asdict(planned.findings.verified)
    if wish.purging:
        more["refused"] = refused
    done = "deleted" if wish.purging else "uploaded"
    return document(database, {"from": str(source)}, planned.findings, done, scope, started, **more)


def _print(told: dict[str, Any], planned: Plan, wish: _Wish) -> None:
    found = told["found"]
    before = "" if wish.comparing or wish.purging else " before"
    lines = in_bucket(told, before)
    if told["inventory"] is not None:
        when = told["inventory"][:16].replace("T", " ")
        lines.insert(0, ("inventory", f"of {when} UTC; what was deleted since counts as there"))
    if wish.verify:
        lines.append(("verified", amount(told["verified"])))
    if wish.purging:
        lines.append(_purged(planned, told))
    elif wish.dry_run:
        lines.append(("would be uploaded", amount(found["wanted"])))
    elif wish.uploading:
        lines.append(("uploaded", took(told["uploaded"], told["seconds"])))
        if planned.findings.stopped:
            lines.append(("stopped", f"of {amount(found['wanted'])}; run it again to go on"))
    print_lines([*lines, *totals(planned.findings)], planned.findings)


def _purged(planned: Plan, told: dict[str, Any]) -> tuple[str, str]:
    from ..maintenance import purge

    if told["refused"] is not None or not told["dry_run"]:
        return "deleted", amount(told["deleted"]).replace("blobs", "files")
    going = purge.deletable(planned)
    return "would be deleted", f"{going.blobs:,} files, {byte_count(going.bytes)}"
