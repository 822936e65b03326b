"""``s3blobs restore-archived``: blobs that a rule of the bucket moved into an archive, to be read again."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from ..errors import Archived, ConfigurationError
from . import output
from .as_job import shown_until_interrupted
from .comparing import amount, opened_store
from .interrupt import INTERRUPTED
from .parameters import OID_RANGE
from .request import Request, pass_request

if TYPE_CHECKING:
    from ..maintenance.archived import Report

SHOWN = 20  # failures, in the text for people

_TIERS = click.Choice(["expedited", "standard", "bulk"])


@click.command("restore-archived")
@click.option("--days", type=click.IntRange(1, 3650), default=7, show_default=True, help="For which they can be read.")
@click.option("--tier", type=_TIERS, help="How fast, and how dear; else the store decides.")
@click.option("--oid-range", type=OID_RANGE, metavar="A-B", help="Only blobs whose oid lies there, as 0x0-0x1fff.")
@click.option("--dry-run", is_flag=True, help="Only say what lies in an archive.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@pass_request
def restore_archived(
    request: Request,
    days: int,
    tier: str | None,
    oid_range: tuple[bytes, bytes] | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Have the store restore blobs from its archive (GLACIER, DEEP_ARCHIVE), where nobody can read them.

    Finds them in the listing and asks for each; the store takes minutes to days, and charges for it. Run again it says
    how many can be read by now, and for those it asks for --days more. The credentials need s3:RestoreObject. Exit
    status: 0 where all can be read, or nothing is archived; 1 where some cannot yet, or the store refused; 2 where
    nothing could be done; 130 after Ctrl-C.
    """
    from ..maintenance.archived import look, restore
    from ..objectstore import open_store  # here, since it imports boto3
    from ..storage.owner import refuse_other

    request.json = as_json
    database = request.database()
    if database.settings.read_only and not dry_run:
        raise ConfigurationError("read-only is on, and restoring is a change: set read-only off, or give --dry-run")
    started = time.monotonic()
    beside = False
    with ExitStack() as stack:
        try:
            store, marker = opened_store(stack, database, writable=not dry_run, concurrency=8)
            refuse_other(marker, database.settings.owner)
        except Archived:
            # Nobody can tell whose the prefix is: what tells it is asked for, and changed is nothing.
            store, beside = stack.enter_context(closing(open_store(database.settings.store, read_only=dry_run))), True
        work = (
            partial(look, store, oid_range, beside=beside)
            if dry_run
            else partial(restore, store, days, tier or "", oid_range, beside=beside)
        )
        report: Report = shown_until_interrupted(work, "requests")
    told: dict[str, Any] = {"database": database.name, "dry_run": dry_run, "days": days, **report.as_json()}
    told["beside"] = beside
    told["seconds"] = round(time.monotonic() - started, 3)
    if as_json:
        output.print_json(told)
    else:
        output.print_lines(_lines(told, days))
    if report.stopped:
        return INTERRUPTED
    if beside:
        output.complain(
            "the owner marker, or what is known of keys, lies in an archive too: this was looked at first, and no blob;"
            " run it again when it can be read"
        )
        return 1
    waiting = told["archived"]["blobs"] - told["readable"]["blobs"] - told["gone"]["blobs"]
    return 1 if waiting else 0


def _lines(told: dict[str, Any], days: int) -> list[tuple[str, str]]:
    classes = ", ".join(f"{count:,} in {name}" for name, count in sorted(told["classes"].items()))
    lines = [("archived", amount(told["archived"]) + (f" ({classes})" if classes else ""))]
    if told["begun"]["blobs"]:
        lines.append(("asked for", f"{amount(told['begun'])}: run it again to see which can be read"))
    if told["under_way"]["blobs"]:
        lines.append(("under way", amount(told["under_way"])))
    if told["readable"]["blobs"]:
        lines.append(("readable", f"{amount(told['readable'])}, for {days} days from now"))
    if told["gone"]["blobs"]:
        lines.append(("gone", f"{amount(told['gone'])}, or in no archive any more"))
    for failure in told["failures"][:SHOWN]:
        lines.append(("refused", f"{failure['key']}: {failure['reason']}"))
    if told["stopped"]:
        lines.append(("stopped", "run it again to go on"))
    return lines
