"""The objects of blobs in a bucket, sorted by oid."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

from ..encryption.segments import unsealed_size
from ..keys import (
    BLOBS,
    OBJECTS,
    blob_key,
    object_key,
    read_foreign_key,
    read_key,
    read_object_key,
    read_reference_key,
    reference_key,
)
from ..objectstore.interfaces import IListing, IObjectStore, Listed
from ..storage.owner import Marker
from .scope import Scope
from .spool import Spool, Table

_STEP = 1000


@dataclass(frozen=True, slots=True)
class BlobObject:
    """One object: its key, what the key says, and its size in bytes. ``tid`` is None under a key of ours.

    ``sealed``: how many bytes its blob has if it was encrypted before it was sent, which a listing does not tell; None
    where it was not, by its size or since the store has no keys. ``shared``: the name of the shared object that it is,
    "" where it is the revision's own; then ``oid`` and ``name`` are of the revision that refers to it.
    """

    oid: bytes
    name: str
    size: int
    key: str
    tid: bytes | None = None
    sealed: int | None = None
    shared: str = ""

    def size_for(self, expected: set[int | None]) -> int:
        """Bytes of its blob, of which somebody else says that it has one of ``expected``."""
        return self.sealed if self.sealed is not None and self.sealed in expected else self.size

    @property
    def own_key(self) -> str:
        """What the bucket has for this revision alone: its object, or its reference."""
        return reference_key(self.oid, self.name, self.shared) if self.shared else self.key


@dataclass(frozen=True)
class Sharing:
    """Who is told of shared objects, in the thread that reads the stream.

    ``found(name, line, references)``: each in the bucket, with how many of the references within the scope name it.
    ``broken(oid, name, shared)``: a reference within the scope, whose object is not in the bucket.
    """

    found: Callable[[str, Listed, int], None] = lambda name, line, references: None
    broken: Callable[[bytes, str, str], None] = lambda oid, name, shared: None


def blob_objects(
    store: IObjectStore,
    scope: Scope,
    spool: Spool,
    marker: Marker,
    *,
    advance: Callable[[int], None] = lambda count: None,
    passed: Callable[[Listed], None] = lambda line: None,
    listing: IListing | None = None,
    sharing: Sharing | None = None,
) -> Iterator[BlobObject]:
    """What the bucket has under keys of ours within ``scope``, by one listing; all else is passed over.

    ``passed`` is told of each that is, but of those of zodb-s3blobs where they are listed. ``advance(n)`` is called
    with increments of keys read.

    What the ``marker`` says is looked for. Where there are ``foreign_keys``, also under those of zodb-s3blobs, which
    sort in another way: their part of the listing is read first, and sorted in ``spool``. In a prefix that is
    ``deduplicated`` a revision that refers to a shared object has that one, with its key and size, where it exists; one
    that has both an object of its own and a reference comes twice. The listing goes into ``spool``, and then those
    references are brought together with a listing of the shared objects.

    ``listing``: None is the store's own, as of now.
    """
    listing = store if listing is None else listing
    opens = store.encryption.ring is not None
    with_foreign_keys = marker.foreign_keys
    if marker.deduplicated:
        ours = _with_shared(
            listing, scope, spool, with_foreign_keys, advance, passed, sharing or Sharing(), opens=opens
        )
    else:
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


# Shared objects


def _with_shared(
    listing: IListing,
    scope: Scope,
    spool: Spool,
    with_foreign_keys: bool,
    advance: Callable[[int], None],
    passed: Callable[[Listed], None],
    sharing: Sharing,
    *,
    opens: bool,
) -> Iterator[BlobObject]:
    own = spool.table("oid BLOB", "name TEXT", "size INTEGER", "tid BLOB", "key TEXT")
    references = spool.table("oid BLOB", "name TEXT", "shared TEXT")

    def other(line: Listed) -> None:
        reference = read_reference_key(line.key)
        if reference is None:
            passed(line)
        else:
            references.add(*reference)

    for found in _listed(listing, scope, with_foreign_keys, advance, other, opens=opens):
        own.add(found.oid, found.name, found.size, found.tid, None if found.tid is None else found.key)
    # After the references: of what a writer makes meanwhile, the reference is there before the object.
    shared = _joined(listing, references, spool, advance, passed, sharing)

    def ours() -> Iterator[BlobObject]:
        for oid, name, size, tid, key in own.rows():
            if tid is not None:
                yield BlobObject(oid, name, size, key, tid)
            else:
                yield BlobObject(oid, name, size, blob_key(oid, name), sealed=unsealed_size(size) if opens else None)

    def referring() -> Iterator[BlobObject]:
        for oid, name, object, size in shared.rows("oid", "name"):
            sealed = unsealed_size(size) if opens else None
            yield BlobObject(oid, name, size, object_key(object), sealed=sealed, shared=object)

    yield from heapq.merge(ours(), referring(), key=lambda found: found.oid)


def _joined(
    listing: IListing,
    references: Table,
    spool: Spool,
    advance: Callable[[int], None],
    passed: Callable[[Listed], None],
    sharing: Sharing,
) -> Table:
    """Oid, name, shared object's name and its size, of each reference whose object exists."""
    found = spool.table("oid BLOB", "name TEXT", "shared TEXT", "size INTEGER")
    waiting = references.rows("shared")  # their keys sort like their names
    reference = next(waiting, None)
    for number, (shared, line) in enumerate(shared_objects(listing, passed), 1):
        if number % _STEP == 0:
            advance(_STEP)
        while reference is not None and reference[2] < shared:
            sharing.broken(*reference)
            reference = next(waiting, None)
        count = 0
        while reference is not None and reference[2] == shared:
            found.add(*reference, line.size)
            count += 1
            reference = next(waiting, None)
        sharing.found(shared, line, count)
    while reference is not None:
        sharing.broken(*reference)
        reference = next(waiting, None)
    return found


def shared_objects(
    listing: IListing, passed: Callable[[Listed], None] = lambda line: None
) -> Iterator[tuple[str, Listed]]:
    """Each shared object with its name, sorted by that, by one listing. ``passed``: what else lies there."""
    for line in listing.list(OBJECTS):
        shared = read_object_key(line.key)
        if shared is None:
            passed(line)
        else:
            yield shared, line
