"""From a revision to its bytes: record, key, cache, bucket."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from ZODB.blob import BlobFile
from ZODB.POSException import POSKeyError
from ZODB.utils import oid_repr, p64, tid_repr, u64

from ..cache.interfaces import IBlobCache
from ..errors import BlobMissing, ObjectMissing
from ..objectstore.interfaces import IObjectStore
from .keys import blob_key, foreign_keys
from .record import BlobState, read_state

logger = logging.getLogger(__name__)

# (oid, tid) -> (record, tid of the record, next tid) | None, as IStorage.loadBefore
LoadBefore = Callable[[bytes, bytes], "tuple[bytes, bytes, bytes | None] | None"]


def read_exact(load_before: LoadBefore, oid: bytes, tid: bytes) -> bytes:
    """The record of exactly that revision. BlobMissing where the base has none.

    ``loadBefore`` and not ``loadSerial``: a ZEO client answers it from its cache.
    """
    try:
        found = load_before(oid, p64(u64(tid) + 1))
    except POSKeyError:
        found = None
    if found is None or found[1] != tid or not found[0]:
        raise BlobMissing(oid, tid)
    return found[0]


@dataclass(frozen=True, slots=True)
class Location:
    """Where a revision's data is: the keys to try in order, and what must arrive (None: not known)."""

    oid: bytes
    tid: bytes
    keys: tuple[str, ...]
    size: int | None
    sha256: bytes | None


class BlobReader:
    """Reads blobs for a root storage and all its instances. Any thread."""

    def __init__(self, store: IObjectStore, cache: IBlobCache, *, with_foreign_keys: bool):
        self._store = store
        self._cache = cache
        self.with_foreign_keys = with_foreign_keys

    def locate(self, load_before: LoadBefore, oid: bytes, tid: bytes) -> Location:
        state = read_state(read_exact(load_before, oid, tid))
        if state is None:
            raise BlobMissing(oid, tid)
        return self.location(oid, tid, state)

    def location(self, oid: bytes, tid: bytes, state: BlobState) -> Location:
        keys: tuple[str, ...] = (blob_key(oid, state.name_at(tid)),)
        if state.name is None and self.with_foreign_keys:
            keys += foreign_keys(oid, tid)
        return Location(oid, tid, keys, state.size, state.sha256)

    def path(self, load_before: LoadBefore, oid: bytes, tid: bytes) -> str:
        """The path of the complete file; fetched where it is not in the cache."""
        cached = self._cache.get(oid, tid)
        if cached is None:
            cached = self._cache.fetch(oid, tid, self._download(load_before, oid, tid))
        return os.fspath(cached)

    def open(self, load_before: LoadBefore, oid: bytes, tid: bytes, blob: Any = None) -> BinaryIO:
        """The file opened for reading: a ``BlobFile`` where a blob is given, as ZODB's own blob storage does."""

        def opener(path: Any) -> BinaryIO:
            return open(path, "rb") if blob is None else BlobFile(os.fspath(path), "r", blob)

        cached = self._cache.get(oid, tid)
        if cached is not None:
            try:
                return opener(cached)
            except FileNotFoundError:  # evicted since; fetched again below
                pass
        return self._cache.open(oid, tid, self._download(load_before, oid, tid), opener=opener)

    def _download(self, load_before: LoadBefore, oid: bytes, tid: bytes) -> Callable[[BinaryIO], None]:
        # The record is read here and not in `download`, whose errors reach every waiting thread: another thread's
        # connection may see a revision that ours does not see any more.
        location = self.locate(load_before, oid, tid)

        def download(file: BinaryIO) -> None:
            self.fetch(location, file)

        return download

    def fetch(self, location: Location, file: BinaryIO) -> None:
        """Write the revision's bytes, checked, to an empty file."""
        started = time.monotonic()
        for key in location.keys:
            try:
                self._store.get_file(key, file, size=location.size, sha256=location.sha256)
            except ObjectMissing:
                continue
            logger.debug(
                "fetched blob %s at %s in %.3f s",
                oid_repr(location.oid),
                tid_repr(location.tid),
                time.monotonic() - started,
            )
            return
        logger.error(
            "the object of blob %s is not in the bucket: %s", oid_repr(location.oid), " or ".join(location.keys)
        )
        raise BlobMissing(location.oid, location.tid)

    def find(self, location: Location) -> str | None:
        """The first of the keys that exists, with the size that it must have, or None."""
        for key in location.keys:
            info = self._store.head(key)
            if info is not None and location.size in (None, info.size):
                return key
        return None
