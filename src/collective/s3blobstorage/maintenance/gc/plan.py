"""What may go: the prefix is listed, then the database is asked what it uses. Deletes nothing.

The listing goes to the local disk first, and the database is opened after its end: so the view is newer than every
line, and an object that is in use by then is seen in use.

In the place of the listing there may be an S3 Inventory report, of hours or days ago. Nothing is lost by that:

- What came since is not in it, so it is not judged: it stays.
- The database is opened after the report was read, as after a listing: what is in use by then is in use.
- What went since is judged all the same, and has a date in the ledger until a later plan does not find it.
- What went and came again under the same key (a revision that was restored) has an older date in the report than in
  the bucket, and could seem older than ``gc-grace``. So an execution asks the store for each candidate alone, just
  before it asks the database, and leaves what is not as the report had it, ETag and date (``execute.py``).
- A date of the ledger whose object the report lacks is dropped: in doubt it waits longer.
- Of what has no date the next plan says that this one saw it in use (``Entry.seen``) only where it was old enough a day
  before the report was begun: what is younger may be missing there, and was not judged then.

Unfinished multipart uploads are in no report: they are listed as ever. Shared objects are judged by listings only: one
may go when a listing that began after its mark shows no reference, and a report may lack one that is there.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

from ZODB.utils import oid_repr, z64

from ...directupload.sweeping import abandoned_before
from ...errors import UnsafeError
from ...keys import SCRATCH, is_upload_key, read_foreign_key, read_key, read_object_key, read_reference_key
from ...objectstore.interfaces import IObjectStore
from ...objectstore.inventory import InventoryListing
from ...status.figures import Figures, Objects, uploads_of
from ...storage.owner import Marker, read_marker
from ..findings import Stopped
from ..scope import Scope
from .candidate import Candidate, name_of, oid_of_folder, shared_in, upload_entry
from .control import Control, read_control
from .ledger import UPLOAD, Entry, Ledger, read_ledger
from .lines import Lines
from .listing import Listing, Row, row_of
from .locked import read_locked
from .margins import Margins
from .references import View, Views
from .report import Tally
from .sharing import Sharing
from .versions import judge_past, list_past
from .witnesses import Testimony, contradictions, read_witnesses

FORMAT = 1
_PAGE = 1000  # oids that the base is told of at a time


@dataclass
class Plan:
    """``candidates``: lines, in the order of keys, objects before shared objects before uploads before versions.
    ``ledger``: what shall be written.

    ``deduplicated``: the prefix may have shared objects, which only a plan of the whole prefix judges, by a listing.
    ``control``: what was below ``gc/`` when it began. ``at``: the store's time then. ``figures``: of all that was
    listed, where that was the whole prefix. ``inventory``: when the report was begun that stood for the listing.
    """

    id: str
    at: int
    owner: str | None
    scope: Scope
    margins: Margins
    control: Control
    testimonies: list[Testimony]
    old_keys: bool
    deduplicated: bool
    ledger: Ledger
    tally: Tally = field(default_factory=Tally)
    candidates: Lines = field(default_factory=Lines)
    figures: Figures | None = None
    inventory: datetime | None = None

    @property
    def executable(self) -> str | None:
        """Its id, where there is something to execute."""
        tally = self.tally
        something = len(self.candidates) or tally.abandoned.blobs or tally.abandoned_uploads
        return self.id if something and self.owner is not None else None

    @property
    def abandoned_before(self) -> datetime:
        """What browsers sent before is not completed any more."""
        return abandoned_before(self.control.now, self.margins.upload_expiry)

    def close(self) -> None:
        self.candidates.close()
        self.ledger.close()

    def __enter__(self) -> Plan:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def judges(self, entry_key: str) -> bool:
        """Whether an entry of the ledger is this plan's to write."""
        if self.scope.whole:
            return True
        named = read_key(entry_key) or read_reference_key(entry_key) or read_foreign_key(entry_key)
        return named is not None and self.scope.has(named[0])


def make_plan(
    store: IObjectStore,
    views: Views,
    margins: Margins,
    scope: Scope,
    stop: threading.Event,
    *,
    marker: Marker | None = None,
    versions: bool = False,
    inventory: InventoryListing | None = None,
    listed: Callable[[int], None] = lambda count: None,
    judged: Callable[[int], None] = lambda count: None,
) -> Plan:
    """List, judge, and keep what came of it on the local disk. Writes nothing into the bucket.

    ``marker``: the prefix's, where the caller has it. ``versions``: also those that no reader gets. ``inventory``: in
    the place of the listing. ``listed`` and ``judged`` are called with increments of objects. In the thread of the
    caller. Raises Unsafe where the database cannot be the one whose blobs these are, Stopped after ``stop``,
    StagingError, and what the store raises.
    """
    with ExitStack() as stack:
        control = read_control(store)
        marker = marker or read_marker(store)
        earlier = stack.enter_context(read_ledger(store, exists=control.ledger is not None))
        testimonies = read_witnesses(store, control, margins)
        at = int(control.now.timestamp())
        plan = Plan(
            f"{control.now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}",
            at,
            marker.owner if marker else None,
            scope,
            margins,
            control,
            testimonies,
            marker is not None and marker.adopted,
            marker is not None and marker.deduplicated,
            Ledger(at, _all_judged(at, scope, inventory, margins, earlier), earlier.etag),
            inventory=None if inventory is None else inventory.created,
        )
        stack.push(lambda kind, error, trace: plan.close() if error is not None else None)
        judges_shared = plan.deduplicated and scope.whole and inventory is None
        sharing = stack.enter_context(Sharing()) if judges_shared else None
        if sharing is not None:
            sharing.list_marks(store, stop, listed)
        listing = stack.enter_context(
            Listing(
                store if inventory is None else inventory,
                scope,
                stop,
                listed,
                old_keys=plan.old_keys,
                abandoned_before=plan.abandoned_before,
                deduplicated=plan.deduplicated,
                at_once=inventory is None,
            )
        )
        listing.count(plan.tally)
        past, going = stack.enter_context(Lines()), stack.enter_context(Lines())
        locked = stack.enter_context(read_locked(store, exists=versions and control.locked is not None))
        if versions:
            list_past(store, scope, plan.old_keys, plan.deduplicated, judges_shared, past, stop, listed)
        with views() as view:
            refuse_strange(view, testimonies, margins)
            _judge(view, plan, earlier, listing, sharing, stop, judged)
            if versions:
                judge_past(view, plan.tally, past, locked, going, stop, at, margins, sharing, listing)
            plan.tally.damaged = [oid_repr(oid) for oid in view.damaged]
        if sharing is not None:
            sharing.judge(listing.shared(), plan.tally, plan.candidates, stop, at, margins)
        _uploads(store, plan, earlier, listing.objects())
        for line in going:
            plan.candidates.add(line)
        return plan


def _all_judged(at: int, scope: Scope, inventory: InventoryListing | None, margins: Margins, earlier: Ledger) -> int:
    """Up to when this plan, or else an earlier one, judged whatever was old enough: ``Ledger.whole``."""
    if not scope.whole:
        return earlier.whole
    if inventory is None:
        return at
    return max(earlier.whole, int(inventory.created.timestamp() - margins.inventory_lag))


def refuse_strange(view: View, testimonies: list[Any], margins: Margins) -> None:
    """Raise UnsafeError where the database is empty, or not the one whose blobs the prefix has."""
    if view.last() == z64 or view.is_empty():
        raise UnsafeError(
            "the database is empty: nothing would be in use. Look at the storage inside <s3blobstorage>; to give up"
            " every blob of the prefix there is `s3blobs destroy`"
        )
    for why in contradictions(view, testimonies, margins):
        raise Strange(
            f"this is not the database whose blobs the prefix has: {why}. If it is a copy, give it another owner and"
            " s3-prefix; if it was restored from a backup, run `s3blobs adopt`"
        )


class Strange(UnsafeError):
    """The database is another one than that of a process which wrote into the prefix."""


def _judge(
    view: View,
    plan: Plan,
    earlier: Ledger,
    listing: Listing,
    sharing: Sharing | None,
    stop: threading.Event,
    judged: Callable[[int], None],
) -> None:
    dates = _Dates(plan, earlier)
    refer = sharing.refer if sharing is not None else lambda shared: None
    for oids, page in _prefetched(view, listing):
        if stop.is_set():
            raise Stopped
        used_blobs = used_bytes = 0
        for oid, (folder, lines) in zip(oids, page, strict=True):
            start = len(folder) + 1
            if len(lines) == 1 and oid is not None:  # nearly every blob: one revision, one object, in use
                key, size, _ = lines[0].split("\t", 2)
                name, _, shared = key[start:].partition(".")
                if dates.knows_nothing_of(key) and view.names_just(oid, name):
                    if shared:  # its object, or a reference
                        refer(shared)
                    used_blobs += 1
                    used_bytes += int(size)
                    continue
            rows = [row_of(line) for line in lines]
            names = [name_of(row[0]) for row in rows]
            used = view.used(oid, set(names)) if oid is not None else ()
            for name, row in zip(names, rows, strict=True):
                if shared := shared_in(row[0]):
                    refer(shared)
                dates.judge(row, in_use=name in used)
        plan.tally.used.blobs += used_blobs
        plan.tally.used.bytes += used_bytes
        judged(sum([len(lines) for _, lines in page]))
    dates.end()


def _prefetched(view: View, listing: Listing) -> Iterator[tuple[list[bytes | None], list[tuple[str, list[str]]]]]:
    """By pages: oids, and the folder of each. The base is told of a page while the one before it is judged."""
    # Of each blob the objects lie in one folder, and a listing has a folder whole before it goes on.
    folders = listing.folders()
    waiting = None
    while page := list(islice(folders, _PAGE)):
        oids = [oid_of_folder(folder) for folder, _ in page]
        view.prefetch([oid for oid in oids if oid is not None])
        if waiting is not None:
            yield waiting
        waiting = oids, page
    if waiting is not None:
        yield waiting


class _Dates:
    """Merges what is listed with the earlier ledger, both sorted by key, and decides. Pure but for its files."""

    def __init__(self, plan: Plan, earlier: Ledger) -> None:
        self._plan = plan
        self._tally = plan.tally
        self._whole = earlier.whole
        self._entries = (entry for entry in earlier.entries() if not entry.key.startswith(UPLOAD))
        self._next = next(self._entries, None)

    def knows_nothing_of(self, key: str) -> bool:
        """Whether the earlier ledger has neither that key nor one before it that is still to be merged."""
        return self._next is None or key < self._next.key

    def judge(self, row: Row, *, in_use: bool) -> None:
        key, size, etag, modified = row
        entry = self._entry_of(key) if self._next is not None else None
        if in_use:
            self._tally.used.add(size)
            return
        margins, at = self._plan.margins, self._plan.at
        if at - modified < margins.grace:
            self._tally.young.add(size)
            return
        if entry is None:
            # The last plan of the whole prefix judged it, if it was old enough then, and did not date it: it was in
            # use.
            entry = Entry(key, at, seen=modified + margins.grace <= self._whole)
            new = True
        else:
            new = False
        self._plan.ledger.add(entry)
        if new or at - entry.since < margins.keep:
            self._tally.waiting.add(size)
            self._tally.wait_for(entry.since + int(margins.keep))
            return
        self._tally.condemned.add(size)
        if not entry.seen:
            self._tally.unseen.add(size)
        self._plan.candidates.add(Candidate(key, size, etag, modified, entry.since, entry.seen).to_line())

    def _entry_of(self, key: str) -> Entry | None:
        """What the ledger has of it. What it has of keys that are not listed any more is dropped, or kept out of
        scope."""
        while self._next is not None and self._next.key < key:
            self._pass_over(self._next)
            self._next = next(self._entries, None)
        if self._next is not None and self._next.key == key:
            found, self._next = self._next, next(self._entries, None)
            return found
        return None

    def _pass_over(self, entry: Entry) -> None:
        if not self._plan.judges(entry.key):
            self._plan.ledger.add(entry)

    def end(self) -> None:
        while self._next is not None:
            self._pass_over(self._next)
            self._next = next(self._entries, None)


def _uploads(store: IObjectStore, plan: Plan, earlier: Ledger, objects: Objects) -> None:
    """Unfinished multipart uploads, under the same margins. Only those to keys of ours; those of browsers end in their
    own way. ``objects``: what was listed, for the figures."""
    known = {entry.key: entry for entry in earlier.entries() if entry.key.startswith(UPLOAD)}
    if not plan.scope.whole:
        for entry in known.values():
            plan.ledger.add(entry)
        return
    tally, margins, at = plan.tally, plan.margins, plan.at
    found, begun = [], []
    for key, upload_id, initiated in store.list_uploads():
        begun.append((key, initiated))
        if is_upload_key(key):
            tally.staged_uploads += 1
            tally.abandoned_uploads += initiated < plan.abandoned_before
            continue
        if read_key(key) is None and read_object_key(key) is None and not key.startswith(SCRATCH):
            continue
        tally.uploads += 1
        if at - initiated.timestamp() >= margins.grace and not set(f"{key}{upload_id}") & set("\t\n"):
            found.append((upload_entry(key, upload_id), key, upload_id, int(initiated.timestamp())))
    if plan.inventory is None:  # figures are of the time when they are kept
        plan.figures = Figures(objects, *uploads_of(begun), tally.shared.saved if tally.shared is not None else 0)
    for name, key, upload_id, initiated_at in sorted(found):
        entry = known.get(name)
        plan.ledger.add(entry or Entry(name, at, seen=False))
        if entry is None or at - entry.since < margins.keep:
            tally.waiting_uploads += 1
            continue
        tally.condemned_uploads += 1
        plan.candidates.add(Candidate(key, 0, "", initiated_at, entry.since, False, upload_id).to_line())
