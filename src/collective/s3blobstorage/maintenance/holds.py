"""Legal holds: the store deletes no version of a blob that has one, whatever its retention (Object Lock).

A hold is of the object that a blob has now. What takes its place in the blob gets one of its own, or none, and what was
replaced keeps its hold, hidden or not, until it is released by its version.

A shared object (``dedup``) is never held: who releases one blob would release all others that share it. A blob that is
to be held gets an object of its own beside it, a copy that the store makes; it is in use as long as its revision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ZODB.utils import maxtid

from ..errors import BlobMissing, ConfigurationError, Refused
from ..keys import OBJECTS, blob_key
from ..objectstore.interfaces import IObjectStore
from ..storage.reading import BlobReader, state_of

# (oid, tid) -> (record, tid of the record, next tid) | None, as IStorage.loadBefore
LoadBefore = Callable[[bytes, bytes], Any]

BUCKET, RECORD, ELSEWHERE = "bucket", "record", "elsewhere"


@dataclass(frozen=True, slots=True)
class Hold:
    """Of a blob's present revision. ``where``: its bytes are in the bucket, in its record, or nowhere in the bucket:
    in a source, or missing. Only what is in the bucket can be held. ``key``: of its object there."""

    oid: bytes
    tid: bytes
    where: str
    key: str = ""
    held: bool = False

    @property
    def shared(self) -> bool:
        """Whether that object is one that equal blobs share."""
        return self.key.startswith(OBJECTS)


class Holds:
    """Of one database. Any thread. All raise BlobMissing for an oid that is no blob's, RecordError where its record is
    damaged, and what the store raises; ``load_before`` sees what is committed by now."""

    def __init__(
        self, store: IObjectStore, reader: BlobReader, load_before: LoadBefore, *, writable: bool = True
    ) -> None:
        self._writable = writable
        self._store = store
        self._reader = reader
        self._load_before = load_before

    def of(self, oid: bytes) -> Hold:
        """Two requests, up to five where a HEAD tells nothing of holds or it shares its object."""
        found, _ = self._found(oid)
        if found.where != BUCKET:
            return found
        held = not found.shared and self._store.lock_of(found.key).legal_hold
        return Hold(oid, found.tid, BUCKET, found.key, held)

    def set(self, oid: bytes, on: bool) -> Hold:
        """Set or release it. Two requests, and two more where it shares its object. Raises ConfigurationError where the
        bucket has no Object Lock, Refused where nothing may be written here."""
        if not self._writable:
            raise Refused("The database was opened for reading only, so that nothing is held or released here.")
        found, own = self._found(oid)
        if found.where != BUCKET or (found.shared and not on):
            return found
        key = found.key
        if found.shared:
            self._copy(key, own, oid)
            key = own
        try:
            self._store.hold(key, on)
        except Refused:
            if self._store.locks_objects() is False:
                raise ConfigurationError(NO_LOCK) from None
            raise
        return Hold(oid, found.tid, BUCKET, key, on)

    def _found(self, oid: bytes) -> tuple[Hold, str]:
        """Where it is, without asking whether it is held; and the key of its own object, be it there or not."""
        found = self._load_before(oid, maxtid)
        if found is None or not found[0]:
            raise BlobMissing(oid)
        record, tid = found[0], found[1]
        state = state_of(record, oid, tid)
        if state.inline is not None:
            return Hold(oid, tid, RECORD), ""
        location = self._reader.location(oid, tid, state)
        key, own = self._reader.find(location), blob_key(oid, location.name)
        if key is None:
            return Hold(oid, tid, ELSEWHERE), own
        if key.startswith(OBJECTS) and self._store.head(own) is not None:
            key = own
        return Hold(oid, tid, BUCKET, key), own

    def _copy(self, shared: str, own: str, oid: bytes) -> None:
        """Make the blob an object of its own."""
        metadata = {"oid": oid.hex()}
        info = self._store.head(shared)
        if info is not None:
            metadata |= {name: info.metadata[name] for name in ("size", "sha256") if name in info.metadata}
        self._store.copy(shared, own, metadata=metadata)


NO_LOCK = (
    "a legal hold needs Object Lock, and the bucket has none: aws s3api put-object-lock-configuration switches it on in"
    " a bucket that keeps versions (docs/retention.md)"
)
