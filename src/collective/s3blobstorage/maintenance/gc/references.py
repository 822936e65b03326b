"""Which objects the kept revisions of a blob use: one oid at a time, the current record first.

Whoever asks gives a view of the base that is newer than the listing. History is asked only where the current record
does not use every object that the listing has of the oid.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from ZODB.POSException import POSKeyError
from ZODB.utils import load_current, maxtid, oid_repr, p64, u64, z64

from ...errors import RecordError
from ...storage.record import BlobState, read_state, written_name
from ..kept import is_kept, is_zeo_client, revisions_of
from ..looks import looked_at

logger = logging.getLogger(__name__)

OLD = ".blob"  # ends the names of zodb-s3blobs


class View:
    """One look at a base. For one thread. ``damaged``: oids of which a record cannot be read; all theirs is in use.

    ``live``: the base is in use, and was not opened for this look. The cache of a ZEO client then still has objects
    that its server has packed away, of which no client is told.
    """

    def __init__(self, base: Any, *, live: bool = False) -> None:
        self.base = base
        self.damaged: list[bytes] = []
        self._current = getattr(base, "load", None) or (lambda oid: load_current(base, oid))
        self._prefetch = _prefetch_of(base)
        self._is_client = is_zeo_client(base)
        if self._is_client and live:
            self._current = lambda oid: _on_server(base, oid)
            self._prefetch = lambda oids: None
        elif self._is_client:  # from its cache, which the prefetch fills
            _quiet_prefetches()
            before = p64(u64(base.lastTransaction()) + 1)
            self._current = lambda oid: _found(base.loadBefore(oid, before), oid)

    def last(self) -> bytes:
        """The last transaction that it shows; all zeros where there is none."""
        return self.base.lastTransaction() or z64

    def is_empty(self) -> bool:
        """Whether the database has no root object: it is new, or was opened by mistake."""
        try:
            self._current(z64)
        except POSKeyError:
            return True
        return False

    def tid_of(self, oid: bytes) -> bytes | None:
        """Of the current record; None where there is none, as after a deletion, an undone creation, or a pack."""
        try:
            return self._current(oid)[1]
        except POSKeyError:
            return None

    def prefetch(self, oids: Sequence[bytes]) -> None:
        """These will be asked for next: one round trip for all where the base can."""
        self._prefetch(oids)

    def names_just(self, oid: bytes, name: str) -> bool:
        """Whether the current record is as this release writes it and names that object of ours.

        Where not, nothing is said: ``used`` looks closer. Of a million blobs nearly all are such.
        """
        try:
            return written_name(self._current(oid)[0]) == name
        except POSKeyError:
            return False

    def used(self, oid: bytes, names: set[str]) -> set[str]:
        """Those of ``names`` that a kept revision uses: names of ours, and ``{tid:016x}.blob`` of zodb-s3blobs.

        All of them where a record cannot be read.
        """
        try:
            return names & self._used(oid, names)
        except RecordError as error:
            logger.warning("a record of blob %s cannot be read, so all its objects stay: %s", oid_repr(oid), error)
            self.damaged.append(oid)
            return names

    def _used(self, oid: bytes, names: set[str]) -> set[str]:
        records: dict[bytes, bytes] = {}
        used: set[str] = set()
        try:
            record, tid = self._current(oid)[:2]
        except POSKeyError:  # its creation was undone, it was deleted, or packed away
            pass
        else:
            if record:
                state = read_state(record)
                records[tid] = record
                used = _names(state, tid)
                if names <= used:
                    return used
        for tid, record in revisions_of(self.base, oid, records).items():
            found = _names(read_state(record), tid)
            # A ZEO client's cache still has what the server has packed away: that is asked by loadSerial.
            if names & found - used and (not self._is_client or is_kept(self.base, oid, tid)):
                used |= found
        return used


def _names(state: BlobState | None, tid: bytes) -> set[str]:
    """Under which names the object of a revision may lie, given what its record says."""
    if state is None or state.inline is not None:
        return set()
    # Also {tid}, and what zodb-s3blobs called it, of a record that has a name: readers do not look there, but somebody
    # put it there for that very revision, and nothing is lost by keeping it.
    return {state.name_at(tid), tid.hex(), tid.hex() + OLD}


def _found(found: Any, oid: bytes) -> Any:
    if found is None or not found[0]:
        raise POSKeyError(oid)
    return found


def _on_server(base: Any, oid: bytes) -> tuple[bytes, bytes]:
    """The current record of a ZEO client that is in use, if the server still has it."""
    record, tid = _found(base.loadBefore(oid, maxtid), oid)[:2]
    return base.loadSerial(oid, tid), tid


class _NotThere(logging.Filter):
    """ZEO logs a traceback for each object of a prefetch that is gone, and those that gc asks for often are."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Exception for prefetch")


def _quiet_prefetches() -> None:
    log = logging.getLogger("ZEO.asyncio.client")
    if not any(isinstance(each, _NotThere) for each in log.filters):
        log.addFilter(_NotThere())


def _prefetch_of(base: Any) -> Callable[[Sequence[bytes]], None]:
    prefetch = getattr(base, "prefetch", None)
    if prefetch is None:
        return lambda oids: None
    if is_zeo_client(base):
        return lambda oids: prefetch(oids, p64(u64(base.lastTransaction()) + 1))
    return lambda oids: prefetch(oids)


# A view that is newer than everything before the call; closed at the end.
Views = Callable[[], AbstractContextManager[View]]


@contextmanager
def view_of(base: Any) -> Iterator[View]:
    """Of a base that is open and in use, from any thread."""
    with looked_at(base) as look:
        yield View(look, live=True)
