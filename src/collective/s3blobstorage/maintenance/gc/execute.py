"""Deleting what a plan condemned, a thousand at a time, each after one more look at the database.

Before a batch goes: the lease is held, the ledger still has each date and it is old enough (of a version the store
still says that it is out of use for as long, of a shared object that its mark is there), the database, looked at anew,
does not use the object, and the log in the bucket says that it goes. A kill at any point loses nothing: what was logged
and not deleted is found by the next plan, which also drops an entry of the ledger whose object is gone.

Of a plan that was made from an S3 Inventory report each candidate is asked of the store too, before the database is:
one that is gone, or was written again since the report, stays (``plan.py``).
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ...errors import PreconditionFailed, Refused, StoreError, Unavailable, UnsafeError
from ...keys import GC_LOG
from ...objectstore.interfaces import Doomed, IObjectStore
from ..parallel import in_parallel
from .candidate import DELETE, MARK, Candidate
from .control import Control, lease_key
from .lease import Lease
from .ledger import Ledger
from .locked import Locked, ends
from .margins import DAY, Margins
from .plan import refuse_strange
from .references import Views
from .refused import note_failures
from .report import Outcome
from .sharing import mark_of, still_marked
from .versions import still_past, unused_keys
from .witnesses import Testimony

logger = logging.getLogger(__name__)

BATCH = 1000  # what one DeleteObjects takes
_MARKS_AT_ONCE = 4  # each is a request of its own
_AT_ONCE = 16  # HEADs at a time
_OLD_WITNESS = 30 * DAY  # of a process that is gone; at least gc-keep
FORMAT = 1


def refuse_share(condemned: int, judged: int, allowed: float) -> None:
    """Raise UnsafeError where more than the share ``allowed`` would go."""
    if condemned > allowed * judged:
        percent = -(-100 * condemned // judged)
        raise UnsafeError(
            f"{condemned:,} of {judged:,} objects would go, {percent}%, and no more than {allowed:.0%} may. Look at"
            f" what they are (--candidates); if it is right, give --allow {percent}%"
        )


def refuse_ownerless(owner: str | None) -> None:
    """Raise UnsafeError where the prefix belongs to nobody by name."""
    if owner is None:
        raise UnsafeError(
            "nothing is deleted below a prefix without an owner, since a copy of the site would have the same one: set"
            " owner. Example: owner www.example.org"
        )


@dataclass
class Execution:
    """One execution, in one thread; ``run`` once. The lease is the caller's, and so is writing the ledger after it.

    ``control`` and ``testimonies``: what was read of the bucket before it. ``plan``: the id, for the log.
    ``advance(objects, bytes)`` is called after each batch; ``stop`` ends it before the next one. ``asks_store``: by one
    HEAD of each object whether it is still as the plan has it.
    """

    store: IObjectStore
    views: Views
    margins: Margins
    lease: Lease
    control: Control
    testimonies: list[Testimony]
    plan: str
    stop: threading.Event
    advance: Callable[[int, int], None]
    asks_store: bool = False

    def __post_init__(self) -> None:
        self.outcome = Outcome()
        self._at = int(self.control.now.timestamp())
        self._batches = 0
        self.met = Locked()  # what turned out to be locked; whoever runs it closes it
        self._kept: set[str] = set()  # keys of which a version could not be deleted, as far as a marker may follow

    def run(self, candidates: Iterable[Candidate], ledger: Ledger) -> Ledger:
        """Delete; the ledger without what is gone. Raises what the store and the base raise: then write nothing."""
        remaining = Ledger(ledger.at, ledger.whole, ledger.etag)
        entries = ledger.entries()
        ordered = iter(candidates)
        try:
            while not self.outcome.stopped and (batch := list(islice(ordered, BATCH))):
                if self.stop.is_set():
                    self.outcome.stopped = True
                    break
                self._batch(batch, entries, remaining)
        finally:
            for entry in entries:
                remaining.add(entry)
        return remaining

    def _batch(self, batch: list[Candidate], entries: Iterator[Any], remaining: Ledger) -> None:
        wanted = {candidate.entry_key: candidate for candidate in batch}
        last = max((candidate.entry_key for candidate in batch if candidate.is_dated), default="")
        dated: list[Candidate] = []
        held = []
        for entry in entries if last else ():
            candidate = wanted.get(entry.key)
            if candidate is not None and self._at - entry.since >= self.margins.keep:
                dated.append(candidate)
            held.append(entry)
            if entry.key >= last:
                break
        dated += still_past(self.store, [each for each in batch if each.version], self._at, self.margins)
        dated += still_marked(self.store, [each for each in batch if each.shared == DELETE], self._at, self.margins)
        if self.asks_store:
            dated = self._still_there(dated)
        going = self._unused(dated)
        marked = [each for each in batch if each.shared == MARK]
        self.outcome.spared += len(batch) - len(going) - len(marked)
        self.lease.hold()
        self._mark(marked)
        self._log(going)
        kept_back = self._delete(going)
        self._kept &= {batch[-1].key}
        gone = {candidate.entry_key for candidate in going} - kept_back
        for entry in held:
            if entry.key not in gone:
                remaining.add(entry)
        self.advance(len(batch), sum(candidate.size for candidate in batch))

    def _still_there(self, dated: list[Candidate]) -> list[Candidate]:
        """Those that the store has as they were listed. Raises Unavailable; what it refuses to tell of, stays."""

        def is_there(candidate: Candidate) -> bool:
            if candidate.upload or candidate.version or candidate.shared:
                return True
            try:
                stored = self.store.stored(candidate.key)
            except Unavailable:
                raise
            except StoreError:
                return False
            if stored is None or stored.info.last_modified is None:
                return False
            found = stored.info.etag, int(stored.info.last_modified.timestamp())
            return found == (candidate.etag, candidate.modified)

        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="s3blobs-gc") as pool:
            there = list(pool.map(is_there, dated))
        return [candidate for candidate, found in zip(dated, there, strict=True) if found]

    def _unused(self, dated: list[Candidate]) -> list[Candidate]:
        """Those that the database, looked at now, does not use."""
        with self.views() as view:
            refuse_strange(view, self.testimonies, self.margins)
            unused = unused_keys(view, [candidate for candidate in dated if candidate.is_asked])
        return [candidate for candidate in dated if not candidate.is_asked or candidate.key in unused]

    def _mark(self, candidates: list[Candidate]) -> None:
        """Say in the bucket that nothing begins to share these objects any more.

        Nothing is logged: nothing goes, and the mark says it itself. A mark that another gc wrote since the plan stays
        as old as it is.
        """

        def put(candidate: Candidate) -> None:
            self.lease.check()
            try:
                self.store.put_bytes(mark_of(candidate), b"", if_absent=True)
            except PreconditionFailed:
                pass

        done = 0
        for candidate, future in in_parallel(
            candidates, put, concurrency=_MARKS_AT_ONCE, stop=self.stop, name="s3blobs-marks"
        ):
            done += 1
            try:
                future.result()
                self.outcome.marked_shared.add(candidate.size)
            except Refused as error:
                self.outcome.fail(mark_of(candidate), type(error).__name__)
        if done < len(candidates):
            self.outcome.stopped = True

    def _log(self, going: list[Candidate]) -> None:
        if not going:
            return
        self._batches += 1
        header = {"format": FORMAT, "plan": self.plan, "at": self._at, "deleting": len(going)}
        lines = [json.dumps(header), *(candidate.to_line() for candidate in going)]
        self.store.put_bytes(self._log_key("deleted"), "\n".join(lines).encode() + b"\n")

    def _log_key(self, what: str) -> str:
        return f"{GC_LOG}{self.control.now:%Y%m%dT%H%M%SZ}-{self.plan}-{self._batches:06d}-{what}.ndjson"

    def _delete(self, going: list[Candidate]) -> set[str]:
        """Delete; the entries of what is still there, or may be."""
        stay = {}
        for candidate in (candidate for candidate in going if candidate.upload):
            try:
                self.store.abort_upload(candidate.key, candidate.upload)
                self.outcome.aborted_uploads += 1
            except StoreError as error:
                stay[candidate.entry_key] = type(error).__name__
                self.outcome.fail(candidate.entry_key, type(error).__name__)
        stay |= self._delete_objects([each for each in going if not each.upload and not each.last])
        # A delete marker that goes before what it hides would bring that back.
        stay |= self._delete_objects([each for each in going if each.last and each.key not in self._kept])
        if stay:
            # The log said that they go. A failure to say so is no reason to stop: the next plan lists them again.
            lines = [json.dumps({"key": key, "code": code}) for key, code in sorted(stay.items())]
            try:
                self.store.put_bytes(self._log_key("failed"), "\n".join(lines).encode() + b"\n")
            except StoreError as error:
                logger.warning("the log of what could not be deleted was not written: %s", error)
        return set(stay)

    def _delete_objects(self, going: list[Candidate]) -> dict[str, str]:
        """Delete objects or versions; the store's code for the entries of those that are still there."""
        if not going:
            return {}
        by_doomed = {Doomed(candidate.key, candidate.etag, candidate.version): candidate for candidate in going}
        deleted = self.store.delete_each(list(by_doomed))
        self.outcome.markers += deleted.markers
        locks = note_failures(self.store, self.outcome, deleted.failed, every=True)
        for doomed, lock in sorted(locks.items(), key=lambda each: each[0].key):  # Ceph answers in any order
            self.met.add(doomed.key, doomed.version, ends(lock, self._at))
        for doomed, candidate in by_doomed.items():
            if doomed in deleted.failed:
                self._kept.add(candidate.key)
            elif candidate.version:
                self.outcome.deleted_versions.add(candidate.size)
            elif candidate.shared:
                self.outcome.deleted_shared.add(candidate.size)
            else:
                self.outcome.deleted.add(candidate.size)
        return {by_doomed[doomed].entry_key: code for doomed, code in deleted.failed.items()}


def swept(control: Control, margins: Margins, executed: str = "") -> list[str]:
    """Keys of gc's own that nobody needs any more: plans that cannot be executed, leases before the newest ones,
    witnesses of processes that are gone. The newest lease always stays (see ``lease``)."""

    def older(line: Any, seconds: float) -> bool:
        return (control.now - line.last_modified).total_seconds() > seconds

    plans = [line.key for name, line in control.plans.items() if name == executed or older(line, margins.plan_life)]
    leases = [
        lease_key(number) for number, line in control.leases.items() if number < control.generation and older(line, DAY)
    ]
    claims = [line.key for line in control.claims.values() if older(line, DAY)]
    gone = max(_OLD_WITNESS, margins.keep)
    return [*plans, *leases, *claims, *(line.key for line in control.witnesses.values() if older(line, gone))]
