"""A database and a bucket of very many blobs that are nowhere: each record, and each line of a listing, is computed
when somebody asks for it. For what garbage collection and fsck take of memory and disk; no request is made.

The base iterates by transactions, newest blobs first, so that what is compared by oid has to be sorted.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ZODB.blob import Blob
from ZODB.interfaces import IStorageIteration
from ZODB.POSException import POSKeyError
from ZODB.serialize import ObjectWriter
from ZODB.utils import p64, u64, z64
from zope.interface import implementer

from collective.s3blobstorage.encryption.none import Unencrypted
from collective.s3blobstorage.keys import MARKER, blob_key, object_key, reference_key, shared_name
from collective.s3blobstorage.objectstore.interfaces import Listed
from collective.s3blobstorage.storage.record import BlobState, with_state

UNREFERENCED = 10  # shared objects to which nothing refers
DEAD_EACH = 50  # one of so many objects is not the one that the database uses
SIZE = 65536
WRITTEN = datetime(2026, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 6, 1, tzinfo=UTC)
_EACH = 1000  # records in a transaction
_EMPTY = ObjectWriter().serialize(Blob())
_ROOT = b"\x80\x03cno.such\nMapping\n.\x80\x03}."
_SPREAD = 0x9E3779B97F4A7C15F39CC0605CEDC835  # odd, so that no two numbers get one name


def name(number: int, *, dead: bool = False) -> str:
    return f"{(2 * number + dead) * _SPREAD & (1 << 128) - 1:032x}"


def is_dead(number: int) -> bool:
    return number % DEAD_EACH == DEAD_EACH - 1


def key(number: int) -> str:
    """Of the bucket's object of that number, from 0 on; its oid is the next number."""
    return blob_key(p64(number + 1), name(number, dead=is_dead(number)))


def record(number: int) -> bytes:
    return with_state(_EMPTY, BlobState(name(number), SIZE, hashlib.sha256(b"").digest()))


@dataclass(frozen=True)
class _Record:
    oid: bytes
    tid: bytes
    data: bytes


class _Transaction:
    def __init__(self, tid: bytes, numbers: range) -> None:
        self.tid, self._numbers, self.status = tid, numbers, " "

    def __iter__(self) -> Iterator[_Record]:
        return (_Record(p64(number + 1), self.tid, record(number)) for number in self._numbers)


@implementer(IStorageIteration)
class Base:
    """As many blobs, each of one revision."""

    def __init__(self, count: int) -> None:
        self._count = count

    def lastTransaction(self) -> bytes:  # noqa: N802 - so ZODB wants it
        return p64(self._count // _EACH + 2)

    def iterator(self, start: Any = None, stop: Any = None) -> Iterator[_Transaction]:
        for number, first in enumerate(range(0, self._count, _EACH)[::-1], 1):
            yield _Transaction(p64(number), range(first, min(first + _EACH, self._count)))

    def load(self, oid: bytes, version: str = "") -> tuple[bytes, bytes]:
        if oid == z64:
            return _ROOT, p64(1)
        number = u64(oid) - 1
        if not 0 <= number < self._count:
            raise POSKeyError(oid)
        return record(number), self._tid(number)

    def loadBefore(self, oid: bytes, tid: bytes) -> tuple[bytes, bytes, None] | None:  # noqa: N802
        data, at = self.load(oid)
        return (data, at, None) if at < tid else None

    def loadSerial(self, oid: bytes, tid: bytes) -> bytes:  # noqa: N802
        data, at = self.load(oid)
        if at != tid:
            raise POSKeyError(oid)
        return data

    def history(self, oid: bytes, size: int = 1) -> list[dict[str, Any]]:
        return [{"tid": self.load(oid)[1]}]

    def _tid(self, number: int) -> bytes:
        return p64(-(-self._count // _EACH) - number // _EACH)

    def close(self) -> None:
        pass


class _Keys:
    """All of a listing, as a sorted sequence that is not in memory."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count + 1

    def __getitem__(self, number: int) -> str:
        return key(number - 1) if number else MARKER


class _SharedKeys:
    """The same, of blobs that share objects by threes, in no order; some objects more have no reference."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.objects = count // 3
        self._step = next(step for step in (7919, 104729, 15485863) if self.objects % step)

    def __len__(self) -> int:
        return 1 + self._count + self.objects + UNREFERENCED

    def __getitem__(self, number: int) -> str:
        if not 0 < number <= self._count:
            return object_key(self._shared(number - self._count - 1)) if number else MARKER
        number -= 1
        shared = self._shared(number * self._step % self.objects)
        return reference_key(p64(number + 1), name(number, dead=is_dead(number)), shared)

    def _shared(self, number: int) -> str:
        """Spread as hashes are, and in order."""
        return shared_name((number * ((1 << 256) // (self.objects + UNREFERENCED))).to_bytes(32, "big"), 0)


class Bucket:
    """What a plan of garbage collection and an fsck ask of a store."""

    encryption = Unencrypted()

    def __init__(self, count: int) -> None:
        self.keys = _Keys(count)
        self.heads = 0

    def now(self) -> datetime:
        return NOW

    def list(self, prefix: str = "", *, start_after: str = "", page_size: int = 1000) -> Iterator[Listed]:
        begin = bisect_right(self.keys, start_after) if start_after > prefix else bisect_left(self.keys, prefix)
        for number in range(begin, len(self.keys)):
            found = self.keys[number]
            if found.startswith(prefix):
                yield Listed(found, SIZE, name(number), WRITTEN, "STANDARD")
            elif found > prefix:
                return

    def list_uploads(self, prefix: str = "") -> Iterator[tuple[str, str, datetime]]:
        return iter(())

    def stored(self, key: str) -> None:
        self.heads += 1


class SharingBucket(Bucket):
    """The same, where blobs share objects."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.keys: Any = _SharedKeys(count)
