"""``s3blobs adopt``: this database is the one whose blobs the prefix has."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import click

from ..errors import ConfigurationError
from . import output
from .comparing import amount
from .configuration import Database, opened_read_only
from .confirming import typed
from .interrupt import INTERRUPTED, until_interrupted
from .prefix import looked_at, place
from .request import Request, pass_request

if TYPE_CHECKING:
    from ..maintenance.gc.adopt import Adoption
    from ..objectstore import S3ObjectStore
    from ..storage.owner import Marker

_SHOWN = 20  # of witnesses, in the text for people


@click.command()
@click.option("--dry-run", is_flag=True, help="Only show what is in the way of garbage collection.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@pass_request
def adopt(request: Request, dry_run: bool, as_json: bool) -> int:
    """Say that this database is the one whose blobs the prefix has, where gc cannot know it.

    Shows what is in the way of gc, and does away with it after the owner's name was typed. Objects under keys of
    zodb-s3blobs are judged from then on. What other processes told of the database and what does not fit this one, as
    after a restore from a backup, is deleted, and every date since when nothing refers to an object begins anew. No
    blob is touched. Exit status: 0; 1 where the name was not typed; 2 where nothing could be done; 130 after Ctrl-C.
    """
    from ..storage.owner import refuse_other

    request.json = as_json
    database = request.database()
    owner = database.settings.owner
    if not dry_run:
        if owner is None:
            raise ConfigurationError(
                "owner is not set, and adopt says whose the prefix is: set it in the configuration. Example: owner"
                " www.example.org"
            )
        if database.settings.read_only:
            raise ConfigurationError(
                "read-only is on, and adopt writes into the bucket: set read-only off, or give --dry-run"
            )
    started = time.monotonic()
    with ExitStack() as stack:
        store, marker = looked_at(stack, database, writable=not dry_run)
        refuse_other(marker, owner)
        found = until_interrupted(lambda stop: _look(store, database, marker, stop), "requests")
        if found is None:
            return INTERRUPTED
        refused = None
        if not as_json:
            output.print_lines(_lines(found, marker, database))
        if found.is_needed and not dry_run:
            refused = _adopt(store, database, found)
        told = _document(found, marker, database) | {
            "dry_run": dry_run,
            "done": found.is_needed and not dry_run and refused is None,
            "refused": refused,
            "seconds": round(time.monotonic() - started, 3),
        }
    if as_json:
        output.print_json(told)
    elif told["done"]:
        output.print_lines(
            [("done", "run `s3blobs gc`: every date begins anew" if found.witnesses else "run `s3blobs gc`")]
        )
    if refused is not None:
        output.complain(f"nothing was changed: {refused}")
        return 1
    return 0


def _look(store: S3ObjectStore, database: Database, marker: Marker | None, stop: threading.Event) -> Adoption | None:
    from ..maintenance.findings import Stopped
    from ..maintenance.gc.adopt import look
    from ..maintenance.gc.references import View

    @contextmanager
    def views() -> Any:
        with opened_read_only(database.factory.config.base) as base:
            yield View(base)

    with output.counting("listing the bucket") as advance:
        try:
            return look(store, views, marker, _margins(database), stop, advance)
        except Stopped:
            return None


def _adopt(store: S3ObjectStore, database: Database, found: Adoption) -> str | None:
    """Why nothing was done, or None."""
    from ..maintenance.gc.adopt import adopt as do
    from ..objectstore.clock import Clock
    from ..storage.opening import open_once

    owner = database.settings.owner
    assert owner is not None
    if not typed(owner, f"to say that this database ({database.name}) is the one whose blobs are there"):
        return f"{owner} was not typed"
    # As the site opens it: whether the lease holds is measured, and a prefix of nobody gets its owner.
    marker = open_once(store, database.settings, read_only=False)
    until_interrupted(lambda stop: do(store, marker, found, _margins(database), Clock()), "requests")
    return None


def _margins(database: Database) -> Any:
    from ..maintenance.gc.margins import Margins

    return Margins(database.settings.gc_grace, database.settings.gc_keep)


def _document(found: Adoption, marker: Marker | None, database: Database) -> dict[str, Any]:
    return {
        "database": database.name,
        "owner": database.settings.owner,
        "marker": None if marker is None else {"owner": marker.owner, "adopted": marker.adopted},
        "old": {"blobs": found.old.blobs, "bytes": found.old.bytes, "judged": found.judged},
        "witnesses": [
            {"key": each.key, "at": each.at.isoformat(timespec="seconds"), "why": each.why} for each in found.witnesses
        ],
        "needed": found.is_needed,
    }


def _lines(found: Adoption, marker: Marker | None, database: Database) -> list[tuple[str, str]]:
    if marker is None:
        of_prefix = "there is no marker: no site of this package has opened the prefix"
    else:
        of_prefix = marker.owner or "nobody by name"
    lines = [
        ("database", f"{database.name}, {place(database)}"),
        ("owner", database.settings.owner or "not set: adopt needs it"),
        ("in the marker", of_prefix),
    ]
    if found.old.blobs:
        state = "gc judges them" if found.judged else "gc does not judge them"
        old = amount({"blobs": found.old.blobs, "bytes": found.old.bytes})
        lines.append(("old keys", f"{old} under keys of zodb-s3blobs; {state}"))
    if found.witnesses:
        lines.append(("contradicting", f"{len(found.witnesses):,} processes told what does not fit this database"))
        # The newest: their processes may be running.
        lines += [("", f"{each.at:%Y-%m-%d %H:%M} UTC, {each.key}: {each.why}") for each in found.witnesses[-_SHOWN:]]
    if not found.is_needed:
        lines.append(("to do", "nothing: gc judges every blob below the prefix by this database"))
    return lines
