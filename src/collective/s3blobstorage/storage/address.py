"""Where a revision lies in the bucket, for whoever sends others there instead of reading it: decided without loading
it.

Only what is certain has an address. The rest is read through the storage, which finds it in its record, in a source, or
not at all, and says so.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from ..cache.interfaces import IBlobCache
from ..errors import StoreError
from ..keys import OBJECTS
from ..objectstore.interfaces import IObjectStore
from ..objectstore.patience import Clock
from ..overlay.interfaces import IOverlay
from ..overlay.negative import NegativeCache
from ..settings import DeliverySettings
from .mirrored import read_both
from .reading import BlobReader, state_of

# Seconds for which the bucket's word that nothing is only in a source is taken without asking again. It is taken back
# only by an operator's run that found something missing.
ASK_AGAIN = 60.0


@dataclass(frozen=True, slots=True)
class Address:
    """An object that has the revision's bytes. ``size`` in bytes and ``sha256`` (32 raw bytes) as its record says, if
    it does.

    ``store`` signs URLs of ``key``; ``delivery``: what zope.conf says about these.
    """

    oid: bytes
    tid: bytes
    key: str
    size: int | None
    sha256: bytes | None
    store: IObjectStore = field(repr=False)
    delivery: DeliverySettings = field(repr=False)


class Addresses:
    """Of one storage. Any thread.

    ``certain``: whether a revision that a record names lies in the bucket where no source is configured: not in a copy
    for development, where missing blobs are a matter of course.
    """

    def __init__(
        self,
        reader: BlobReader,
        store: IObjectStore,
        cache: IBlobCache,
        overlay: IOverlay,
        delivery: DeliverySettings,
        clock: Clock,
        *,
        certain: bool,
    ) -> None:
        self._reader = reader
        self._store = store
        self._cache = cache
        self._overlay = overlay
        self.delivery = delivery
        self._clock = clock
        self._certain = certain
        self._lock = threading.Lock()
        self._mark: bytes | None = None
        # As ``note_moving`` says it: what was found before does not count any more. None: nobody knows.
        self._moved: str | None = ""
        self._asked: float | None = None
        self._lately = NegativeCache(ASK_AGAIN, clock.monotonic)  # objects that may be converted, seen a moment ago

    def of(self, oid: bytes, tid: bytes, record: bytes) -> Address | None:
        """None where it is inline or not in the bucket, or where that cannot be told; and where a key of ours may be
        needed to read it.

        Makes no request where the record says enough, else one HEAD for each key that it may have, whose success the
        cache folder remembers (that of an object which `s3blobs dedup` may take away: this process, for ``ASK_AGAIN``
        seconds). Where none is there, and the prefix has shared objects, a LIST of the revision's references. With
        sources a GET of their mark at most every ``ASK_AGAIN`` seconds. Raises BlobMissing where the record is no
        blob's, RecordError where it is damaged; nothing of the store.
        """
        state = state_of(record, oid, tid)
        if state.inline is not None or self._store.own_keys:
            return None
        location = self._reader.location(oid, tid, state)
        candidates = self._reader.candidates(location)
        key: str | None = candidates[0]
        if len(candidates) > 1 or self._reader.deduplicated or not self._is_certain(tid):
            self._mirrored()
            moved, key = self._moved, None
            if moved is not None:
                key = next((known for known in candidates if self._is_known(moved, known)), None)
            if key is None:
                try:
                    key = self._reader.find(location, references=self._reader.deduplicated)
                except StoreError:
                    return None
                if key is None:
                    return None
                if moved is not None:
                    self._remember(moved, key)
        self._reader.notes.note(oid)
        return Address(oid, tid, key, state.size, state.sha256, self._store, self.delivery)

    def _is_known(self, moved: str, key: str) -> bool:
        said = moved + key
        return said in self._cache.found if self._stays(key) else said.encode() in self._lately

    def _remember(self, moved: str, key: str) -> None:
        if self._stays(key):
            self._cache.found.note(moved + key)
        else:
            self._lately.note((moved + key).encode())

    def _stays(self, key: str) -> bool:
        """Whether what is there once stays as long as the revision does: not an object that may be converted."""
        return key.startswith(OBJECTS) or not self._reader.deduplicated

    def _is_certain(self, tid: bytes) -> bool:
        if not self._certain:
            return False
        if not self._overlay.names:
            return True
        mark = self._mirrored()
        return mark is not None and tid <= mark

    def _mirrored(self) -> bytes | None:
        """Up to which transaction nothing is only in a source. Where none is configured nothing is asked."""
        if not self._overlay.names:
            return None
        now = self._clock.monotonic()
        if self._asked is not None and now - self._asked < ASK_AGAIN:
            return self._mark
        # One thread asks. The others go on with what they know, which is at worst a HEAD too many; but for the first
        # time, when they know nothing.
        first = self._asked is None
        if self._lock.acquire(blocking=first):
            try:
                if first and self._asked is not None:
                    return self._mark
                found, self._moved = read_both(self._store)
                self._mark = found.tid if found is not None else None
                self._asked = now
            except StoreError:
                self._mark = self._moved = None
                self._asked = now
            finally:
                self._lock.release()
        return self._mark
