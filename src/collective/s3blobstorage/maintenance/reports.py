"""What takes the room: the largest blobs, the growth by month, the share of each portal type.

Made from the entries of an ``Inventory``, which come sorted by oid and tid, in one go; memory does not grow with them.
An object that several revisions of a blob name, as an undo makes them, is counted once. The bytes of one that several
blobs share are counted once, too, and what that saves is told. ``history``: revisions that are not the
last one of their blob, which only undo and earlier views of the database need.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

from .findings import Count, committed
from .manifest import Entry


@dataclass
class Row:
    """A month or a type. ``history``: how much of ``all`` is. ``shared``: blobs of ``all`` whose bytes are counted with
    another blob, and those bytes: what sharing saves."""

    name: str
    all: Count = field(default_factory=Count)
    history: Count = field(default_factory=Count)
    shared: Count = field(default_factory=Count)

    def add(self, entry: Entry, *, past: bool) -> None:
        size = 0 if entry.shared else entry.revision.size
        self.all.add(size)
        if past:
            self.history.add(size)
        if entry.shared:
            self.shared.add(entry.revision.size)


def counted(entries: Iterable[Entry]) -> Iterator[tuple[Entry, bool]]:
    """Each object once, by the last revision that names it, and whether it is history. Memory: one blob's revisions."""
    for _, group in groupby(entries, key=lambda entry: entry.revision.oid):
        named: set[str] = set()
        kept = []
        for number, entry in enumerate(reversed(list(group))):
            if not entry.key or entry.key not in named:
                named.add(entry.key)
                kept.append((entry, number > 0))
        yield from reversed(kept)


def largest(entries: Iterable[Entry], count: int) -> list[tuple[Entry, bool]]:
    """So many, the largest first. Of blobs that share their bytes one."""
    sized = (found for found in counted(entries) if found[0].revision.size is not None and not found[0].shared)
    return heapq.nlargest(count, sized, key=lambda found: found[0].revision.size or 0)


def growth(entries: Iterable[Entry]) -> list[Row]:
    """By month (UTC) in which they were committed, the first month first; months without any are left out."""
    rows: dict[str, Row] = {}
    for entry, past in counted(entries):
        month = (committed(entry.revision.tid) or "")[:7]
        rows.setdefault(month, Row(month)).add(entry, past=past)
    return [rows[month] for month in sorted(rows)]


VERSIONS = "version history"
NOT_FOUND = "not found"


def by_type(entries: Iterable[Entry]) -> list[Row]:
    """By portal type of the content, the one with the most bytes first.

    What nothing leads to any more is history, too. ``VERSIONS``: of content whose type is not known there,
    ``NOT_FOUND``: of no content, or of content without a type.
    """
    rows: dict[str, Row] = {}
    for entry, past in counted(entries):
        content = entry.content
        name = NOT_FOUND
        if content is not None:
            name = content.portal_type or (VERSIONS if content.path is None else NOT_FOUND)
        rows.setdefault(name, Row(name)).add(entry, past=past or (content is not None and content.past))
    return sorted(rows.values(), key=lambda row: (-row.all.bytes, row.name))
