"""Is this the database whose blobs the prefix has? Asked of what the site's processes tell (``storage/witness.py``).

A database that was copied together with its configuration, or restored from a backup, looks like the right one, owner
and all. It is told by what its processes know of transactions.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from persistent.TimeStamp import TimeStamp
from ZODB.FileStorage import FileStorage
from ZODB.interfaces import IStorageIteration
from ZODB.utils import oid_repr, p64, tid_repr, u64

from ...errors import ObjectMissing
from ...keys import WITNESS
from ...objectstore.interfaces import IObjectStore, Listed
from ...storage.witness import Witness
from ..kept import innermost
from .control import Control
from .margins import Margins
from .references import View

_AT_ONCE = 8
# Where a transaction is looked for that shows that the base lists those of that time: growing, since a RelStorage holds
# all that it lists in memory. Seconds.
_PACK_SPANS = (3600.0, 86400.0, 30 * 86400.0)


@dataclass(frozen=True, slots=True)
class Testimony:
    """What one process told, and when, by the store's clock."""

    name: str
    at: datetime
    witness: Witness


def read_witnesses(store: IObjectStore, control: Control, margins: Margins) -> list[Testimony]:
    """Those that count still (``witness_life``). Read before the base is looked at: else it may lack what they know."""
    young = lines_that_count(control, margins)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="s3blobs-witnesses") as pool:
        found = list(zip(young, pool.map(partial(read_witness, store), young), strict=True))
    return [
        Testimony(line.key.removeprefix(WITNESS), line.last_modified, witness)
        for line, witness in found
        if witness is not None and not witness.void
    ]


def lines_that_count(control: Control, margins: Margins) -> list[Listed]:
    """Of the listing: the witnesses that are not too old."""
    return [
        line
        for line in control.witnesses.values()
        if (control.now - line.last_modified).total_seconds() < margins.witness_life
    ]


def read_witness(store: IObjectStore, line: Listed) -> Witness | None:
    """None where it is gone since it was listed. Raises as ``Witness.from_json``."""
    try:
        return Witness.from_json(store.get_bytes(line.key))
    except ObjectMissing:
        return None


def contradictions(view: View, testimonies: list[Testimony], margins: Margins) -> Iterator[str]:
    """Why the database is not that of a process which wrote into this prefix: a sentence for each."""
    for each in testimonies:
        why = _contradiction(view, each, margins)
        if why is not None:
            seen = f"gc/witness/{each.name}, {each.at:%Y-%m-%d %H:%M} UTC"
            yield f"a process that opened this prefix for writing ({seen}) {why}"


def _contradiction(view: View, testimony: Testimony, margins: Margins) -> str | None:
    tid, last = testimony.witness.tid, view.last()
    if tid > last:
        return f"knows transaction {tid_repr(tid)}, and the last one of this database is {tid_repr(last)}"
    if _has_between(view.base, tid, _tid_of(testimony.at.timestamp() - margins.skew)):
        return f"did not know of transactions that this database has after {tid_repr(tid)}"
    if _lacks(view.base, tid):
        return f"knows transaction {tid_repr(tid)}, which this database does not have"
    for told, oid in testimony.witness.changed:
        if (present := view.tid_of(oid)) is not None and present < told:
            state = "of which this database has an older state"
            return f"changed object {oid_repr(oid)} in transaction {tid_repr(told)}, {state}"
    return None


def _has_between(base: Any, after: bytes, until: bytes) -> bool:
    """Whether the base has a transaction after the one and up to the other."""
    if until <= after:
        return False
    if not IStorageIteration.providedBy(base):
        last = base.lastTransaction()
        return after < last <= until
    return _first(base, p64(u64(after) + 1), until) is not None


def _lacks(base: Any, tid: bytes) -> bool:
    """Whether the base would have that transaction if it were the witness's, and does not.

    A history-free base has no transactions of their own, and a pack removes some: then there is nothing to say.
    """
    if not any(tid) or not _keeps_history(base) or _first(base, tid, tid) is not None:
        return False
    # Whether a pack has been there. FileStorage marks what it packed; RelStorage does not list it any more.
    following = _first(base, tid, _tid_of(_seconds(tid) + _PACK_SPANS[-1]))
    if following is not None and following.status == "p":
        return False
    if (
        isinstance(innermost(base), FileStorage)
        and (first := _first(base, None, None)) is not None
        and first.status != "p"
    ):
        return True  # it was never packed
    return any(_first(base, _tid_of(_seconds(tid) - span), tid) is not None for span in _PACK_SPANS)


def _keeps_history(base: Any) -> bool:
    return IStorageIteration.providedBy(base) and bool(getattr(innermost(base), "supportsUndo", bool)())


def _first(base: Any, start: bytes | None, stop: bytes | None) -> Any:
    iterator = base.iterator(start, stop)
    try:
        # Not `next`: RelStorage's StopIteration is one of its own.
        for found in iterator:
            return found
        return None
    finally:
        getattr(iterator, "close", lambda: None)()


def _tid_of(seconds: float) -> bytes:
    moment = datetime.fromtimestamp(max(seconds, 0.0), UTC)
    return TimeStamp(*moment.timetuple()[:5], moment.second + moment.microsecond / 1e6).raw()


def _seconds(tid: bytes) -> float:
    return TimeStamp(tid).timeTime()
