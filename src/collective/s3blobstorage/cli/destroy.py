"""``s3blobs destroy``: everything of a site below its prefix goes."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ..errors import ConfigurationError, UnsafeError
from ..messages import byte_count
from . import output
from .comparing import amount
from .configuration import Database
from .confirming import typed
from .gc import not_deleted
from .interrupt import INTERRUPTED, until_interrupted
from .prefix import looked_at, place
from .request import Request, pass_request

if TYPE_CHECKING:
    from ..maintenance.gc.destroy import Plan
    from ..maintenance.gc.report import Outcome
    from ..objectstore import S3ObjectStore

_SHOWN = 20  # of foreign keys, in the text for people


@click.command()
@click.option("--everything", is_flag=True, help="Also what is not ours below the prefix; needs an s3-prefix.")
@click.option("--even-if-running", is_flag=True, help="Also where a site told of itself in the last two hours.")
@click.option("--dry-run", is_flag=True, help="Only show what would go.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@pass_request
def destroy(request: Request, everything: bool, even_if_running: bool, dry_run: bool, as_json: bool) -> int:
    """Delete every blob of the site from the bucket, for ever: all versions, unfinished uploads, and what gc keeps.

    Shows what lies below the prefix, and deletes it after the owner's name was typed (the bucket's, where the prefix
    has no owner). Nothing can bring it back. Objects that are not of this package stay. The database is not opened.
    Ctrl-C ends it after the deletions that are under way, and it can be run again. Exit status: 0; 1 where something
    could not be deleted, or the name was not typed; 2 where a margin of safety is not kept, or nothing could be done;
    130 after Ctrl-C.
    """
    from ..maintenance.gc.destroy import refuse_other_owner, running

    request.json = as_json
    database = request.database()
    settings = database.settings
    if everything and not settings.store.prefix:
        raise ConfigurationError(
            "--everything deletes what is not ours below s3-prefix, and none is set: it would be the whole bucket"
        )
    if settings.read_only and not dry_run:
        raise ConfigurationError("read-only is on: set read-only off to destroy it, or give --dry-run")
    started = time.monotonic()
    with ExitStack() as stack:
        store, marker = looked_at(stack, database, writable=not dry_run)
        refuse_other_owner(marker, settings.owner)
        in_use = None if even_if_running else running(store)
        if in_use is not None and not dry_run:
            raise UnsafeError(in_use)
        plan = until_interrupted(lambda stop: _plan(store, everything, stop), "requests")
        if plan is None:
            return INTERRUPTED
        stack.enter_context(plan)
        name = (marker.owner if marker is not None else None) or settings.store.bucket
        if not as_json:
            output.print_lines(_plan_lines(plan, database, marker, in_use))
        refused, outcome, took = in_use, None, 0.0
        if not dry_run and not plan.is_empty:
            refused, outcome, took = _destroyed(store, plan, name, even_if_running)
        told = {
            "database": database.name,
            "bucket": settings.store.bucket,
            "prefix": settings.store.prefix,
            "owner": marker.owner if marker is not None else None,
            "dry_run": dry_run,
            "everything": everything,
            "keeps_versions": plan.keeps_versions,
            "found": asdict(plan.found),
            **({} if outcome is None else _done(outcome)),
            "refused": refused,
            "seconds": round(time.monotonic() - started, 3),
        }
        if as_json:
            output.print_json(told)
        elif outcome is not None:
            output.print_lines(_outcome_lines(outcome, took))
    if outcome is None:
        if refused is not None and not dry_run:
            output.complain(f"nothing was deleted: {refused}")
            return 1
        return 0
    if outcome.stopped:
        return INTERRUPTED
    return 1 if outcome.failed else 0


def _plan(store: S3ObjectStore, everything: bool, stop: threading.Event) -> Plan | None:
    from ..maintenance.findings import Stopped
    from ..maintenance.gc.destroy import make_plan

    with output.counting("listing the bucket") as advance:
        try:
            return make_plan(store, stop, everything=everything, advance=advance)
        except Stopped:
            return None


def _destroyed(
    store: S3ObjectStore, plan: Plan, name: str, even_if_running: bool
) -> tuple[str | None, Outcome | None, float]:
    """Why nothing was deleted, or what was, and in how many seconds."""
    from ..maintenance.gc.destroy import execute, running

    if not typed(name, f"to delete {_all(plan)} for ever"):
        return f"{name} was not typed", None, 0.0
    # Once more: whoever was asked may have let the question stand.
    if not even_if_running and (in_use := running(store)) is not None:
        raise UnsafeError(in_use)

    def work(stop: threading.Event) -> Outcome:
        with output.counting("deleting") as advance:
            return execute(store, plan, stop, advance)

    started = time.monotonic()
    outcome = until_interrupted(work, "deletions")
    return None, outcome, time.monotonic() - started


def _all(plan: Plan) -> str:
    going = plan.found.going
    what = "objects and versions" if plan.keeps_versions else "objects"
    return f"{going.blobs:,} {what}, {byte_count(going.bytes)},"


def _done(outcome: Outcome) -> dict[str, Any]:
    told = asdict(outcome)
    return {name: told[name] for name in ("deleted", "aborted_uploads", "failed", "failures", "stopped")}


def _plan_lines(plan: Plan, database: Database, marker: Any, in_use: str | None) -> list[tuple[str, str]]:
    found = plan.found
    lines = [
        ("database", f"{database.name}, {place(database)}"),
        ("owner", (marker.owner if marker is not None else None) or "nobody by name"),
        ("blobs", amount(asdict(found.blobs))),
    ]
    if found.shared.blobs:
        lines.append(("shared", f"{amount(asdict(found.shared))} that equal blobs share"))
    if found.old.blobs:
        lines.append(("old keys", f"{amount(asdict(found.old))} under keys of zodb-s3blobs"))
    if found.addons.blobs:
        lines.append(("of add-ons", f"{found.addons.blobs:,} objects, {byte_count(found.addons.bytes)}"))
    if found.staged.blobs:
        staged = f"{found.staged.blobs:,} objects, {byte_count(found.staged.bytes)}, sent by browsers and not completed"
        lines.append(("staged", staged))
    lines.append(("bookkeeping", f"{found.bookkeeping.blobs:,} objects, {byte_count(found.bookkeeping.bytes)}"))
    if plan.keeps_versions:
        past = f"{found.versions.blobs:,} of these are former versions, {byte_count(found.versions.bytes)}"
        lines.append(("versions", f"{past}; and {found.markers:,} delete markers"))
    if found.uploads:
        lines.append(("uploads", f"{found.uploads:,} unfinished multipart uploads"))
    if found.foreign.blobs:
        state = "go too" if plan.everything else "stay"
        lines.append(("foreign", f"{found.foreign.blobs:,} objects that are not ours, and {state}"))
        lines += [("", key) for key in found.foreign_keys[:_SHOWN]]
        if len(found.foreign_keys) > _SHOWN:
            lines.append(("", "… (--json has more)"))
    if in_use is not None:
        lines.append(("refused", in_use))
    if plan.is_empty:
        lines.append(("to do", "nothing: the prefix has nothing of ours"))
    return lines


def _outcome_lines(outcome: Outcome, seconds: float) -> list[tuple[str, str]]:
    deleted = outcome.deleted
    rate = f"{deleted.blobs / max(seconds, 0.001):,.0f}/s"
    lines = [("deleted", f"{deleted.blobs:,}, {byte_count(deleted.bytes)} in {seconds:,.1f} s, {rate}")]
    if outcome.aborted_uploads:
        lines.append(("aborted", f"{outcome.aborted_uploads:,} unfinished multipart uploads"))
    lines += not_deleted(outcome)
    if outcome.stopped:
        lines.append(("stopped", "run it again to go on"))
    return lines
