"""``s3blobs lifecycle``: rules by which the store itself removes what nobody needs, and moves what is seldom read."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from .. import datatypes
from ..errors import ConfigurationError, UnsafeError
from . import output
from .confirming import typed
from .parameters import Parsed
from .prefix import looked_at
from .request import Request, pass_request
from .rules import changes

if TYPE_CHECKING:
    from ..maintenance.lifecycle import Difference, Wishes
    from ..settings import StorageSettings

# A week: nobody goes on with an upload that stood still for so long, and it costs a fiftieth of a year of its storage.
UNFINISHED = 7
# A month: for who finds out late that something was deleted. Longer where gc-keep is.
NONCURRENT = 30
# Amazon S3 User Guide, "Transitioning objects": not earlier into these.
_AT_LEAST = {"STANDARD_IA": 30, "ONEZONE_IA": 30}
_DAYS = click.IntRange(1, 36500)


def _move(text: str) -> tuple[str, int]:
    """``CLASS=DAYS``."""
    name, equals, days = text.partition("=")
    if not equals or not days.strip().isdecimal() or not 0 < int(days) <= 36500:
        raise ConfigurationError("is not a storage class and days, as STANDARD_IA=30")
    name = datatypes.storage_class(name.strip())
    if int(days) < _AT_LEAST.get(name, 0):
        raise ConfigurationError(f"is too early: nothing goes into {name} before day {_AT_LEAST[name]}")
    return name, int(days)


@click.command()
@click.option("--unfinished", type=_DAYS, metavar="DAYS", help=f"End unfinished uploads; at first {UNFINISHED} days.")
@click.option(
    "--noncurrent",
    type=_DAYS,
    metavar="DAYS",
    help=f"Delete old versions; at first {NONCURRENT} days or gc-keep, in a bucket that keeps versions.",
)
@click.option(
    "--move", type=Parsed("CLASS=DAYS", _move), multiple=True, help="Move blobs, as STANDARD_IA=30; may be repeated."
)
@click.option(
    "--remove",
    type=click.Choice(["unfinished", "noncurrent", "move"]),
    multiple=True,
    help="Remove that rule; may be repeated.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only show what would be changed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@pass_request
def lifecycle(
    request: Request,
    unfinished: int | None,
    noncurrent: int | None,
    move: tuple[tuple[str, int], ...],
    remove: tuple[str, ...],
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Have the store end unfinished uploads, delete old versions, and move blobs to cheaper storage classes.

    Reads the bucket's lifecycle rules, shows what would be changed in ours, and writes them after the bucket's name was
    typed. Rules of others stay as they are; one that deletes blobs, or moves them where they cannot be read, is named.
    The credentials need s3:GetLifecycleConfiguration and s3:PutLifecycleConfiguration on the bucket, which a site does
    not need. Exit status: 0; 1 where a rule of others harms blobs, the name was not typed, or the store has other
    rules than were written; 2 where nothing could be done.
    """
    from ..maintenance.lifecycle import dangers, difference
    from ..storage.owner import refuse_other

    request.json = as_json
    database = request.database()
    settings = database.settings
    if settings.read_only and not dry_run:
        raise ConfigurationError(
            "read-only is on, and lifecycle changes the bucket: set read-only off, or give --dry-run"
        )
    bucket, prefix = settings.store.bucket, settings.store.prefix
    with ExitStack() as stack:
        store, marker = looked_at(stack, database, writable=not dry_run)
        refuse_other(marker, settings.owner)
        present = store.lifecycle()
        keeps_versions = bool(store.keeps_versions())
        wishes = _wishes(settings, present, keeps_versions, unfinished, noncurrent, move, remove)
        wishes = dataclasses.replace(wishes, shared=marker is not None and marker.deduplicated)
        found = difference(present, prefix, wishes)
        harm = list(dangers(present, prefix, settings.uploads.expiry / datatypes.DAY))
        if not as_json:
            _show(found, harm, bucket)
        changed, wrong = False, ""
        if found.is_needed and not dry_run:
            if not yes and not typed(bucket, "to change its lifecycle rules"):
                wrong = f"nothing was changed: {bucket} was not typed"
            elif store.lifecycle() != present:  # whoever was asked may have let the question stand
                raise UnsafeError("the bucket's lifecycle rules were changed meanwhile: run s3blobs lifecycle again")
            else:
                store.set_lifecycle(found.wanted)
                changed = True
                wrong = _wrong(store.lifecycle(), found, prefix, wishes)
    if as_json:
        told = {
            "database": database.name,
            "bucket": bucket,
            "dry_run": dry_run,
            "present": list(found.present),
            "wanted": list(found.wanted),
            "needed": found.is_needed,
            "keeps_versions": keeps_versions,
            "harm": harm,
            "changed": changed,
            "refused": wrong or None,
        }
        output.print_json(json.loads(json.dumps(told, default=str)))  # a rule of others may have a date
    elif changed and not wrong:
        output.console().print("written, and read back as it was written")
    if wrong:
        output.complain(wrong)
    return 1 if wrong or harm else 0


def _wishes(
    settings: StorageSettings,
    present: Sequence[Mapping[str, Any]],
    keeps_versions: bool,
    unfinished: int | None,
    noncurrent: int | None,
    move: tuple[tuple[str, int], ...],
    remove: tuple[str, ...],
) -> Wishes:
    """What is asked for; of what is not, what the first run proposes where there is no rule of it yet."""
    from ..maintenance.lifecycle import CLASSES, SHARED, VERSIONS, Wishes, ours
    from ..maintenance.lifecycle import UNFINISHED as UPLOADS

    kinds = {"unfinished": UPLOADS, "noncurrent": VERSIONS, "move": CLASSES}
    gone = frozenset(kinds[name] for name in remove) | frozenset({SHARED} if "move" in remove else ())
    asked = {UPLOADS: unfinished is not None, VERSIONS: noncurrent is not None, CLASSES: bool(move)}
    if twice := [name for name, kind in kinds.items() if kind in gone and asked[kind]]:
        raise ConfigurationError(f"--{twice[0]} and --remove {twice[0]} contradict each other: leave one out")
    uploads_last, kept = math.ceil(settings.uploads.expiry / datatypes.DAY), math.ceil(settings.gc_keep / datatypes.DAY)
    if unfinished is not None and unfinished <= uploads_last and settings.uploads.allowed:
        raise ConfigurationError(
            f"--unfinished {unfinished} would end uploads that browsers may still go on with: give more than"
            f" {uploads_last}, or lower upload-expiry"
        )
    if noncurrent is not None and noncurrent < kept:
        raise ConfigurationError(
            f"--noncurrent {noncurrent} would delete what gc-keep keeps for a restored database: give at least {kept}"
        )
    there = ours(present, settings.store.prefix)
    if unfinished is None and UPLOADS not in there and UPLOADS not in gone:
        unfinished = max(UNFINISHED, uploads_last + 1)
    if noncurrent is None and VERSIONS not in there and VERSIONS not in gone and keeps_versions:
        noncurrent = max(NONCURRENT, kept)
    return Wishes(unfinished, noncurrent, move, gone)


def _wrong(now: Sequence[Mapping[str, Any]], found: Difference, prefix: str, wishes: Wishes) -> str:
    """What is wrong with the rules as the store has them now; "" where nothing is."""
    from ..maintenance.lifecycle import difference, does_the_same, others

    if difference(now, prefix, wishes).is_needed:
        return "the rules were written, and the store answers other ones: look at them (--dry-run --json)"
    before, after = others(found.present, prefix), others(now, prefix)
    # A store may give them back in another order.
    if len(before) != len(after) or not all(any(does_the_same(old, new) for new in after) for old in before):
        return "the rules were written, and rules of others are not what they were: look at them (--dry-run --json)"
    return ""


def _show(found: Difference, harm: Sequence[str], bucket: str) -> None:
    console = output.console()
    for sentence in harm:
        console.print(f"{output.sign(False)}  {sentence}", soft_wrap=True)
    if not found.is_needed:
        console.print(f"{output.sign(True)}  the rules of the bucket {bucket} are as they are wanted", soft_wrap=True)
        return
    for line in changes(found.present, found.wanted):
        console.print(line, soft_wrap=True)
