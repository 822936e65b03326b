"""``s3blobs dedup``: blobs that are in the bucket already, made to share equal bytes."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ..errors import ConfigurationError
from ..messages import byte_count
from . import output
from .as_job import shown_until_interrupted
from .comparing import amount, looked, opened_store, scope_of
from .interrupt import INTERRUPTED
from .inventory import found_report, inventory_options
from .parameters import OID_RANGE, SIZE
from .request import Request, pass_request

if TYPE_CHECKING:
    from ..maintenance.dedup import Report

SHOWN = 20  # failures, in the text for people
LISTED = 1000  # in the JSON document


@click.command()
@click.option("--min-size", type=SIZE, default="100KB", show_default=True, help="Only blobs of so many bytes or more.")
@click.option("--max-size", type=SIZE, help="Only blobs of so many bytes or less: where a stopped run goes on.")
@click.option("--hash", "hashing", is_flag=True, help="Read blobs of which nothing tells the SHA-256.")
@click.option("--oid-range", type=OID_RANGE, help="Only these oids, as 0-1fff.")
@inventory_options
@click.option("--concurrency", type=click.IntRange(1, 64), default=8, show_default=True, help="Requests at a time.")
@click.option("--limit-rate", type=SIZE, help="Bytes a second of what is read or copied, as 10MB.")
@click.option("--dry-run", is_flag=True, help="Only say what would be saved.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@pass_request
def dedup(
    request: Request,
    min_size: int,
    max_size: int | None,
    hashing: bool,
    oid_range: tuple[bytes, bytes] | None,
    where: str | None,
    inventory_max_age: float,
    concurrency: int,
    limit_rate: int | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Let blobs that are in the bucket already share their bytes, as new ones do with `dedup on`.

    Beside the running site, whose processes must all have dedup on. Writes no record: what is converted keeps a request
    or two more at a machine's first read. The largest come first. Stopped or killed at any point nothing is lost, and
    it can be run again. One dedup, gc or rotation at a time for each prefix. Ctrl-C ends it after what is under way.
    With --inventory the newest report of S3 Inventory says what is there, and each object is asked for before.
    Exit status: 0; 1 where a blob could not be converted; 2 where nothing could be done, or the store cannot be
    reached; 130 after Ctrl-C.
    """
    from ..maintenance import dedup as work
    from ..maintenance.comparing import Comparison
    from ..maintenance.findings import Stopped
    from ..maintenance.spool import Spool
    from ..storage.owner import refuse_other

    request.json = as_json
    if max_size is not None and max_size < min_size:
        raise click.UsageError("--max-size is below --min-size: there are no such blobs.")
    database = request.database()
    settings = database.settings
    if settings.read_only and not dry_run:
        raise ConfigurationError("read-only is on, and dedup writes into the bucket: set read-only off, or --dry-run")
    if settings.store.retention is not None:
        raise ConfigurationError(
            "retention is set, and a blob could share an object whose retention ends sooner than its own: blobs are not"
            " shared where it is"
        )
    started = time.monotonic()
    with ExitStack() as stack:
        spool = stack.enter_context(Spool())
        # That every process can read shared objects is for the site to say, by dedup on in those that run.
        store, marker = opened_store(
            stack, database, writable=not dry_run, concurrency=concurrency, begins_to_share=False
        )
        refuse_other(marker, settings.owner)
        scope = scope_of(None, oid_range)
        run = Comparison(looked(database), store, marker, None, scope, spool)
        work.refuse(run)
        listed = found_report(stack, store, marker, where, inventory_max_age, scope)
        wish = work.Wish(dry_run, min_size, max_size, hashing, concurrency, limit_rate)

        def convert(running: Any) -> Report:
            try:
                inventory = None if listed is None else listed.listing(stack, running)
            except Stopped:
                return work.Report(stopped=True)
            return work.dedup(replace(run, inventory=inventory), wish, running)

        report = shown_until_interrupted(convert, "conversions")
    told: dict[str, Any] = {
        "database": database.name,
        "dry_run": dry_run,
        "min_size": min_size,
        "max_size": max_size,
        "inventory": None if listed is None else listed.created,
        **work.document(report, listed=LISTED),
        "seconds": round(time.monotonic() - started, 3),
    }
    if as_json:
        output.print_json(told)
    else:
        output.print_lines(_lines(told))
    if report.stopped:
        return INTERRUPTED
    return 1 if report.failures.count else 0


def _lines(told: dict[str, Any]) -> list[tuple[str, str]]:
    would = "would be " if told["dry_run"] else ""
    when = (told["inventory"] or "")[:16].replace("T", " ")
    lines = [("inventory", f"of {when} UTC; what was converted since counts as gone")] if when else []
    lines += [("shared before", amount(told["shared"]))] if told["shared"]["blobs"] else []
    lines += [
        ("alone", f"{amount(told['single'])}, which nothing else equals"),
        ("equal", amount(told["equal"])),
        (f"{would}converted", amount(told["converted"])),
    ]
    if told["made"]["blobs"]:
        lines.append((f"{would}made", f"{amount(told['made'], 'shared objects')}"))
    lines.append(("saves" if told["dry_run"] else "saved", byte_count(told["saved_bytes"])))
    if told["versions"]:
        kept = "which the bucket keeps as versions: they take their room until a rule or s3blobs gc deletes those"
        lines.append(("not yet free", f"{told['versions']:,} objects, {kept}"))
    if told["small"]["blobs"]:
        lines.append(("too small", f"{amount(told['small'])}: --min-size"))
    if told["large"]["blobs"]:
        lines.append(("too large", f"{amount(told['large'])}: --max-size"))
    if told["unhashed"]["blobs"]:
        lines.append(("not compared", f"{amount(told['unhashed'])}, of which nothing tells the SHA-256: --hash"))
    if told["named"]["blobs"]:
        lines.append(("left", f"{amount(told['named'])}, restored ones that cannot be shared again"))
    if told["held"]["blobs"]:
        lines.append(("held", f"{amount(told['held'])}: they keep objects of their own"))
    if told["locked"]["blobs"]:
        lines.append(("locked", f"{amount(told['locked'])}, by a retention: run it again when that has ended"))
    if told["gone"]["blobs"]:
        lines.append(("gone", f"{amount(told['gone'])} meanwhile"))
    why = "at a machine's first read, since their records do not say where"
    lines.append(("ask more", f"{told['asking']:,} blobs, {why}"))
    for failure in told["failures"][:SHOWN]:
        lines.append(("failed", f"{failure['key']}: {failure['reason']}"))
    if told["stopped"]:
        goes_on = "" if told["below"] is None else f" with --max-size {told['below']}"
        lines.append(("stopped", f"run it again{goes_on} to go on"))
    return lines
