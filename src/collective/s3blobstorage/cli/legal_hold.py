"""``s3blobs legal-hold``: blobs that nobody deletes from the bucket until they are released (Object Lock)."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from ..errors import ConfigurationError
from . import output
from .as_job import shown_until_interrupted
from .comparing import looked, opened_store, scope_of
from .configuration import Database
from .interrupt import INTERRUPTED
from .parameters import OID, OID_RANGE
from .request import Request, pass_request

if TYPE_CHECKING:
    from ..maintenance.holds import Hold, Holds

_SHOWN = 20

_oid = click.option("--oid", "oids", type=OID, multiple=True, help="That blob, as 0x1f; may be repeated.")
_path = click.option("--path", metavar="PATH", help="The files of the content there, as /Plone/news/picture.")
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")


@click.group("legal-hold")
def legal_hold() -> None:
    """Blobs that nobody deletes from the bucket until they are released (Object Lock)."""


@legal_hold.command("list")
@_oid
@_path
@click.option("--wanted", is_flag=True, help='What the field "Legal hold" of content wants; 1 where some is not held.')
@click.option("--oid-range", type=OID_RANGE, help="Only these oids, as 0-1fff.")
@click.option("--concurrency", type=click.IntRange(1, 64), default=8, show_default=True, help="Requests at a time.")
@_json
@pass_request
def list_held(
    request: Request,
    oids: tuple[bytes, ...],
    path: str | None,
    wanted: bool,
    oid_range: tuple[bytes, bytes] | None,
    concurrency: int,
    as_json: bool,
) -> int:
    """Say which blobs are held: all of the bucket, or those that are named.

    Without --oid, --path and --wanted each object is asked for by a request. Exit status: 0; 1 where an object could
    not be asked for, or, with --wanted, is not held; 2 where nothing could be done; 130 after Ctrl-C.
    """
    request.json = as_json
    if sum((bool(oids), path is not None, wanted, oid_range is not None)) > 1:
        raise click.UsageError("Give one of --oid, --path, --wanted and --oid-range.")
    database = request.database()
    with ExitStack() as stack:
        store, marker = opened_store(stack, database, writable=False, concurrency=concurrency)
        if oids or path is not None or wanted:
            holds = _holds(stack, database, store, marker)
            found = _named(database, oids, path, wanted, holds.of)
            if found is None:
                return INTERRUPTED
            told = {"database": database.name, "items": found}
            _print(told, as_json)
            return 1 if wanted and any(item["where"] == "bucket" and not item["hold"] for item in found) else 0

        def work(running: Any) -> tuple[int, list[dict[str, Any]], list[dict[str, Any]]]:
            from ..maintenance.held import held_objects

            advance = running.phase("asking for each object")
            asked, held, failed = 0, [], []
            for line, result in held_objects(
                store, scope_of(None, oid_range), concurrency=concurrency, stop=running.stop, advance=advance
            ):
                asked += 1
                if result is True:
                    held.append({"key": line.key, "size": line.size})
                elif result is not False:
                    failed.append({"key": line.key, "reason": str(result)})
            return asked, sorted(held, key=lambda each: str(each["key"])), failed

        stopped: list[bool] = []

        def until(running: Any) -> Any:
            done = work(running)
            stopped.append(running.stop.is_set())
            return done

        asked, held, failed = shown_until_interrupted(until, "requests")
    document = {"database": database.name, "asked": asked, "held": held, "failures": failed, "stopped": stopped[0]}
    if as_json:
        output.print_json(document)
    else:
        lines = [("held", f"{len(held):,} of {asked:,} objects")]
        lines += [("", each["key"]) for each in held]
        lines += [("failed", f"{each['key']}: {each['reason']}") for each in failed[:_SHOWN]]
        output.print_lines(lines)
    return INTERRUPTED if stopped[0] else 1 if failed else 0


@legal_hold.command("set")
@_oid
@_path
@click.option("--wanted", is_flag=True, help='Whatever the field "Legal hold" of content wants.')
@_json
@pass_request
def set_hold(request: Request, oids: tuple[bytes, ...], path: str | None, wanted: bool, as_json: bool) -> int:
    """Hold the present objects of these blobs.

    Exit status: 0; 1 where one has no object in the bucket; 2 where nothing could be done.
    """
    return _change(request, oids, path, wanted, as_json, on=True)


@legal_hold.command("release")
@_oid
@_path
@_json
@pass_request
def release(request: Request, oids: tuple[bytes, ...], path: str | None, as_json: bool) -> int:
    """Release the present objects of these blobs. A retention that they have goes on.

    Exit status: 0; 1 where one has no object in the bucket; 2 where nothing could be done.
    """
    return _change(request, oids, path, False, as_json, on=False)


def _change(
    request: Request, oids: tuple[bytes, ...], path: str | None, wanted: bool, as_json: bool, *, on: bool
) -> int:
    request.json = as_json
    if sum((bool(oids), path is not None, wanted)) != 1:
        raise click.UsageError(
            "Say which blobs: --oid or --path." if not on else "Give one of --oid, --path, --wanted."
        )
    database = request.database()
    if database.settings.read_only:
        raise ConfigurationError("read-only is on, and a hold is a change of the bucket: set read-only off")
    with ExitStack() as stack:
        store, marker = opened_store(stack, database, writable=True, concurrency=8)
        holds = _holds(stack, database, store, marker)
        found = _named(database, oids, path, wanted, lambda oid: holds.set(oid, on))
    if found is None:
        return INTERRUPTED
    _print({"database": database.name, "items": found}, as_json)
    return 1 if any(item["where"] != "bucket" for item in found) else 0


def _holds(stack: ExitStack, database: Database, store: Any, marker: Any) -> Holds:
    from ..maintenance.comparing import reader_of
    from ..maintenance.holds import Holds

    base = stack.enter_context(looked(database)())
    return Holds(store, reader_of(store, marker), base.loadBefore)


def _named(
    database: Database, oids: tuple[bytes, ...], path: str | None, wanted: bool, ask: Any
) -> list[dict[str, Any]] | None:
    """What came of each blob; None after Ctrl-C. Raises ConfigurationError where nothing is at the path."""
    if not oids:
        from ..maintenance.findings import Stopped
        from ..maintenance.held import of_contents
        from ..maintenance.spool import Spool

        def work(running: Any) -> Any:
            with Spool() as spool, looked(database)() as base:
                advance = running.phase("reading the database")
                try:
                    return of_contents(base, spool, path=path, wanted=wanted, advance=advance, stop=running.stop)
                except Stopped:
                    return None

        items = shown_until_interrupted(work, "records")
        if items is None:
            return None
        if path is not None and not items:
            raise ConfigurationError(
                f"--path {path}: there is no content with files in blobs; a path begins at the root of the database, as"
                " /Plone/news/picture"
            )
        return [_told(ask(item.oid), item.content.path, item.content.field) for item in items]
    return [_told(ask(oid)) for oid in oids]


def _told(hold: Hold, path: str | None = None, field: str = "") -> dict[str, Any]:
    return {
        "oid": f"0x{hold.oid.hex()}",
        "path": path,
        "field": field or None,
        "key": hold.key or None,
        "where": hold.where,
        "hold": hold.held,
    }


def _print(told: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.print_json(told)
        return
    states = {"record": "in its record: nothing to hold", "elsewhere": "not in the bucket: nothing to hold"}
    lines = []
    for item in told["items"]:
        place = " ".join(word for word in (item["path"], item["field"], item["oid"]) if word)
        lines.append((states.get(item["where"], "held" if item["hold"] else "not held"), place))
    output.print_lines(lines or [("nothing", "no content wants a hold")])
