"""The blob records of a base storage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ZODB.interfaces import IStorageCurrentRecordIteration
from ZODB.POSException import POSKeyError
from ZODB.utils import load_current, maxtid, p64, u64, z64

from ..errors import ConfigurationError
from ..storage.record import BlobState, is_blob, read_state

_STEP = 1000  # records between two calls of ``advance``


@dataclass(frozen=True, slots=True)
class BlobRevision:
    """One blob record: which revision it is, and what it says."""

    oid: bytes
    tid: bytes
    record: bytes

    @property
    def state(self) -> BlobState:
        """Raises RecordError where the record is damaged."""
        return read_state(self.record) or BlobState()


def current_records(
    base: Any, first: bytes | None = None, advance: Callable[[int], None] = lambda count: None
) -> Iterator[tuple[bytes, bytes, bytes | None]]:
    """(oid, tid, record) of every object, in the order of oids, each record read once.

    The record is None where the object has no current one: its creation was undone, or it was deleted. Only a base that
    goes on from an oid (FileStorage, a ZEO client of one) tells those. ``first``: the oid to begin with, for such a
    base. ``advance(n)`` is called with increments of objects seen. In the thread of the caller; memory does not grow.
    """
    seen = 0
    following: Any = first
    while True:
        try:
            oid, tid, record, following = base.record_iternext(following)
        except POSKeyError as error:
            # FileStorage stops at an object without a current record instead of passing over it.
            oid, tid, record = error.args[0], z64, None
            if not (isinstance(oid, bytes) and len(oid) == 8) or oid == maxtid:
                raise
            following = p64(u64(oid) + 1)
        except Exception as error:
            if not tells_the_end(error):
                raise
            break
        yield oid, tid, record
        seen += 1
        if seen % _STEP == 0:
            advance(_STEP)
        if following is None:
            break
    advance(seen % _STEP)


def tells_the_end(error: Exception) -> bool:
    """Whether ``record_iternext`` raised it because no object is left: FileStorage, RelStorage, FileStorage by ZEO."""
    return isinstance(error, (ValueError, StopIteration)) or error.args[:1] == ("builtins.ValueError",)


def current_blobs(base: Any, advance: Callable[[int], None] = lambda count: None) -> Iterator[BlobRevision]:
    """The current revision of every blob, in the order of oids. Reads every record of the database once.

    ``advance(n)`` is called with increments of records read. Raises ConfigurationError where the base cannot list its
    records. In the thread of the caller; memory does not grow.
    """
    if not IStorageCurrentRecordIteration.providedBy(base):
        raise ConfigurationError(f"a {type(base).__name__} cannot list its records; name the blobs with --oid")
    for oid, tid, record in current_records(base, advance=advance):
        if record and is_blob(record):
            yield BlobRevision(oid, tid, record)


def blobs_of(base: Any, oids: Iterable[bytes]) -> Iterator[BlobRevision | bytes]:
    """The current revision of each of those; the oid itself where there is no such object or it is no blob."""
    for oid in oids:
        try:
            record, tid = load_current(base, oid)
        except POSKeyError:
            yield oid
            continue
        yield BlobRevision(oid, tid, record) if is_blob(record) else oid
