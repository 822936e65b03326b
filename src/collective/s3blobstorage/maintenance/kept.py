"""Every revision of every blob that the base keeps, current and historical, sorted by oid and tid.

What a migration needs is decided by these and by nothing else: neither by what a blob directory holds nor by what the
bucket does.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import Any

from persistent.TimeStamp import TimeStamp
from ZODB.FileStorage import FileStorage
from ZODB.interfaces import IStorageCurrentRecordIteration, IStorageIteration
from ZODB.POSException import POSKeyError
from ZODB.utils import maxtid, oid_repr, p64, u64

from ..errors import ConfigurationError, RecordError
from ..keys import blob_key, object_key
from ..storage.record import BlobState, is_blob, read_state
from .records import current_records, tells_the_end
from .scope import Scope
from .spool import Spool

logger = logging.getLogger(__name__)

_ALL = 1_000_000  # revisions of one object, for ``history``
_STEP = 1000  # records between two calls of ``advance``
_WINDOW = (31 * 24 * 60) << 32  # of tids: about a month


@dataclass(frozen=True, slots=True)
class KeptRevision:
    """A revision and what its record says of its data, but for the data of one that is inline.

    ``name`` and what follows as in ``BlobState``, ``object`` too. ``damaged``: why the record cannot be read, "" where
    it can.
    """

    oid: bytes
    tid: bytes
    name: str | None = None
    size: int | None = None
    sha256: bytes | None = None
    inline: bool = False
    damaged: str = ""
    object: str | None = None

    @property
    def state(self) -> BlobState:
        """Of one that is neither inline nor damaged."""
        return BlobState(self.name, self.size, self.sha256, object=self.object)

    @property
    def object_name(self) -> str:
        """The last part of its object's key. Of one that is neither inline nor damaged."""
        return self.state.name_at(self.tid)

    @property
    def key(self) -> str:
        """Of an object of its own, whether it has one or not."""
        return blob_key(self.oid, self.object_name)

    def may_share(self, shared: str) -> bool:
        """Whether that shared object has the bytes that its record tells of, as far as it does."""
        return self.sha256 is None or shared.startswith(f"{self.sha256.hex()}.")

    @property
    def first_key(self) -> str:
        """Where readers look for it first."""
        return self.key if self.object is None else object_key(self.object)


def kept_revision(oid: bytes, tid: bytes, record: bytes) -> KeptRevision:
    """Of a blob's record."""
    try:
        state = read_state(record) or BlobState()
    except RecordError as error:
        logger.warning("the record of blob %s at %s: %s", oid_repr(oid), tid.hex(), error)
        return KeptRevision(oid, tid, damaged=str(error))
    return KeptRevision(oid, tid, state.name, state.size, state.sha256, state.inline is not None, object=state.object)


# Told of a record that is no blob's: oid, tid, record; the record is None where that transaction took the object away.
Other = Callable[[bytes, bytes, bytes | None], None]


def kept_revisions(
    base: Any,
    scope: Scope,
    spool: Spool,
    advance: Callable[[int], None] = lambda count: None,
    other: Other | None = None,
) -> Iterator[KeptRevision]:
    """The kept revisions of the base within ``scope``, sorted by oid and tid, each once.

    Reads every record once (of a ZEO client's: every current one, and the history of blobs). ``advance(n)`` is called
    with increments of records read, ``other`` with all that are no blobs' within the scope's tids, so that who needs
    these too reads the database no second time: those of one object in the order of tids, and all of them before the
    iterator ends. What iterates by transactions is sorted in ``spool``. In the thread of the caller;
    memory does not grow. Raises ConfigurationError where the base cannot list its records.
    """
    if is_zeo_client(base) and IStorageCurrentRecordIteration.providedBy(base) and _goes_by_oid(base):
        return _with_history(base, scope, advance, other)
    if is_history_free(base):
        return _current(base, scope, advance, other)
    if IStorageIteration.providedBy(base):
        return _of_transactions(base, scope, spool, advance, other)
    raise ConfigurationError(
        f"a {type(base).__name__} cannot list its records: the storage inside <s3blobstorage> has to be one that does,"
        " such as <filestorage>, <relstorage> or <zeoclient>"
    )


def record_of(base: Any, oid: bytes, tid: bytes) -> bytes | None:
    """That revision's record, as the base, opened just now, still has it; None or empty where it has not."""
    try:
        return base.loadSerial(oid, tid)
    except POSKeyError:
        return None


def is_kept(base: Any, oid: bytes, tid: bytes) -> bool:
    """Whether the base, opened just now, still has that revision."""
    return bool(record_of(base, oid, tid))


def innermost(base: Any) -> Any:
    """Without wrappers, as a compressing storage. A DemoStorage is none: it lists two storages as one."""
    while getattr(base, "base", None) is not None and not hasattr(base, "changes"):
        base = base.base
    return base


def is_zeo_client(base: Any) -> bool:
    module = sys.modules.get("ZEO.ClientStorage")  # else there is none
    return module is not None and isinstance(innermost(base), module.ClientStorage)


def _goes_by_oid(base: Any) -> bool:
    """Whether the storage that a ZEO server serves goes on from an oid: RelStorage's cursor cannot travel."""
    try:
        return isinstance(base.record_iternext(None)[3], bytes | None)
    except POSKeyError:
        return True
    except Exception as error:
        if tells_the_end(error):
            return True
        logger.info("the ZEO server does not list current records (%s): iterating its transactions", error)
        return False


def is_history_free(base: Any) -> bool:
    """A RelStorage that keeps current revisions only. It lists them in the order of oids, and sorts on its server."""
    inner = innermost(base)
    return hasattr(inner, "blobhelper") and not getattr(inner, "supportsUndo", bool)()


def _current(
    base: Any, scope: Scope, advance: Callable[[int], None], other: Other | None = None
) -> Iterator[KeptRevision]:
    for oid, tid, record in current_records(base, advance=advance):
        if record and scope.has(oid, tid):
            if is_blob(record):
                yield kept_revision(oid, tid, record)
            elif other is not None:
                other(oid, tid, record)


def _with_history(
    base: Any, scope: Scope, advance: Callable[[int], None], other: Other | None = None
) -> Iterator[KeptRevision]:
    for oid, tid, record in current_records(base, scope.first, advance):
        if oid > scope.last:
            return
        if record is None or is_blob(record):
            revisions = revisions_of(base, oid, {tid: record} if record else {})
            for one, found in sorted(revisions.items()):
                if scope.has(oid, one) and is_blob(found):
                    yield kept_revision(oid, one, found)
        elif other is not None and scope.has(oid, tid):
            other(oid, tid, record)


def revisions_of(base: Any, oid: bytes, found: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """All records that the base keeps of one object, by tid; ``found``: those that are known.

    The union of ``history`` and of what ``loadBefore`` finds going back: ``history`` alone is empty after a RelStorage
    was packed, and going back alone stops at an undone creation.
    """
    try:
        tids = [entry["tid"] for entry in base.history(oid, _ALL)]
    except POSKeyError:
        tids = []
    before = [*tids, *found] or [maxtid]
    asked = set()
    while before:
        tid = before.pop()
        if tid in asked:
            continue
        asked.add(tid)
        try:
            earlier = base.loadBefore(oid, tid)
        except POSKeyError:
            continue
        if earlier is not None and earlier[0]:
            found[earlier[1]] = earlier[0]
            before.append(earlier[1])
    for tid in tids:
        if tid not in found:
            try:
                record = base.loadSerial(oid, tid)
            except POSKeyError:
                continue  # of an undone creation
            if record:
                found[tid] = record
    return found


def _of_transactions(
    base: Any, scope: Scope, spool: Spool, advance: Callable[[int], None], other: Other | None = None
) -> Iterator[KeptRevision]:
    columns = "oid BLOB", "tid BLOB", "name TEXT", "size INTEGER", "sha256 BLOB", "inline INTEGER"
    table = spool.table(*columns, "damaged TEXT", "object TEXT")
    seen, reached = 0, dict.fromkeys(_ends(base), scope.since)
    for transaction in _transactions(base, scope):
        for end, last in reached.items():
            if last < transaction.tid <= end:
                reached[end] = transaction.tid
        for record in transaction:
            seen += 1
            if seen % _STEP == 0:
                advance(_STEP)
            if not scope.has(record.oid, record.tid):
                continue
            if record.data and is_blob(record.data):
                kept = kept_revision(record.oid, record.tid, record.data)
                inline, rest = int(kept.inline), (kept.damaged, kept.object)
                table.add(kept.oid, kept.tid, kept.name, kept.size, kept.sha256, inline, *rest)
            elif other is not None:
                other(record.oid, record.tid, record.data)
    advance(seen % _STEP)
    for end, last in reached.items():
        if last < end:
            raise ConfigurationError(
                f"the database cannot be read to its end: after transaction 0x{last.hex()} it is damaged, and its last"
                f" one is 0x{end.hex()}; look at it with ZODB's fstest, or restore it"
            )
    return _last_of_each(KeptRevision(*row[:5], bool(row[5]), *row[6:]) for row in table.rows("oid", "tid"))


def _ends(base: Any) -> Iterator[bytes]:
    """The last transaction of each FileStorage, opened just now, whose iterator takes damage for the end: a DemoStorage
    has two storages, and goes on with the second one."""
    inner = innermost(base)
    if isinstance(inner, FileStorage):
        yield inner.lastTransaction()
    elif hasattr(inner, "changes"):
        yield from _ends(inner.base)
        yield from _ends(inner.changes)


def _last_of_each(revisions: Iterable[KeptRevision]) -> Iterator[KeptRevision]:
    """Where one transaction wrote an object twice, as undoing several at once does, the last record counts."""
    waiting = None
    for revision in revisions:
        if waiting is not None and (waiting.oid, waiting.tid) != (revision.oid, revision.tid):
            yield waiting
        waiting = revision
    if waiting is not None:
        yield waiting


def _transactions(base: Any, scope: Scope) -> Iterator[Any]:
    if not hasattr(innermost(base), "blobhelper"):
        windows: Iterable[tuple[bytes | None, bytes | None]] = [(scope.since if any(scope.since) else None, None)]
    else:
        windows = _windows(scope.since)
    for start, stop in windows:
        iterator = base.iterator(start, stop)
        with closing(iterator) if hasattr(iterator, "close") else nullcontext():
            # Not `yield from`: RelStorage's StopIteration of its own crashes CPython 3.11 there.
            for transaction in iterator:  # noqa: UP028
                yield transaction


def _windows(since: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    """A RelStorage holds all transactions of an iterator in memory: it gets one for each month."""
    start = u64(since)
    stop = max(start, u64(TimeStamp(1996, 1, 1).raw()))
    now = u64(TimeStamp(*time.gmtime()[:5], 0.0).raw())
    while stop < now:
        yield p64(start), p64(stop)
        start = stop + 1
        stop += _WINDOW
    yield p64(start), None
