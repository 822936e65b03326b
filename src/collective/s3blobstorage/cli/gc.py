"""``s3blobs gc``: what nothing refers to any more, and its end."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ..errors import ConfigurationError
from ..messages import byte_count
from . import output
from .as_job import in_job, shown_until_interrupted
from .comparing import amount, opened_store, scope_of
from .configuration import Database, opened_read_only
from .interrupt import INTERRUPTED
from .inventory import FoundReport, found_report, inventory_options
from .parameters import OID_RANGE, Parsed
from .request import Request, pass_request
from .shown import Shown

if TYPE_CHECKING:
    from ..maintenance.findings import Count
    from ..maintenance.gc.plan import Plan
    from ..maintenance.gc.report import Outcome, Tally
    from ..maintenance.gc.runs import Collection
    from ..maintenance.scope import Scope

_SHOWN = 20  # of foreign keys and failures, in the text for people


def share(text: str) -> float:
    """``35%`` or ``0.35``."""
    figure, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        value = float(figure) / (100 if percent else 1)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise ConfigurationError("is not a share such as 35%, above 0% and up to 100%")
    return value


@click.command()
@click.option("--execute", "plan_id", metavar="PLAN", help="Delete what that plan condemned; `last`: the newest one's.")
@click.option("--oid-range", type=OID_RANGE, help="Only these oids, as 0-1fff: to split the work.")
@click.option("--allow", type=Parsed("share", share), default="20%", show_default=True, help="How much may go at most.")
@click.option(
    "--candidates", type=click.File("w", lazy=True), help="Write what is condemned there, a line of JSON each."
)
@click.option("--versions", is_flag=True, help="Also versions of what was deleted or overwritten gc-keep ago.")
@inventory_options
@click.option("--dry-run", is_flag=True, help="Write nothing, not even since when nothing refers to an object.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@pass_request
def gc(
    request: Request,
    plan_id: str | None,
    oid_range: tuple[bytes, bytes] | None,
    allow: float,
    candidates: Any,
    versions: bool,
    where: str | None,
    inventory_max_age: float,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Say what nothing refers to, and note since when; with --execute, delete what an earlier plan condemned.

    Reads the bucket and the database, also beside a running site. With --inventory the newest report of S3 Inventory
    stands for the listing: what came since is not judged, and each candidate is looked at before it goes. An object is
    condemned when nothing has referred to it for gc-keep, as two plans have seen; it is deleted by --execute within
    24 h of the plan, if that still holds. Ctrl-C ends an execution after the deletions that are under way. Exit status:
    0; 1 where something could not be deleted; 2 where a margin of safety is not kept, or nothing could be done; 130
    after Ctrl-C.
    """
    from ..maintenance.jobs.work import planned

    request.json = as_json
    if plan_id is not None:
        given = {"--oid-range": oid_range is not None, "--candidates": candidates is not None, "--dry-run": dry_run}
        given |= {"--versions": versions, "--inventory": where is not None}
        if wrong := [name for name, is_given in given.items() if is_given]:
            raise click.UsageError(f"--execute does what the plan says: leave out {', '.join(wrong)}.")
    if versions and where is not None:
        raise click.UsageError("--versions lists the bucket's versions, of which no report is read: leave out one.")
    database = request.database()
    if database.settings.read_only and not dry_run:
        raise ConfigurationError("read-only is on, and gc writes into the bucket: set read-only off, or give --dry-run")
    with ExitStack() as stack:
        collection = opened_collection(stack, database, writable=not dry_run, allow=allow)
        if plan_id is not None:
            return _execute(collection, database, plan_id, as_json)
        started = time.monotonic()
        scope = scope_of(None, oid_range)
        report = found_report(stack, collection.store, collection.marker, where, inventory_max_age, scope)
        keeps = collection.store.keeps_versions()
        wanted = versions and keeps is not False

        def work(running: Shown) -> Plan | None:
            return _plan(collection, scope, wanted, dry_run, running, report)

        # A part is no job: others plan theirs at the same time. Without an owner nothing is written: a copy of the site
        # would have the same prefix.
        if dry_run or oid_range is not None or not _has_owner(collection):
            plan = shown_until_interrupted(work, "requests")
        else:
            options = {"dry_run": True, "plan": None, "allow": allow}
            plan = in_job(collection.store, "gc", options, work, "requests", lambda plan: planned(plan, allow))
        if plan is None:
            return INTERRUPTED
        stack.enter_context(plan)
        if candidates is not None:
            for line in plan.candidates:
                candidates.write(line + "\n")
        document = _planned(plan, database, dry_run, started) | {"keeps_versions": keeps}
        if as_json:
            output.print_json(document)
        else:
            output.print_lines(_plan_lines(plan, allow, dry_run, _version_lines(plan.tally, keeps, asked=versions)))
    return 0


def opened_collection(stack: ExitStack, database: Database, *, writable: bool, allow: float) -> Collection:
    """The bucket as the site opens it, and the base opened anew for each look."""
    from ..maintenance.gc.margins import Margins
    from ..maintenance.gc.references import View
    from ..maintenance.gc.runs import Collection

    settings = database.settings
    store, marker = opened_store(stack, database, writable=writable, concurrency=settings.store.upload_concurrency)

    @contextmanager
    def views() -> Any:
        with opened_read_only(database.factory.config.base) as base:
            yield View(base)

    margins = Margins(settings.gc_grace, settings.gc_keep, settings.uploads.expiry, allow)
    return Collection(store, views, margins, marker)


def _has_owner(collection: Collection) -> bool:
    return collection.marker is not None and collection.marker.owner is not None


def _plan(
    collection: Collection,
    scope: Scope,
    versions: bool,
    dry_run: bool,
    running: Shown,
    report: FoundReport | None,
) -> Plan | None:
    from ..maintenance.findings import Stopped
    from ..maintenance.jobs.running import begun_later

    try:
        with ExitStack() as stack:
            inventory = None if report is None else report.listing(stack, running)
            listed = running.phase("listing the bucket" if report is None else "sorting out the inventory")
            judged = begun_later(running, "asking the database")
            working = replace(collection, stop=running.stop, listed=listed, judged=judged, inventory=inventory)
            plan = working.plan(scope, versions=versions)
    except Stopped:
        return None
    try:
        if not dry_run:
            working.publish(plan)
    except BaseException:
        plan.close()
        raise
    return plan


def _execute(collection: Collection, database: Database, plan_id: str, as_json: bool) -> int:
    from ..maintenance.gc.publish import NoPlan
    from ..maintenance.gc.report import Outcome
    from ..maintenance.jobs.work import executed

    started = time.monotonic()

    def work(running: Shown) -> Any:
        working = replace(collection, stop=running.stop, deleted=running.phase("deleting"))
        try:
            return working.execute(plan_id)
        except NoPlan as error:  # so that a job may plan and execute every night
            output.complain(str(error))
            return None, Outcome()

    options = {"dry_run": False, "plan": plan_id, "allow": collection.margins.share}
    name: str | None
    name, outcome = in_job(collection.store, "gc", options, work, "deletions", lambda done: executed(*done))
    document = {
        "database": database.name,
        "plan": name,
        **asdict(outcome),
        "seconds": round(time.monotonic() - started, 3),
    }
    if as_json:
        output.print_json(document)
    else:
        output.print_lines(_outcome_lines(name or "none", outcome))
    if outcome.stopped:
        return INTERRUPTED
    return 1 if outcome.failed else 0


def _planned(plan: Plan, database: Database, dry_run: bool, started: float) -> dict[str, Any]:
    from ..maintenance.gc.candidate import date

    return {
        "database": database.name,
        "owner": plan.owner,
        "plan": None if dry_run else plan.executable,
        "dry_run": dry_run,
        "inventory": None if plan.inventory is None else plan.inventory.isoformat(),
        **asdict(plan.tally),
        "judged": plan.tally.judged,
        "next_due": date(plan.tally.next_due),
        "seconds": round(time.monotonic() - started, 3),
    }


def _plan_lines(plan: Plan, allow: float, dry_run: bool, of_versions: list[tuple[str, str]]) -> list[tuple[str, str]]:
    tally = plan.tally
    lines = [("in use", amount(asdict(tally.used)))]
    if plan.inventory is not None:
        lines.insert(0, ("inventory", f"of {plan.inventory:%Y-%m-%d %H:%M} UTC; what came since is not judged"))
    if tally.young.blobs:
        lines.append(("too young", f"{amount(asdict(tally.young))}, uploaded within gc-grace"))
    if tally.waiting.blobs:
        lines.append(("waiting", f"{amount(asdict(tally.waiting))}, the first until {_minute(tally.next_due)}"))
    condemned = amount(asdict(tally.condemned))
    if tally.unseen.blobs:
        condemned += f"; of these no earlier plan saw {tally.unseen.blobs:,} in use"
    lines.append(("may go", condemned))
    lines += [*_shared_lines(plan), *of_versions, *_more(tally)]
    name = None if dry_run else plan.executable
    if name is not None:
        lines.append(("to delete", f"within 24 h: s3blobs gc --execute {name}"))
    if tally.share > allow:
        lines.append(("refused", f"{tally.share:.0%} of what was judged is more than --allow {allow:.0%}"))
    if plan.owner is None:
        lines.append(("refused", "nothing is noted or deleted without owner in the configuration"))
    return lines


def _shared_lines(plan: Plan) -> list[tuple[str, str]]:
    shared = plan.tally.shared
    if shared is None:
        if plan.deduplicated:
            without = "--oid-range" if plan.inventory is None else "--inventory"
            return [("shared", f"not judged: anybody may refer to them, so that takes a plan without {without}")]
        return []
    used = f"{amount(asdict(shared.used))} in use, by {shared.references:,} references"
    lines = [("shared", f"{used}, which saves {byte_count(shared.saved)}")]
    if shared.young.blobs:
        lines.append(("", f"{amount(asdict(shared.young))} too young"))
    if shared.marking.blobs:
        lines.append(("", f"{amount(asdict(shared.marking))} to be marked: nothing refers to them"))
    if shared.waiting.blobs:
        lines.append(("", f"{amount(asdict(shared.waiting))} wait: they were marked within gc-grace"))
    if shared.condemned.blobs:
        lines.append(("", f"{amount(asdict(shared.condemned))} may go"))
    return lines


def _version_lines(tally: Tally, keeps: bool | None, *, asked: bool) -> list[tuple[str, str]]:
    counts = tally.versions
    if counts is None:
        if asked:
            return [("versions", "the bucket keeps none")]
        return [("versions", "the bucket keeps what is deleted or overwritten: see --versions")] if keeps else []
    waiting = f"{_versions(counts.waiting)} wait, " if counts.waiting.blobs else ""
    lines = [("versions", f"{_versions(counts.past)} out of use; {waiting}{_versions(counts.condemned)} may go")]
    if counts.locked.blobs:
        last = f", the last until {_minute(counts.locked_until_last)}"
        more = last if counts.locked_until_last != counts.locked_until else ""
        until = f"the first until {_minute(counts.locked_until)}{more}"
        lines.append(("kept", f"{_versions(counts.locked)}, by retention or a legal hold: {until}"))
    if counts.needed:
        lines.append(("in use", f"{counts.needed:,} objects that were deleted; a version of each can be brought back"))
        lines += [("", key) for key in counts.needed_keys[:_SHOWN]]
    return lines


def _versions(count: Count) -> str:
    return f"{count.blobs:,}, {byte_count(count.bytes)}"


def _more(tally: Tally) -> list[tuple[str, str]]:
    lines = []
    if tally.uploads:
        waits = f"{tally.waiting_uploads:,} wait, {tally.condemned_uploads:,} may go"
        lines.append(("uploads", f"{tally.uploads:,} unfinished multipart uploads; {waits}"))
    if tally.staged.blobs or tally.staged_uploads:
        going = _sent(tally.abandoned, tally.abandoned_uploads)
        lines.append(("from browsers", f"{_sent(tally.staged, tally.staged_uploads)}, of which abandoned: {going}"))
    if tally.old.blobs:
        lines.append(("not judged", f"{amount(asdict(tally.old))} under keys of zodb-s3blobs: see `s3blobs adopt`"))
    if tally.damaged:
        lines.append(
            ("damaged", f"records of {len(tally.damaged):,} blobs, whose objects all stay: {tally.damaged[0]}, …")
        )
    if tally.addons.blobs:
        kept = f"{tally.addons.blobs:,} objects, {byte_count(tally.addons.bytes)}, which stay"
        lines.append(("of add-ons", kept))
    if tally.foreign.blobs:
        lines.append(("foreign", f"{tally.foreign.blobs:,} objects that are not ours, and stay"))
        lines += [("", key) for key in tally.foreign_keys[:_SHOWN]]
        if tally.foreign.blobs > _SHOWN:
            lines.append(("", "… (--json has more)"))
    return lines


def _sent(objects: Count, uploads: int) -> str:
    """What browsers sent to the staging area."""
    unfinished = f", {uploads:,} unfinished" if uploads else ""
    return f"{objects.blobs:,} objects, {byte_count(objects.bytes)}{unfinished}"


def _minute(seconds: int | None) -> str:
    return "–" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def _outcome_lines(name: str, outcome: Outcome) -> list[tuple[str, str]]:
    lines = [("plan", name), ("deleted", amount(asdict(outcome.deleted)))]
    if outcome.deleted_versions.blobs:
        lines.append(("versions", f"{_versions(outcome.deleted_versions)} deleted"))
    if outcome.marked_shared.blobs:
        lines.append(("marked", f"{amount(asdict(outcome.marked_shared))} that nothing begins to share any more"))
    if outcome.deleted_shared.blobs:
        lines.append(("shared", f"{amount(asdict(outcome.deleted_shared))} deleted"))
    if outcome.aborted_uploads:
        lines.append(("aborted", f"{outcome.aborted_uploads:,} unfinished multipart uploads"))
    if outcome.swept.blobs or outcome.swept_uploads:
        lines.append(("from browsers", f"{_sent(outcome.swept, outcome.swept_uploads)}, abandoned, deleted"))
    if outcome.spared:
        lines.append(("spared", f"{outcome.spared:,} that are in use, gone or too young by now"))
    if outcome.markers:
        lines.append(
            ("versions", f"{outcome.markers:,} are hidden only: the bucket keeps their versions, which still take room")
        )
    lines += not_deleted(outcome)
    if outcome.stopped:
        lines.append(("stopped", "run it again to go on"))
    return lines


def not_deleted(outcome: Outcome) -> list[tuple[str, str]]:
    """What the store refused, and until when Object Lock keeps it."""
    lines = [("not deleted", f"{count:,}: {code}") for code, count in sorted(outcome.failed.items())]
    dates = sorted(failure["locked_until"] for failure in outcome.failures if "locked_until" in failure)
    if dates:
        more = f", the last until {dates[-1][:16]}" if dates[-1][:16] != dates[0][:16] else ""
        lines.append(("kept", f"{len(dates):,} by retention, the first until {dates[0][:16]}{more} (UTC)"))
    return lines + [("", _failure(failure)) for failure in outcome.failures[:_SHOWN]]


def _failure(failure: dict[str, Any]) -> str:
    told = [failure["key"]]
    if "version" in failure:
        told.append(f"version {failure['version']}")
    if "locked_until" in failure:
        told.append(f"kept until {failure['locked_until'][:16]} UTC by retention ({failure['mode'].lower()})")
    if failure.get("legal_hold"):
        told.append("kept by a legal hold")
    return ", ".join(told)
