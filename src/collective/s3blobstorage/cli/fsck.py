"""``s3blobs fsck``: is everything that the database needs in the bucket, and as it shall be?"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from ..errors import ConfigurationError
from ..keys import BLOBS, BYTES
from ..messages import byte_count
from . import output
from .appearing import appear, hidden
from .as_job import in_job, shown_until_interrupted
from .comparing import amount, looked, opened_store, scope_of
from .elsewhere import Elsewhere, opening
from .interrupt import INTERRUPTED
from .inventory import found_report, inventory_options
from .parameters import OID_RANGE, SIZE, Parsed
from .request import Request, pass_request

if TYPE_CHECKING:
    from ..maintenance.fsck.finding import Report
    from .configuration import Database

SHOWN = 20  # findings, in the table for people


def percent(text: str) -> float:
    """``5%``, ``0.1%`` or ``5``."""
    try:
        share = float(text.strip().removesuffix("%"))
    except ValueError:
        share = 0.0
    if not 0 < share <= 100:
        raise ConfigurationError("is no share above 0 % and up to 100 %, such as 5%")
    return share


def blob_key(text: str) -> str:
    if not text.startswith(BYTES):
        raise ConfigurationError(f"is no key of a blob, as an fsck that was stopped tells it: it begins with {BLOBS}")
    return text


@click.command()
@click.option("--deep", is_flag=True, help="Also read every object, and compare its bytes and its metadata.")
@click.option("--sample", type=Parsed("percent", percent), help="With --deep: only so many at random, as 5%.")
@click.option("--after", type=Parsed("key", blob_key), help="With --deep: go on behind that key.")
@click.option("--repair", is_flag=True, help="Bring back what is missing or wrong, where its bytes are proven.")
@click.option("--dry-run", is_flag=True, help="With --repair: only say what would be brought back, and from where.")
@click.option("--list-orphans", is_flag=True, help="Name the objects that nothing needs, with --json or in the text.")
@click.option("--ndjson", metavar="FILE", help="Write every finding as a line of JSON into a new file, or - to print.")
@click.option("--oid-range", type=OID_RANGE, help="Only these oids, as 0-1fff: to split --deep over machines.")
@inventory_options
@click.option("--concurrency", type=click.IntRange(1, 64), default=8, show_default=True, help="Objects at a time.")
@click.option("--limit-rate", type=SIZE, help="Bytes a second of what is read, as 10MB.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@pass_request
def fsck(
    request: Request,
    deep: bool,
    sample: float | None,
    after: str | None,
    repair: bool,
    dry_run: bool,
    list_orphans: bool,
    ndjson: str | None,
    oid_range: tuple[bytes, bytes] | None,
    where: str | None,
    inventory_max_age: float,
    concurrency: int,
    limit_rate: int | None,
    as_json: bool,
) -> int:
    """Look whether every kept revision has its object, with the right size; with --deep with the right bytes.

    Beside the running site, by one listing of the bucket and one reading of the database; only what looks wrong is
    asked for alone. With --inventory the newest report of S3 Inventory stands for the listing: what it lacks is asked
    for alone, and what was deleted since is not noticed without --deep. Changes no blob without --repair, which takes
    bytes from this machine's cache, from the sources of zope.conf, or from an older version in the bucket, and only
    where their SHA-256, or else their size, is the right one. Ctrl-C ends --deep after the reads that are under way,
    and tells where it goes on. Exit status: 0 nothing is wrong; 1 something is, and was not repaired; 2 where that
    could not be told, of one blob or of all; 130 after Ctrl-C.
    """
    from ..maintenance.comparing import Comparison
    from ..maintenance.findings import Stopped
    from ..maintenance.fsck.finding import Report
    from ..maintenance.fsck.run import Wish
    from ..maintenance.fsck.run import fsck as run_fsck
    from ..maintenance.jobs.work import checked
    from ..maintenance.spool import Spool
    from ..storage.owner import refuse_other

    request.json = as_json
    _refuse_contradictions(deep, sample, after, repair, dry_run, ndjson, as_json)
    database = request.database()
    settings = database.settings
    if repair and not dry_run and settings.read_only:
        raise ConfigurationError("read-only is on, and --repair writes into the bucket: set read-only off")
    started = time.monotonic()
    with ExitStack() as stack:
        path = None if ndjson in (None, "-") else Path(str(ndjson))
        if path is not None:
            _refuse_present(path)
        # Before anything is looked at, since that may take hours.
        lines = sys.stdout if path is None else stack.enter_context(hidden(path, "--ndjson", "w"))
        spool = stack.enter_context(Spool())
        writable = repair and not dry_run
        store, marker = opened_store(
            stack, database, writable=writable, concurrency=concurrency, notes=not settings.read_only
        )
        refuse_other(marker, settings.owner)
        scope = scope_of(None, oid_range)
        listed = found_report(stack, store, marker, where, inventory_max_age, scope)
        run = Comparison(looked(database), store, marker, None, scope, spool)
        wish = Wish(deep, sample or 100.0, after or "", repair, dry_run, concurrency, limit_rate)

        def work(running: Any) -> Report:
            try:
                inventory = None if listed is None else listed.listing(stack, running)
            except Stopped:
                return Report(stopped=True)
            there = opening(Elsewhere(settings.sources), database, store)
            return run_fsck(replace(run, inventory=inventory), wish, running, *there)

        # A part is no job, since others look at theirs at the same time; nor is what may not write what it found, or
        # what no site has opened yet.
        noted = not settings.read_only and marker.owner == settings.owner and not (repair and dry_run)
        if oid_range is not None or not noted:
            report = shown_until_interrupted(work, "reads")
        else:
            options = {
                "dry_run": not repair,
                "deep": deep,
                "sample": wish.sample,
                **({"after": after} if after else {}),
            }

            def noted_too(running: Any) -> tuple[Report, Any]:
                found = work(running)
                return found, checked(found, running, dry_run=not repair, sealed=store.encryption.seals)

            report, _ = in_job(store, "fsck", options, noted_too, "reads", lambda done: done[1])
        if ndjson is not None:
            for line in report.each():
                print(line, file=lines)
            if path is not None:
                _refuse_present(path)
                appear(lines, path)
        if ndjson != "-":
            created = None if listed is None else listed.created
            _show(database, report, wish, time.monotonic() - started, created, as_json=as_json, orphans=list_orphans)
    if report.outage:
        goes_on = f"; go on with --after {report.after}" if report.after else ""
        output.complain(f"the store was out before all was looked at: {report.outage}{goes_on}")
    return _status(report)


def _status(report: Report) -> int:
    if report.outage:
        return 2
    if report.stopped:
        return INTERRUPTED
    if report.wrong:
        return 1
    return 2 if report.unknown else 0


def _refuse_contradictions(
    deep: bool, sample: float | None, after: str | None, repair: bool, dry_run: bool, ndjson: str | None, as_json: bool
) -> None:
    if not deep and (sample is not None or after is not None):
        raise click.UsageError("--sample and --after are of what --deep reads: give --deep too.")
    if dry_run and not repair:
        raise click.UsageError("--dry-run is of what --repair would do; fsck without --repair changes nothing.")
    if ndjson == "-" and as_json:
        raise click.UsageError("--ndjson - and --json both print: give --ndjson a file, or leave out one of them.")


def _refuse_present(path: Path) -> None:
    if path.exists():
        raise ConfigurationError(f"--ndjson {path}: it is there; give a file that is not there yet")


def _show(
    database: Database,
    report: Report,
    wish: Any,
    seconds: float,
    inventory: str | None,
    *,
    as_json: bool,
    orphans: bool,
) -> None:
    from ..maintenance.fsck.finding import document

    told = {
        "database": database.name,
        "deep": wish.deep,
        "repair": wish.repair,
        "dry_run": wish.dry_run,
        "inventory": inventory,
        **document(report, orphans=orphans),
        "seconds": round(seconds, 3),
    }
    if as_json:
        output.print_json(told)
        return
    output.print_lines(_lines(told))
    console = output.console()
    if told["findings"]:
        console.print()
        console.print(_table(told["findings"][:SHOWN]))
        for finding in told["findings"][:SHOWN]:
            console.print(_explained(finding), soft_wrap=True)
        more = sum(told["found"].values()) - len(told["findings"][:SHOWN])
        if more > 0:
            console.print(f"and {more:,} more: --json has a thousand, --ndjson FILE all of them")
    for orphan in told.get("orphans", ()):
        console.print(f"orphan  {orphan['key']}  {byte_count(orphan['bytes'])}", soft_wrap=True)


def _lines(told: dict[str, Any]) -> list[tuple[str, str]]:
    lines = [("kept revisions", f"{told['kept_revisions']:,}"), ("in the bucket", amount(told["there"]))]
    if told["inventory"] is not None:
        when = told["inventory"][:16].replace("T", " ")
        lines.insert(0, ("inventory", f"of {when} UTC; what was deleted since counts as there"))
    if told["inline"]:
        lines.append(("in their records", f"{told['inline']:,}"))
    if told["zodb_s3blobs"]["blobs"]:
        lines.append(("in the bucket", f"{amount(told['zodb_s3blobs'])} under keys of zodb-s3blobs"))
    if told["elsewhere"]["blobs"]:
        lines.append(("elsewhere", f"{amount(told['elsewhere'])}, only in a source: `s3blobs mirror` copies them"))
    if told["gone"]:
        lines.append(("gone meanwhile", f"{told['gone']:,} revisions, by a pack"))
    read = told["read"]
    if read is not None:
        share = "" if read["sample"] == 100 else f", {read['sample']:g} % at random"
        behind = f", behind {read['begun_after']}" if read["begun_after"] else ""
        lines.append(("read", f"{amount(read, 'objects')}{share}{behind}"))
        proven = read["proven"]
        lines.append(
            (
                "proven",
                f"{proven['record']:,} by the SHA-256 of their record, {proven['metadata']:,} by that of their"
                f" metadata, {proven['size_only']:,} by their size alone",
            )
        )
    if told["waiting_for_rotate"]["blobs"]:
        waiting = amount(told["waiting_for_rotate"], "objects")
        lines.append(("wait for rotate", f"{waiting}, not encrypted as new ones are: `s3blobs keys rotate`"))
    if shared := told.get("shared"):
        broken = f", {shared['broken']:,} of them broken" if shared["broken"] else ""
        told_of = f"{shared['objects']:,} objects, {byte_count(shared['bytes'])}"
        lines.append(("shared", f"{told_of}, to which {shared['references'] + shared['broken']:,} references{broken}"))
    if told["orphaned"]["blobs"]:
        lines.append(("orphaned", f"{amount(told['orphaned'], 'objects')}, which nothing needs: `s3blobs gc`"))
    if told["foreign"]["blobs"]:
        lines.append(("foreign", f"{amount(told['foreign'], 'objects')} that are not ours: {told['foreign_keys'][0]}"))
    if told["not_adopted"]["blobs"]:
        lines.append(("not read", f"{amount(told['not_adopted'])} under keys of zodb-s3blobs: `s3blobs adopt`"))
    if told["unfinished_uploads"]:
        lines.append(("uploads", f"{told['unfinished_uploads']:,} unfinished"))
    lines += [(kind, f"{number:,} kept revisions") for kind, number in told["found"].items() if number]
    if told["unknown"]:
        first = told["unknown_of"][0]
        lines.append(("unknown", f"{told['unknown']:,}, of which nobody could tell: {first['oid']}: {first['reason']}"))
    lines += [(what, f"{number:,}") for what, number in sorted((told["repaired"] or {}).items())]
    if told["stopped"]:
        goes_on = f"; go on with --after {told['after']}" if told["after"] else ""
        lines.append(("stopped", f"before all was looked at{goes_on}"))
    elif not told["outage"] and not told["unknown"] and not sum(told["found"].values()):
        lines.append(("wrong", "nothing"))
    return lines


def _table(findings: list[dict[str, Any]]) -> Table:
    from ..maintenance.content import Content

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("what", "oid", "committed (UTC)", "record", "object", "content"):
        table.add_column(name, no_wrap=name != "content", overflow="fold")
    for finding in findings:
        table.add_row(
            Text(finding["kind"], style="bold red"),
            finding["oid"],
            finding["date"][:16].replace("T", " "),
            _size(finding["record_size"]),
            _size(finding["object_size"]),
            Text("–" if finding["content"] is None else str(Content(**finding["content"]))),
        )
    return table


def _size(size: int | None) -> str:
    return "–" if size is None else byte_count(size)


def _explained(finding: dict[str, Any]) -> str:
    """What the table has no room for."""
    text = f"{finding['oid']} at {finding['tid']}: {finding['detail']}"
    mended = finding["repair"]
    if mended is None:
        return text
    proof = {"sha256": "", "size": ", of which only the size was proven", "revision": ", of which nothing was proven"}
    origin = f" from {mended['origin']}{proof[mended['proof']]}" if mended["origin"] else ""
    detail = f": {mended['detail']}" if mended["detail"] else ""
    return f"{text}; {mended['what']}{origin}{detail}"
