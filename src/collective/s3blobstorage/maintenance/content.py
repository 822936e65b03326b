"""Which content a blob belongs to, by the records of the database alone.

No code of the database runs and nothing of Plone is imported: pickles are read by ``references.py``, which makes no
object of any class. A blob is referred to by a NamedBlobFile or the like, that by a record with an ``id``, and so on:
all references are noted on disk, by the object that they lead to, and followed upwards.

Content of Plone does not know its container. The container is who has it by the content's ``id``: in an attribute of
that name, or in a BTree under that key. Catalogs and other indexes have it under numbers, or as a key. A ``__parent__``
that is stored, as portlets and comments have it, goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ZODB.utils import z64

from .kept import kept_revisions
from .references import Found, Kind, read_record
from .scope import Scope
from .spool import Spool

_DEEP = 100  # more containers in each other than this are a damaged database
# Objects looked at on the way up from one blob. A scale needs about ten; content without a container (a version's copy)
# is referred to by some ten others.
_LOOKED_AT = 300
_REMEMBERED = 5000  # paths and rows, a few hundred bytes each
_APPLICATION = "Application"  # what Zope's root object is called in the root of the database


@dataclass(frozen=True, slots=True)
class Content:
    """What a blob belongs to.

    ``path``: from the root of the database, as ``/Plone/news/picture``; None where it has none. ``portal_type``: ""
    where the record does not say. ``field``: the attribute, or the annotation, that leads to the blob: ``file``,
    ``image``, ``plone.scale``. ``past``: nothing leads there now: it was at that path until it was deleted or replaced,
    and is there until a pack, or, where ``path`` is None, it is in the version history.
    """

    path: str | None
    portal_type: str = ""
    field: str = ""
    past: bool = False

    def __str__(self) -> str:
        if self.path is None:
            return "in the version history"
        return f"{self.path} (until it was deleted or replaced)" if self.past else self.path


class _Node(NamedTuple):
    oid: bytes
    tid: bytes
    kind: int
    id: str
    portal_type: str
    parent: bytes | None


class _Edge(NamedTuple):
    child: bytes
    parent: bytes
    tid: bytes  # of the parent's revision
    label: str


class Contents:
    """What refers to what. For one thread at a time: first ``add`` all records, then ask.

    On disk, in ``spool``: some 100 bytes a record and 60 a reference. Memory does not grow.
    """

    def __init__(self, spool: Spool) -> None:
        self._nodes = spool.table("oid BLOB", "tid BLOB", "kind INTEGER", "id TEXT", "portal_type TEXT", "parent BLOB")
        self._edges = spool.table("child BLOB", "parent BLOB", "tid BLOB", "label TEXT")
        self._complete = False
        self._paths: _Remembered[tuple[bytes, bool], str | None] = _Remembered()
        self._rows: _Remembered[tuple[bytes, bool], _Node | None] = _Remembered()

    def add(self, oid: bytes, tid: bytes, record: bytes | None) -> None:
        """Note a record that is no blob's; those of one object in the order of tids. An ``Other`` of ``kept.py``.

        One that cannot be read refers to nothing.
        """
        found = read_record(record) if record else Found()
        self._nodes.add(oid, tid, found.kind.value, found.id, found.portal_type, found.parent)
        for label, child in found.references:
            self._edges.add(child, oid, tid, label)

    def path_of(self, oid: bytes) -> str | None:
        """Of an object that has an ``id``, where it is now; None where nothing leads to it."""
        self._index()
        return self._path(oid, False)

    def _index(self) -> None:
        if not self._complete:
            self._nodes.index("oid")
            self._edges.index("child")
            self._complete = True

    def of(self, oid: bytes) -> Content | None:
        """What that blob belongs to; None where nothing that was added says so."""
        self._index()
        content, in_history = self._above(oid, past=False)
        if content is not None:
            return content
        earlier, _ = self._above(oid, past=True)
        if earlier is not None:
            return replace(earlier, past=True)
        return in_history

    # Upwards from a blob

    def _above(self, oid: bytes, *, past: bool) -> tuple[Content | None, Content | None]:
        """The nearest object that has a path; and what is known where the way up ends in the version history."""
        seen, level = {oid}, [(oid, "")]  # each with the name under which it leads to the blob
        history = False
        root = portal_type = field = ""
        while level:
            above = []
            for below, name in level:
                for edge in self._edges_to(below, past):
                    if edge.parent in seen:
                        continue
                    if len(seen) > _LOOKED_AT:
                        break
                    seen.add(edge.parent)
                    node = self._node(edge.parent, past)
                    if node is None:
                        continue
                    if node.kind == Kind.HISTORY.value:
                        history = True
                        continue
                    # An annotation says more than that it is one, and a part of a mapping less than the mapping.
                    leads = name if edge.label == "__annotations__" else edge.label or name
                    if edge.parent == z64 and edge.label != _APPLICATION:
                        root = root or f"/{edge.label}"
                    if node.id:
                        path = self._path(edge.parent, past)
                        if path is not None:
                            return Content(path, node.portal_type, leads), None
                        if node.portal_type and not portal_type:
                            portal_type, field = node.portal_type, leads
                    above.append((edge.parent, leads))
            level = above
        if root:  # of a database without Zope
            return Content(root), None
        return None, Content(None, portal_type, field, past=True) if history else None

    # From an object to the root

    def _path(self, oid: bytes, past: bool, below: tuple[bytes, ...] = ()) -> str | None:
        """Of an object that has an ``id``, or is in the root of the database; None where it leads nowhere."""
        key = (oid, past)
        if key in self._paths:
            return self._paths[key]
        if oid in below or len(below) > _DEEP:
            return None
        path = self._path_of(oid, past, (*below, oid))
        # What a cycle, or the depth, ended is so only from where it was asked.
        if path is not None or not below:
            self._paths[key] = path
        return path

    def _path_of(self, oid: bytes, past: bool, below: tuple[bytes, ...]) -> str | None:
        node = self._node(oid, past)
        # First, since nearly every item says where it is: what refers to it need not be looked for.
        if node is not None and node.id and node.parent is not None:
            above = self._path(node.parent, past, below)
            if above is not None:
                return f"{above}/{node.id}"
        edges = self._edges_to(oid, past)
        for edge in edges:
            if edge.parent == z64:
                return "" if edge.label == _APPLICATION else f"/{edge.label}"
        if node is None or not node.id:
            return None
        # Each once: with ``past`` all revisions of a container refer to it.
        for container in dict.fromkeys(edge.parent for edge in edges if edge.label == node.id):
            for owner in self._owners(container, past):
                above = self._path(owner, past, below)
                if above is not None:
                    return f"{above}/{node.id}"
        return None

    def _owners(self, oid: bytes, past: bool) -> list[bytes]:
        """The object itself; of a part of a BTree, whose BTree that is."""
        owners, seen, waiting = [], {oid}, [oid]
        while waiting and len(seen) <= _LOOKED_AT:
            each = waiting.pop()
            node = self._node(each, past)
            if node is None:
                continue
            if node.kind not in (Kind.BTREE.value, Kind.BUCKET.value):
                owners.append(each)
                continue
            for edge in self._edges_to(each, past):
                above = self._node(edge.parent, past)
                # A bucket is referred to by the one before it, too.
                if above is not None and above.kind != Kind.BUCKET.value and edge.parent not in seen:
                    seen.add(edge.parent)
                    waiting.append(edge.parent)
        return owners

    # Rows

    def _edges_to(self, oid: bytes, past: bool) -> list[_Edge]:
        """Those of the current revisions; with ``past`` those of all, the latest first."""
        edges = [_Edge(*row) for row in self._edges.where("child", oid)]
        if past:
            return sorted(edges, key=lambda edge: edge.tid, reverse=True)
        return [edge for edge in edges if (node := self._node(edge.parent, False)) and node.tid == edge.tid]

    def _node(self, oid: bytes, past: bool) -> _Node | None:
        """The current revision; with ``past`` the last one that says something."""
        key = (oid, past)
        if key not in self._rows:
            rows = [_Node(*row) for row in self._nodes.where("oid", oid)]
            if past:
                rows = [row for row in rows if row.id or row.kind] or rows
            self._rows[key] = rows[-1] if rows else None
        return self._rows[key]


class _Remembered(OrderedDict):
    """The last ones that were asked for."""

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        if len(self) > _REMEMBERED:
            self.popitem(last=False)


def content_of(
    base: Any,
    oids: Collection[bytes],
    spool: Spool,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[bytes, Content]:
    """What each of these blobs belongs to; those of which nothing is found are not in it.

    Reads every record of the base once, also for one oid, and none for no oid; ``advance(n)`` is called with increments
    of records read. Who reads the database by ``kept_revisions`` anyway gives that the ``add`` of a ``Contents``, and
    asks that afterwards: one pass less. In the thread of the caller. Raises as ``kept_revisions``.
    """
    if not oids:
        return {}
    contents = Contents(spool)
    for _ in kept_revisions(base, Scope(), spool, advance, contents.add):
        pass
    found = ((oid, contents.of(oid)) for oid in oids)
    return {oid: content for oid, content in found if content is not None}
