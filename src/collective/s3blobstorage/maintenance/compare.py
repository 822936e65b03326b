"""Kept revisions, the bucket's objects and a blob directory's files, compared as three sorted streams. Pure.

One blob at a time is in memory: its revisions, its objects, its files. Nothing is asked for a blob alone.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeVar

from ZODB.utils import oid_repr

from ..keys import object_key
from .blobdir import BlobFile
from .bucket import BlobObject
from .kept import KeptRevision

T = TypeVar("T", KeptRevision, BlobObject, BlobFile)


class OutOfOrder(Exception):
    """A stream is not sorted: nothing may be concluded from it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one kept revision is. Sizes in bytes, None: not there.

    ``object_size``: in the bucket, as its own object or as the ``shared`` one of that name; ``stored``: of what the
    store has there, which is more where it is sealed. ``old_size``: under a key of zodb-s3blobs, ``old_key``, where it
    may be.
    ``file_size``: in the directory under its own tid. ``sources``: the tids of files that have its bytes: its own, and
    those of revisions with the same key, as an undo makes them. ``repeats``: an earlier revision of the blob has the
    same key.
    """

    revision: KeptRevision
    object_size: int | None = None
    old_size: int | None = None
    file_size: int | None = None
    sources: tuple[bytes, ...] = ()
    repeats: bool = False
    old_key: str = ""
    stored: int | None = None
    shared: str = ""

    @property
    def key(self) -> str:
        """Of its object in the bucket; where there is none, of the one that readers look for first. Of a revision that
        is neither inline nor damaged."""
        if self.shared:
            return object_key(self.shared)
        if self.object_size is not None:
            return self.revision.key
        return self.old_key if self.old_size is not None else self.revision.first_key

    @property
    def sizes(self) -> set[int]:
        """What record, bucket and directory say, where they say anything."""
        told = (self.revision.size, self.object_size, self.old_size, self.file_size)
        return {size for size in told if size is not None}


@dataclass(frozen=True, slots=True)
class Extra:
    """What no kept revision needs: a file, an object, or a reference to one."""

    found: BlobFile | BlobObject

    @property
    def size(self) -> int:
        """Bytes that are there for it alone: none of a reference."""
        return 0 if isinstance(self.found, BlobObject) and self.found.shared else self.found.size


class Verdict(Enum):
    """What is to be said of a kept revision."""

    INLINE = "inline"  # it is in its record
    DAMAGED = "damaged"  # its record cannot be read, so its key is not known
    DIFFERENT = "different"  # record, bucket and directory do not agree on its size
    THERE = "there"  # it is where it shall be
    OLD = "old"  # only under a key of zodb-s3blobs, where it is read
    REPEATED = "repeated"  # its object is to be made for another revision already
    WANTED = "wanted"  # it is to be brought
    MISSING = "missing"  # it is nowhere


def for_bucket(place: Place) -> Verdict:
    """Of a revision that shall be in the bucket and may be in the directory."""
    revision = place.revision
    if revision.damaged:
        return Verdict.DAMAGED
    if revision.inline:
        return Verdict.DIFFERENT if len(place.sizes) > 1 else Verdict.INLINE
    if len(place.sizes) > 1:
        return Verdict.DIFFERENT
    if place.object_size is not None:
        return Verdict.THERE
    if place.sources:
        return Verdict.REPEATED if place.repeats else Verdict.WANTED
    return Verdict.OLD if place.old_size is not None else Verdict.MISSING


def for_directory(place: Place) -> Verdict:
    """Of a revision that shall be in the directory. The bucket, or what is behind it, is asked when it is brought."""
    if place.revision.damaged:
        return Verdict.DAMAGED
    if len(place.sizes) > 1:
        return Verdict.DIFFERENT
    return Verdict.WANTED if place.file_size is None else Verdict.THERE


def for_mirror(place: Place) -> Verdict:
    """Of a revision that shall be in the bucket and may be in a source, which is asked when it is brought."""
    revision = place.revision
    if revision.damaged:
        return Verdict.DAMAGED
    if revision.inline:
        return Verdict.INLINE
    if len(place.sizes) > 1:
        return Verdict.DIFFERENT
    if place.object_size is not None:
        return Verdict.THERE
    if place.old_size is not None:
        return Verdict.OLD
    return Verdict.REPEATED if place.repeats else Verdict.WANTED


def matched(
    revisions: Iterable[KeptRevision], objects: Iterable[BlobObject], files: Iterable[BlobFile]
) -> Iterator[Place | Extra]:
    """Bring the three together: a ``Place`` for each revision, an ``Extra`` for each thing that belongs to none.

    Each is sorted by oid, else OutOfOrder.
    """
    streams = (
        _tagged(0, revisions, "the database"),
        _tagged(1, objects, "the bucket"),
        _tagged(2, files, "the directory"),
    )
    for _, group in groupby(heapq.merge(*streams, key=itemgetter(0)), key=itemgetter(0)):
        of_blob: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
        for _, kind, found in group:
            of_blob[kind].append(found)
        yield from _blob(*of_blob)


def _tagged(kind: int, stream: Iterable[T], what: str) -> Iterator[tuple[bytes, int, T]]:
    last = b""
    for found in stream:
        if found.oid < last:
            raise OutOfOrder(f"{what} lists {oid_repr(found.oid)} after {oid_repr(last)}")
        last = found.oid
        yield last, kind, found


def _blob(revisions: list[KeptRevision], objects: list[BlobObject], files: list[BlobFile]) -> Iterator[Place | Extra]:
    if len(revisions) == len(objects) == 1 and not files:  # nearly every blob of a site
        revision, present = revisions[0], objects[0]
        plain = present.tid is None and not revision.damaged and not revision.inline
        if plain and revision.object_name == present.name and present.shared in ("", revision.object):
            yield Place(revision, present.size_for({revision.size}), stored=present.size, shared=present.shared)
            return
    ours: dict[str, list[BlobObject]] = {}
    for each in objects:
        if each.tid is None:
            ours.setdefault(each.name, []).append(each)
    old = {found.tid: found for found in objects if found.tid is not None}
    file_sizes = {found.tid: found.size for found in files}
    sources: dict[str, tuple[bytes, ...]] = {}  # by name, the tids of files that are as their records say
    for revision in revisions:
        size = file_sizes.get(revision.tid)
        if not revision.damaged and not revision.inline and size is not None and revision.size in (None, size):
            sources[revision.object_name] = (*sources.get(revision.object_name, ()), revision.tid)
    used: set[str] = set()
    for revision in revisions:
        file_size = file_sizes.get(revision.tid)
        if revision.damaged or revision.inline:
            yield Place(revision, file_size=file_size)
            continue
        name = revision.object_name
        present = _read(revision, ours.get(name, ()))
        of_old = old.get(revision.tid) if revision.name is None else None
        yield Place(
            revision,
            None if present is None else present.size_for({revision.size, file_size}),
            None if of_old is None else of_old.size,
            file_size,
            sources.get(name, ()),
            name in used,
            "" if of_old is None else of_old.key,
            None if present is None else present.size,
            "" if present is None else present.shared,
        )
        used.add(name)
    tids = {revision.tid for revision in revisions}
    # Objects of a blob one of whose records is damaged may be that one's.
    if not any(revision.damaged for revision in revisions):
        nameless = {revision.tid for revision in revisions if revision.name is None and not revision.inline}
        yield from (Extra(found) for name, of_name in ours.items() if name not in used for found in of_name)
        yield from (Extra(found) for found in old.values() if found.tid not in nameless)
    yield from (Extra(found) for found in files if found.tid not in tids)


def _read(revision: KeptRevision, objects: Iterable[BlobObject]) -> BlobObject | None:
    """Which of the objects of its name readers get, or None. Where its record names none that is shared, any reference
    does that is not of other bytes than its record says."""
    by_shared = {found.shared: found for found in objects}
    own = by_shared.pop("", None)
    if revision.object is not None:
        return by_shared.get(revision.object) or own
    return own or next((found for name, found in by_shared.items() if revision.may_share(name)), None)
