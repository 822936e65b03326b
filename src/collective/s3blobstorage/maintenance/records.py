"""The blob records of a base storage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ZODB.interfaces import IStorageCurrentRecordIteration
from ZODB.POSException import POSKeyError
from ZODB.utils import load_current

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


def current_blobs(base: Any, advance: Callable[[int], None] = lambda count: None) -> Iterator[BlobRevision]:
    """The current revision of every blob, in the order of oids. Reads every record of the database once.

    ``advance(n)`` is called with increments of records read. Raises ConfigurationError where the base cannot list its
    records. In the thread of the caller; memory does not grow.
    """
    if not IStorageCurrentRecordIteration.providedBy(base):
        raise ConfigurationError(f"a {type(base).__name__} cannot list its records; name the blobs with --oid")
    seen = 0
    following = None
    while True:
        try:
            oid, tid, record, following = base.record_iternext(following)
        except ValueError:  # FileStorage: the database is empty
            break
        if record and is_blob(record):
            yield BlobRevision(oid, tid, record)
        seen += 1
        if seen % _STEP == 0:
            advance(_STEP)
        if following is None:
            break
    advance(seen % _STEP)


def blobs_of(base: Any, oids: Iterable[bytes]) -> Iterator[BlobRevision | bytes]:
    """The current revision of each of those; the oid itself where there is no such object or it is no blob."""
    for oid in oids:
        try:
            record, tid = load_current(base, oid)
        except POSKeyError:
            yield oid
            continue
        yield BlobRevision(oid, tid, record) if is_blob(record) else oid
