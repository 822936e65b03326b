"""The objects of blobs in a bucket, sorted by oid."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

from ..encryption.segments import unsealed_size
from ..keys import BLOBS, read_foreign_key, read_key
from ..objectstore.interfaces import IListing, IObjectStore, Listed
from .scope import Scope
from .spool import Spool

_STEP = 1000


@dataclass(frozen=True, slots=True)
class BlobObject:
    """One object: its key, what the key says, and its size in bytes. ``tid`` is None under a key of ours.

    ``sealed``: how many bytes its blob has if it was encrypted before it was sent, which a listing does not tell; None
    where it was not, by its size or since the store has no keys.
    """

    oid: bytes
    name: str
    size: int
    key: str
    tid: bytes | None = None
    sealed: int | None = None

    def size_for(self, expected: set[int | None]) -> int:
        """Bytes of its blob, of which somebody else says that it has one of ``expected``."""
        return self.sealed if self.sealed is not None and self.sealed in expected else self.size


def blob_objects(
    store: IObjectStore,
    scope: Scope,
    spool: Spool,
    *,
    with_foreign_keys: bool,
    advance: Callable[[int], None] = lambda count: None,
    passed: Callable[[Listed], None] = lambda line: None,
    listing: IListing | None = None,
) -> Iterator[BlobObject]:
    """What the bucket has under keys of ours within ``scope``, by one listing; all else is passed over.

    ``passed`` is told of each that is, but of those of zodb-s3blobs where they are listed.

    ``listing``: None is the store's own, as of now.
    ``with_foreign_keys``: under those of zodb-s3blobs too, which sort in another way: their part of the listing is read
    first, and sorted in ``spool``. ``advance(n)`` is called with increments of keys read.
    """
    listing = store if listing is None else listing
    opens = store.encryption.ring is not None
    ours = _listed(listing, scope, with_foreign_keys, advance, passed, opens=opens)
    if not with_foreign_keys:
        return ours
    return heapq.merge(_foreign(listing, scope, spool, advance), ours, key=lambda found: found.oid)


def _listed(
    listing: IListing,
    scope: Scope,
    with_foreign_keys: bool,
    advance: Callable[[int], None],
    passed: Callable[[Listed], None],
    *,
    opens: bool,
) -> Iterator[BlobObject]:
    end = f"{BLOBS}{scope.last.hex()}/~"
    for number, line in enumerate(listing.list(BLOBS, start_after=f"{BLOBS}{scope.first.hex()}/"), 1):
        if number % _STEP == 0:
            advance(_STEP)
        if line.key > end:
            return
        named = read_key(line.key)
        if named is not None:
            yield BlobObject(*named, line.size, line.key, sealed=unsealed_size(line.size) if opens else None)
        elif with_foreign_keys and (foreign := read_foreign_key(line.key)) is not None:
            if _is_padded(line.key):
                yield BlobObject(foreign[0], "", line.size, line.key, foreign[1])
        else:
            passed(line)


def _is_padded(key: str) -> bool:
    """Whether the oid has all its digits, and so sorts among ours."""
    return len(key.split("/")[1]) == 16


def _foreign(listing: IListing, scope: Scope, spool: Spool, advance: Callable[[int], None]) -> Iterator[BlobObject]:
    table = spool.table("oid BLOB", "tid BLOB", "size INTEGER", "key TEXT")
    # Ours begin with a zero, theirs do not, but for oid 0.
    theirs = chain(listing.list(f"{BLOBS}0/"), listing.list(BLOBS, start_after=f"{BLOBS}1"))
    for number, line in enumerate(theirs, 1):
        if number % _STEP == 0:
            advance(_STEP)
        foreign = read_foreign_key(line.key)
        if foreign is not None and not _is_padded(line.key) and scope.has(foreign[0]):
            table.add(*foreign, line.size, line.key)
    return (BlobObject(oid, "", size, key, tid) for oid, tid, size, key in table.rows("oid", "tid"))
