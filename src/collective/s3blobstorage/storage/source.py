"""Where a blob revision's bytes come from: an object of the bucket, or the record itself."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

from ZODB.utils import oid_repr, tid_repr
from zope.interface import implementer

from ..cache.interfaces import IBlobSource
from ..errors import BlobMissing, ObjectMissing
from ..keys import blob_key
from ..objectstore.connection import recorded_sha256
from ..objectstore.interfaces import IObjectStore, ObjectInfo
from .referred import Referred

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Location:
    """Where a revision's data is: the keys to try in order, and what must arrive (None: not known)."""

    oid: bytes
    tid: bytes
    keys: tuple[str, ...]
    size: int | None
    sha256: bytes | None
    name: str = ""  # of the revision; "" where its bytes are in its record


@implementer(IBlobSource)
class ObjectSource:
    """An object of the bucket, under the first of the location's keys that exists. See ``IBlobSource``.

    ``referred``: where none does, the object that a reference leads to is looked for; None: it is not, as somebody else
    is asked first. ``miss_level``: of the log, for an object that is not there. It is an error where no other place is
    asked.
    """

    def __init__(
        self,
        store: IObjectStore,
        location: Location,
        *,
        referred: Referred | None = None,
        miss_level: int = logging.ERROR,
    ) -> None:
        self._store = store
        self._location = location
        self._referred = referred
        self._miss_level = miss_level
        # Threads may set these at once; all set the same, since a key is written once.
        self._size = location.size
        self._sha256 = location.sha256

    def __repr__(self) -> str:
        return f"<ObjectSource {oid_repr(self._location.oid)} {tid_repr(self._location.tid)}>"

    @property
    def described(self) -> tuple[int, bytes | None] | None:
        size = self._size
        return None if size is None else (size, self._sha256)

    def describe(self) -> tuple[int, bytes | None]:
        if self._size is None:
            info = self._first(self._head)
            self._sha256 = self._sha256 or recorded_sha256(info.metadata)
            self._size = info.size  # last: then both are known
        return self._size, self._sha256

    def _head(self, key: str) -> ObjectInfo:
        info = self._store.head(key)
        if info is None:
            raise ObjectMissing("There is no such object.")
        return info

    def download(self, file: BinaryIO) -> None:
        started = time.monotonic()
        self._first(lambda key: self._store.get_file(key, file, size=self._size, sha256=self._sha256))
        self._log("", started)

    def read(self, start: int, length: int, write: Callable[[bytes | memoryview], None], validator: str | None) -> str:
        started = time.monotonic()
        info = self._first(
            lambda key: self._store.get_range(key, start, length, write, size=self._size, if_match=validator)
        )
        self._log(f" {length} bytes from {start}", started)
        return info.etag

    def _log(self, part: str, started: float) -> None:
        if not logger.isEnabledFor(logging.DEBUG):  # a tid as text costs as much as a system call
            return
        oid, tid = oid_repr(self._location.oid), tid_repr(self._location.tid)
        logger.debug("fetched%s of blob %s at %s in %.3f s", part, oid, tid, time.monotonic() - started)

    def _first(self, request: Callable[[str], T]) -> T:
        """What ``request`` returns for the first of the keys that exists. BlobMissing where none does."""
        location = self._location
        own = blob_key(location.oid, location.name)
        known = None if self._referred is None else self._referred.known(own)
        for key in location.keys if known is None else (known, *location.keys):
            try:
                return request(key)
            except ObjectMissing:
                continue
        if self._referred is not None:
            for key in self._referred.look(location.oid, location.name, location.sha256):
                try:
                    result = request(key)
                except ObjectMissing:
                    continue
                self._referred.note(own, key)
                return result
        logger.log(
            self._miss_level,
            "the object of blob %s is not in the bucket: %s",
            oid_repr(location.oid),
            " or ".join(location.keys),
        )
        raise BlobMissing(location.oid, location.tid)


@implementer(IBlobSource)
class InlineSource:
    """A blob whose bytes are in its record."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    @property
    def described(self) -> tuple[int, bytes | None]:
        return self.describe()

    def describe(self) -> tuple[int, bytes | None]:
        return len(self.data), hashlib.sha256(self.data).digest()

    def download(self, file: BinaryIO) -> None:
        file.write(self.data)

    def read(self, start: int, length: int, write: Callable[[bytes | memoryview], None], validator: str | None) -> str:
        write(memoryview(self.data)[start : start + length])
        return ""
