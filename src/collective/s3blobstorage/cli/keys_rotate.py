"""``s3blobs keys rotate``: every object to the key, and with --convert to the mode, that is written with now."""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from ..errors import ConfigurationError
from ..messages import byte_count
from . import output
from .as_job import in_job, shown_until_interrupted
from .comparing import opened_store
from .configuration import Database
from .interrupt import INTERRUPTED
from .parameters import SIZE
from .request import Request, pass_request

if TYPE_CHECKING:
    from ..maintenance.rotate import Report
    from ..objectstore import S3ObjectStore

SHOWN = 20  # failures, in the text for people

concurrency_option = click.option(
    "--concurrency", type=click.IntRange(1, 64), default=8, show_default=True, help="Objects at a time."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")


@click.command()
@click.option("--convert", is_flag=True, help="Also what is encrypted in another mode than the configured one, or not.")
@concurrency_option
@click.option("--limit-rate", type=SIZE, help="Bytes a second of what is copied or sent, as 10MB.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done; asks for every object all the same.")
@json_option
@pass_request
def rotate(
    request: Request, convert: bool, concurrency: int, limit_rate: int | None, dry_run: bool, as_json: bool
) -> int:
    """Bring every object to the active key, beside the running site.

    Where only the key changes the store copies each object onto itself: no byte comes here (a store that does not copy
    what SSE-C encrypted is the exception). Stopped or killed it is run again, and goes on; one rotation or gc at a time
    for each prefix. Ctrl-C ends it after the copies that are under way. Exit status: 0; 1 where an object could not be
    brought there; 2 where nothing could be done, or the store cannot be reached; 130 after Ctrl-C.
    """
    from ..maintenance.jobs.work import rotated
    from ..maintenance.rotate import look
    from ..maintenance.rotate import rotate as turn

    request.json = as_json
    database = request.database()
    if database.settings.read_only and not dry_run:
        raise ConfigurationError(
            "read-only is on, and rotate writes into the bucket: set read-only off, or give --dry-run"
        )
    started = time.monotonic()
    with ExitStack() as stack:
        store = opened(stack, database, writable=not dry_run, concurrency=concurrency)

        if dry_run:
            report = shown_until_interrupted(partial(look, store, convert, concurrency), "requests")
        else:
            options = {"dry_run": False, "convert": convert}
            work = partial(turn, store, convert, concurrency, limit_rate)
            report = in_job(store, "rotate", options, work, "copies", rotated)
    told = _document(database, report, dry_run=dry_run, convert=convert, seconds=time.monotonic() - started)
    if as_json:
        output.print_json(told)
    else:
        output.print_lines(_lines(told))
    if report.stopped:
        return INTERRUPTED
    return 1 if report.failures.count else 0


def opened(stack: ExitStack, database: Database, *, writable: bool, concurrency: int) -> S3ObjectStore:
    """The store as the site opens it, its keys compared with the register; OwnerError where the prefix is another's."""
    from ..storage.owner import refuse_other

    store, marker = opened_store(stack, database, writable=writable, concurrency=concurrency)
    refuse_other(marker, database.settings.owner)
    if not writable and store.encryption.ring is not None:
        from ..encryption.register import open_ring

        open_ring(store.unencrypted(), store.encryption.ring, store.encryption.name, writable=False)
    return store


def _document(database: Database, report: Report, *, dry_run: bool, convert: bool, seconds: float) -> dict[str, Any]:
    from ..maintenance.rotate import as_json

    encryption = database.settings.store.encryption
    ring = encryption.ring if encryption is not None else None
    return {
        "database": database.name,
        "mode": encryption.name if encryption is not None else "none",
        "active_key": ring.active_id if ring is not None else None,
        "dry_run": dry_run,
        "convert": convert,
        **as_json(report),
        "seconds": round(seconds, 3),
    }


def _lines(told: dict[str, Any]) -> list[tuple[str, str]]:
    target = told["mode"] if told["active_key"] is None else f"{told['mode']}, key {told['active_key']}"
    lines = [("brought to", target)]
    would = "would be " if told["dry_run"] else ""
    for what, said in (("rewrapped", "with another key"), ("converted", "of another mode")):
        if told[what]["objects"]:
            lines.append((f"{would}{what}", f"{amount(told[what])}, which were {said}"))
    lines.append(("current", amount(told["current"]) + (" were so already" if not told["dry_run"] else "")))
    if told["left"]["objects"]:
        lines.append(("left", f"{amount(told['left'])} of another mode: --convert brings them to this one"))
    if told["gone"]["objects"]:
        lines.append(("gone", f"{told['gone']['objects']:,} meanwhile"))
    lines += failed_lines(told)
    if told["resumed_after"]:
        lines.append(("went on", f"behind {told['resumed_after']}; what an earlier run did is counted"))
    if told["stopped"]:
        lines.append(("stopped", "run it again to go on"))
    elif not told["dry_run"]:
        rate = sum(told[what]["objects"] for what in ("rewrapped", "converted", "current", "left"))
        lines.append(("took", f"{told['seconds']:,.1f} s, {rate / max(told['seconds'], 0.001):,.0f} objects/s"))
    return lines


def failed_lines(told: dict[str, Any]) -> list[tuple[str, str]]:
    """How many failed, by kind, and the first of them."""
    lines = [("failed", f"{count:,}: {kind}") for kind, count in sorted(told["failed"].items())]
    lines += [("", f"{failure['key']}: {failure['reason']}") for failure in told["failures"][:SHOWN]]
    more = sum(told["failed"].values()) - len(told["failures"][:SHOWN])
    return [*lines, ("", f"… and {more:,} more (--json lists them)")] if more else lines


def amount(count: dict[str, int]) -> str:
    return f"{count['objects']:,} objects, {byte_count(count['bytes'])}"
