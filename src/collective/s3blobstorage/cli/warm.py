"""``s3blobs warm``: fill the cache of this machine before anybody asks."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from persistent.TimeStamp import TimeStamp
from ZODB.utils import oid_repr

from .. import datatypes
from ..errors import ConfigurationError
from ..messages import byte_count
from . import output
from .configuration import Database, opened_read_only
from .interrupt import INTERRUPTED, until_interrupted
from .parameters import OID, SIZE, Parsed
from .parameters import oid as parse_oid
from .request import Request, pass_request

if TYPE_CHECKING:
    from ..maintenance.warm import Plan, Report

# What the cleaner leaves of cache-size when it evicts: filled above that, the cache would be cleaned at once.
_SHARE = 0.9


def _age(text: str) -> float:
    return datatypes.interval(text, minimum=1.0, maximum=100 * 365 * datatypes.DAY)


@click.command()
@click.option("--limit", type=SIZE, help="Bytes in all, newest blobs first. [0.9 cache-size]")
@click.option("--largest", type=SIZE, help="Leave out blobs that are larger, as 100MB.")
@click.option("--age", type=Parsed("age", _age), help="Only blobs committed in that time, as 30d.")
@click.option("--oid", "oids", type=OID, multiple=True, help="Only this one. May be repeated.")
@click.option(
    "--oids",
    "oid_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Only those in the file, one per line; - is standard input.",
)
@click.option("--concurrency", type=click.IntRange(1, 64), default=8, show_default=True, help="Downloads at a time.")
@click.option("--dry-run", is_flag=True, help="Only say what would be fetched.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@pass_request
def warm(
    request: Request,
    limit: int | None,
    largest: int | None,
    age: float | None,
    oids: tuple[bytes, ...],
    oid_file: Path | None,
    concurrency: int,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Fetch blobs into this machine's cache, the newest first, as many as fit.

    Reads the database, also beside a running site. What is in the cache already is not fetched again. Ctrl-C ends it
    after the downloads that are under way; what was fetched stays. Exit status: 0; 1 where a blob could not be fetched;
    2 where nothing could be done.
    """
    from ..maintenance.warm import Limits, Report, execute

    request.json = as_json
    database = request.database()
    since = b"" if age is None else TimeStamp(*time.gmtime(time.time() - age)[:5], 0.0).raw()
    limits = Limits(limit or int(database.settings.cache_size * _SHARE), largest, since)
    named = [*oids, *(_read_oids(oid_file) if oid_file else ())] if oids or oid_file else None
    with ExitStack() as stack:
        base = stack.enter_context(opened_read_only(database.factory.config.base))
        reader, cache = _opened(stack, database, base)
        planned, unknown = _planned(base, named, limits, cache)
        report = Report()
        if not dry_run:
            with output.transferring("fetching", len(planned.wanted), planned.bytes) as advance:
                report = until_interrupted(
                    lambda stop: execute(planned, reader, concurrency=concurrency, stop=stop, advance=advance),
                    "downloads",
                )
    document = _document(database, planned, unknown, report, dry_run)
    if as_json:
        output.print_json(document)
    else:
        _print(document)
    if report.stopped:
        return INTERRUPTED
    return 1 if report.failed or unknown else 0


def _opened(stack: ExitStack, database: Database, base: Any) -> tuple[Any, Any]:
    from ..objectstore import open_store  # here, since it imports boto3
    from ..overlay.chain import open_overlay
    from ..storage.opening import open_cache
    from ..storage.owner import Marker, read_marker
    from ..storage.reading import BlobReader

    settings = database.settings
    store = stack.enter_context(closing(open_store(settings.store, read_only=True)))
    store.open_bucket(writable=False)
    marker = read_marker(store) or Marker(None, foreign_keys=True)
    overlay = stack.enter_context(closing(open_overlay(settings.sources, base, check=False)))
    cache = stack.enter_context(closing(open_cache(settings, store, overlay)))
    return BlobReader(
        store, cache, overlay, with_foreign_keys=marker.foreign_keys, deduplicated=marker.deduplicated
    ), cache


def _planned(base: Any, named: list[bytes] | None, limits: Any, cache: Any) -> tuple[Plan, list[str]]:
    from ..maintenance.records import blobs_of, current_blobs
    from ..maintenance.warm import plan

    unknown: list[str] = []

    def known(found: Any) -> Any:
        for revision in found:
            if isinstance(revision, bytes):
                unknown.append(oid_repr(revision))
            else:
                yield revision

    with output.counting("reading the database") as advance:
        revisions = current_blobs(base, advance) if named is None else known(blobs_of(base, named))
        return plan(revisions, limits, cache), unknown


def _read_oids(path: Path) -> list[bytes]:
    with click.open_file(str(path)) as file:
        lines = [line.partition("#")[0].strip() for line in file]
    try:
        return [parse_oid(line) for line in lines if line]
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: a line {error}") from None


def _document(database: Database, planned: Plan, unknown: list[str], report: Report, dry_run: bool) -> dict[str, Any]:
    left_out = {
        "no_room": planned.no_room,
        "too_large": planned.too_large,
        "too_old": planned.too_old,
        "inline": planned.inline,
        "damaged": planned.damaged,
    }
    return {
        "database": database.name,
        "dry_run": dry_run,
        "cached_before": planned.cached,
        "wanted": {"blobs": len(planned.wanted), "bytes": planned.bytes},
        "left_out": left_out,
        "not_found": unknown,
        **asdict(report),
    }


_LEFT_OUT = {
    "no_room": "older, which do not fit",
    "too_large": "too large",
    "too_old": "too old",
    "inline": "in their records",
    "damaged": "with a damaged record (see the log with --debug)",
}


def _print(document: dict[str, Any]) -> None:
    wanted = document["wanted"]
    amount = f"{wanted['blobs']:,} blobs, {byte_count(wanted['bytes'])}"
    lines = [("in the cache before", f"{document['cached_before']:,} blobs")]
    if document["dry_run"]:
        lines.append(("would be fetched", amount))
    else:
        lines.append(("fetched", f"{document['fetched']:,} blobs, {byte_count(document['bytes'])}"))
        if document["stopped"]:
            lines.append(("wanted", f"{amount}; stopped"))
    lines += [("left out", f"{count:,} {_LEFT_OUT[why]}") for why, count in document["left_out"].items() if count]
    lines += [("no blob", oid) for oid in document["not_found"]]
    lines += [("failed", f"{oid}: {error}") for oid, error in document["failed"][:20]]
    if len(document["failed"]) > 20:
        lines.append(("failed", f"{len(document['failed']) - 20:,} more (--json lists all)"))
    console = output.console()
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        console.print(f"{name:<{width}}  {value}", soft_wrap=True)
