"""Deleting everything of a site below its prefix, versions included: ``s3blobs destroy``.

The plan is a listing on the local disk, so what a person was shown is what goes; what somebody writes meanwhile stays,
and the next run finds it. The register of keys and the owner marker go last, and only when all else is gone: as long as
anything is left the prefix has its owner, what is encrypted can be read, and destroying it can go on after any
interruption.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from ...errors import OwnerError, Refused, UnsafeError
from ...keys import (
    ADDONS,
    KEYS,
    MARKER,
    is_addon_key,
    is_bookkeeping,
    is_reference_key,
    is_upload_key,
    read_condemned_key,
    read_foreign_key,
    read_key,
    read_object_key,
)
from ...objectstore.interfaces import Doomed, IObjectStore
from ...storage.owner import Marker
from ..findings import Count, Stopped
from .control import read_control
from .lines import Lines
from .margins import HOUR, MINUTE
from .refused import note_failures
from .report import LISTED, Outcome

BATCH = 1000  # what one DeleteObjects takes
_STEP = 1000  # lines of the listing between two calls of ``advance``

# A process that may write tells so once an hour (``storage/witness.py``), and a request may be late.
RUNNING = 2 * HOUR


@dataclass
class Found:
    """What lies below the prefix; of a bucket that keeps versions, all of them are counted.

    ``blobs`` are under our keys, ``shared`` is what several of them share, ``old`` are under keys of zodb-s3blobs,
    ``addons`` under those of the site's add-ons, ``staged`` is what browsers sent and was not completed,
    ``bookkeeping`` is the rest of ours; references to what is shared, and marks, too.
    ``versions``: how many of them no reader gets, ``markers``: delete markers. ``foreign``: everything else.
    ``going``: all that is deleted.
    """

    blobs: Count = field(default_factory=Count)
    shared: Count = field(default_factory=Count)
    old: Count = field(default_factory=Count)
    addons: Count = field(default_factory=Count)
    staged: Count = field(default_factory=Count)
    bookkeeping: Count = field(default_factory=Count)
    foreign: Count = field(default_factory=Count)
    foreign_keys: list[str] = field(default_factory=list)
    versions: Count = field(default_factory=Count)
    markers: int = 0
    uploads: int = 0
    going: Count = field(default_factory=Count)


@dataclass
class Plan:
    """``going``: what is deleted, as lines; ``last``: the same of register and marker; ``uploads``: what is aborted."""

    keeps_versions: bool
    everything: bool = False
    found: Found = field(default_factory=Found)
    going: Lines = field(default_factory=Lines)
    uploads: Lines = field(default_factory=Lines)
    last: Lines = field(default_factory=Lines)

    @property
    def is_empty(self) -> bool:
        return not (len(self.going) or len(self.uploads) or len(self.last))

    def close(self) -> None:
        for lines in (self.going, self.uploads, self.last):
            lines.close()

    def __enter__(self) -> Plan:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def refuse_other_owner(marker: Marker | None, owner: str | None) -> None:
    """Raise OwnerError where the configuration is not that of the site whose prefix it is."""
    if marker is None or marker.owner == owner:
        return
    if marker.owner is None:
        raise OwnerError(
            f"the bucket's prefix belongs to nobody by name, and the configuration says owner {owner}: leave owner out"
            " to destroy it, if it is the right one"
        )
    named = "names no owner" if owner is None else f"says owner {owner}"
    raise OwnerError(
        f"the bucket's prefix belongs to owner {marker.owner!r}, and the configuration {named}: only the configuration"
        " of that site destroys it"
    )


def running(store: IObjectStore) -> str | None:
    """Why a site may be running that writes here; None where none told so lately."""
    control = read_control(store)
    newest = max((line.last_modified for line in control.witnesses.values()), default=None)
    if newest is None or (age := (control.now - newest).total_seconds()) >= RUNNING:
        return None
    return (
        f"a process that may write told of itself {max(age, 0) / MINUTE:.0f} minutes ago, as each does once an hour, so"
        " the site may be running: stop it and wait for two hours, or give --even-if-running"
    )


def make_plan(
    store: IObjectStore,
    stop: threading.Event,
    *,
    everything: bool = False,
    advance: Callable[[int], None] = lambda count: None,
) -> Plan:
    """List everything below the prefix onto the local disk. ``everything``: foreign keys go too.

    The caller closes it. Raises Stopped after ``stop``; UnsafeError where another prefix lies below this one, in what
    would go.
    """
    keeps = store.keeps_versions()
    plan = Plan(keeps is not False, everything)
    found = plan.found
    try:
        for number, (key, version, size, is_past, is_marker) in enumerate(_listed(store, keeps), 1):
            if number % _STEP == 0:
                advance(_STEP)
                if stop.is_set():
                    raise Stopped
            is_here = not (is_past or is_marker)
            if is_here and key.startswith(ADDONS) and key.endswith(f"/{MARKER}"):
                raise UnsafeError(
                    f"another prefix lies below this one, {key.removesuffix(MARKER)}, where objects of add-ons are:"
                    " destroy that first"
                )
            if (count := _kind(found, key)) is found.foreign:
                count.add(size)
                if len(found.foreign_keys) < LISTED and key not in found.foreign_keys[-1:]:
                    found.foreign_keys.append(key)
                if not everything:
                    continue
                if is_here and key.endswith(f"/{MARKER}"):
                    raise UnsafeError(
                        f"another prefix lies below this one, {key.removesuffix(f'/{MARKER}')}/, and --everything would"
                        " delete it too: destroy that first, or leave out --everything"
                    )
            elif is_marker:
                found.markers += 1
            else:
                count.add(size)
                if is_past:
                    found.versions.add(size)
            found.going.add(size)
            # As long as anything is left the keys can be had: one that somebody else wraps is nowhere else.
            (plan.last if key == MARKER or key.startswith(KEYS) else plan.going).add(json.dumps([key, version, size]))
        for key, upload_id, _ in store.list_uploads():
            if everything or _kind(found, key) is not found.foreign:
                found.uploads += 1
                plan.uploads.add(json.dumps([key, upload_id]))
    except BaseException:
        plan.close()
        raise
    return plan


def _listed(store: IObjectStore, keeps: bool | None) -> Iterator[tuple[str, str, int, bool, bool]]:
    """Key, version, size, whether no reader gets it, whether it is a delete marker."""
    if keeps is False:
        for line in store.list():
            yield line.key, "", line.size, False, False
        return
    try:
        for version in store.list_versions():
            yield version.key, version.version, version.size, not version.is_latest, version.is_marker
    except Refused:
        if keeps:
            raise Refused(
                "The bucket keeps versions, and the object store refuses to list them (s3:ListBucketVersions)."
            ) from None
        raise Refused(
            "The object store tells neither whether the bucket keeps versions nor which (s3:GetBucketVersioning,"
            " s3:ListBucketVersions)."
        ) from None


def _kind(found: Found, key: str) -> Count:
    if read_key(key) is not None:
        return found.blobs
    if read_object_key(key) is not None:
        return found.shared
    if is_reference_key(key) or read_condemned_key(key) is not None:
        return found.bookkeeping
    if read_foreign_key(key) is not None:
        return found.old
    if is_addon_key(key):
        return found.addons
    if is_upload_key(key):
        return found.staged
    return found.bookkeeping if is_bookkeeping(key) else found.foreign


def execute(
    store: IObjectStore, plan: Plan, stop: threading.Event, advance: Callable[[int], None] = lambda count: None
) -> Outcome:
    """Delete what the plan has, as far as ``stop`` and the store allow. In the thread of the caller.

    Raises what the store raises where no answer came at all; then it can be run again.
    """
    outcome = Outcome()
    _delete(store, plan.going, outcome, stop, advance)
    for key, upload_id in map(json.loads, plan.uploads):
        if stop.is_set():
            break
        try:
            store.abort_upload(key, upload_id)
            outcome.aborted_uploads += 1
        except Refused as error:
            outcome.fail(f"{key} (upload {upload_id})", type(error).__name__)
    if not outcome.failed:
        _delete(store, plan.last, outcome, stop, advance)
    outcome.stopped = stop.is_set() and _is_left(plan, outcome)
    return outcome


def _delete(
    store: IObjectStore, lines: Lines, outcome: Outcome, stop: threading.Event, advance: Callable[[int], None]
) -> None:
    rows = map(json.loads, lines)
    while not stop.is_set() and (batch := list(islice(rows, BATCH))):
        sizes = {Doomed(key, version=version): size for key, version, size in batch}
        deleted = store.delete_each(list(sizes))
        note_failures(store, outcome, deleted.failed)
        outcome.markers += deleted.markers
        for doomed, size in sizes.items():
            if doomed not in deleted.failed:
                outcome.deleted.add(size)
        if not outcome.deleted.blobs and set(outcome.failed) == {"AccessDenied"} and not _is_locked(outcome):
            # The first thousand: a policy is in the way, and will be of all others.
            raise Refused("The object store refuses to delete (s3:DeleteObject, s3:DeleteObjectVersion).")
        advance(len(batch))


def _is_locked(outcome: Outcome) -> bool:
    return any("locked_until" in failure or "legal_hold" in failure for failure in outcome.failures)


def _is_left(plan: Plan, outcome: Outcome) -> bool:
    wanted = len(plan.going) + len(plan.last) + len(plan.uploads)
    return outcome.deleted.blobs + outcome.aborted_uploads + sum(outcome.failed.values()) < wanted
