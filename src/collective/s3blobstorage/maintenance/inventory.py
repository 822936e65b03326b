"""What a database refers to at one transaction, and where it is: the entries of a manifest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import chain, groupby, pairwise
from operator import itemgetter
from typing import Any

from ZODB.utils import z64

from ..errors import Corrupt, EncryptionKeyMissing, EncryptionNotHonoured
from ..keys import OBJECTS
from ..objectstore.connection import recorded_sha256
from ..objectstore.interfaces import IObjectStore
from ..storage.owner import Marker
from ..storage.record import read_state
from .bucket import blob_objects
from .compare import Extra, Place, matched
from .comparing import Looked
from .content import Content, Contents
from .findings import REST, REVISION, Stopped, revision_of, revision_row
from .kept import Other, is_kept, kept_revisions, record_of
from .manifest import Entry
from .parallel import in_parallel
from .scope import Scope
from .spool import Spool, Table

Advance = Callable[[int], Any]


class Inventory:
    """``look`` at base and bucket, perhaps ``ask`` for each object, then ``entries``. For one thread at a time.

    Memory does not grow: what was found is in ``spool``. ``tid``: the last transaction when ``look`` began; what was
    committed later is not in it. ``with_content``: entries say which content they belong to. ``stored_sizes``: where
    neither record nor ``ask`` tells the size of a blob that may be encrypted before it is sent, that of its object
    stands for it, 64 bytes or 0.02% more. Of a base without history a blob that was changed after that
    transaction, while ``look`` read, is not in it either: its old record is gone.
    """

    def __init__(
        self,
        base: Looked,
        store: IObjectStore,
        marker: Marker,
        spool: Spool,
        stop: threading.Event,
        *,
        with_content: bool = True,
        stored_sizes: bool = False,
    ) -> None:
        self.tid = z64
        self._base = base
        self._store = store
        self._marker = marker
        self._spool = spool
        self._stop = stop
        self._contents = Contents(spool) if with_content else None
        self._rows = spool.table(*REVISION, "damaged TEXT", "key TEXT", "missing INTEGER", "data BLOB")
        self._told: Table | None = None
        # A listing does not tell whether an object is in clear or was encrypted here, which makes it longer.
        self._lists_sizes = stored_sizes or store.encryption.ring is None

    @property
    def count(self) -> int:
        return len(self._rows)

    def look(self, advance: Advance) -> None:
        """Read the database and list the bucket, both once. Raises Stopped, and as ``matched``'s streams."""
        with self._base() as base:
            self.tid = base.lastTransaction() or z64

            def counted(count: int) -> None:
                if self._stop.is_set():
                    raise Stopped
                advance(count)

            found = kept_revisions(base, Scope(), self._spool, counted, self._noting())
            objects = blob_objects(
                self._store,
                Scope(),
                self._spool,
                self._marker,
                advance=lambda count: counted(0),
            )
            for item in matched((revision for revision in found if revision.tid <= self.tid), objects, ()):
                if not isinstance(item, Extra):
                    self._add(base, item)

    def _noting(self) -> Other | None:
        contents, last = self._contents, self.tid
        if contents is None:
            return None

        def other(oid: bytes, tid: bytes, record: bytes | None) -> None:
            if tid <= last:
                contents.add(oid, tid, record)

        return other

    def _add(self, base: Any, place: Place) -> None:
        revision, key, missing, data = place.revision, "", False, None
        if revision.inline:
            data = read_inline(record_of(base, revision.oid, revision.tid))
            if data is None:
                return  # a pack has removed it since
        elif not revision.damaged:
            size = place.object_size if place.object_size is not None else place.old_size
            key = place.key
            missing = size is None
            if revision.size is None and (self._lists_sizes or place.object_size is None):
                revision = replace(revision, size=size)
        self._rows.add(*revision_row(revision), revision.damaged, key, int(missing), data)

    def ask(self, concurrency: int, advance: Advance) -> None:
        """Of each object which key encrypts it, and size and SHA-256 where the record has none: one or two requests.

        Of one whose envelope does not open, or whose key is not here, nothing more is known than before. Raises
        Stopped, Unavailable and Refused.
        """
        told = self._spool.table(
            "oid BLOB", "tid BLOB", "key_id TEXT", "size INTEGER", "sha256 BLOB", "missing INTEGER"
        )
        tasks = (entry for entry in map(_entry, self._rows.rows()) if entry.key and not entry.missing)

        def look(entry: Entry) -> tuple[str | None, int | None, bytes | None, int]:
            size, sha256, key_id = entry.revision.size, entry.revision.sha256, None
            try:
                protection = self._store.protection(entry.key)
                if protection is None:
                    return None, size, sha256, 1
                key_id = protection.key
                info = self._store.head(entry.key) if size is None or sha256 is None else None
            except (Corrupt, EncryptionKeyMissing, EncryptionNotHonoured):
                return key_id, size, sha256, 0
            # What the record says stands: an object that has another size is a wrong one.
            if info is not None and size in (None, info.size):
                size, sha256 = info.size, sha256 or info.sha256 or recorded_sha256(info.metadata)
            return key_id, size, sha256, 0

        running = in_parallel(tasks, look, concurrency=concurrency, stop=self._stop, name="s3blobs-manifest")
        with closing(running):
            for entry, future in running:
                advance(1)
                told.add(entry.revision.oid, entry.revision.tid, *future.result())
        if self._stop.is_set():
            raise Stopped
        self._told = told

    def entries(self) -> Iterator[Entry]:
        """Once, after ``look``. A revision whose object was missing, and that a pack has removed since, is left out."""
        told = iter(()) if self._told is None else self._told.rows("oid", "tid")
        answer = next(told, None)
        elsewhere = groupby(self._counted_elsewhere(), key=itemgetter(0))
        oid, keys = _keys(next(elsewhere, None))
        with self._base() as base:
            for row in self._rows.rows():
                entry = _entry(row, None if self._contents is None else self._contents.of(row[0]))
                revision = entry.revision
                while oid is not None and oid < revision.oid:
                    oid, keys = _keys(next(elsewhere, None))
                if oid == revision.oid and entry.key in keys:
                    entry = replace(entry, shared=True)
                if answer is not None and answer[:2] == (revision.oid, revision.tid):
                    revision = replace(revision, size=answer[3], sha256=answer[4])
                    entry = replace(entry, key_id=answer[2], missing=bool(answer[5]), revision=revision)
                    answer = next(told, None)
                if entry.missing and not is_kept(base, revision.oid, revision.tid):
                    continue
                yield entry

    def _counted_elsewhere(self) -> Iterator[tuple[bytes, str]]:
        """Oid and key of each shared object that another blob has too, whose bytes are counted there: in one that has
        it now, before those that had it once, and of these in the one with the lowest oid."""
        if not self._marker.deduplicated:
            return
        sharing = self._spool.table("key TEXT", "past INTEGER", "oid BLOB")
        for row, following in pairwise(chain(self._rows.rows(), [None])):
            key = row[REST + 1]
            if key.startswith(OBJECTS):
                sharing.add(key, int(following is not None and following[0] == row[0]), row[0])
        repeated = self._spool.table("oid BLOB", "key TEXT")
        for key, rows in groupby(sharing.rows("key", "past", "oid"), key=itemgetter(0)):
            first = None
            for _, _, oid in rows:
                first = oid if first is None else first
                if oid != first:
                    repeated.add(oid, key)
        yield from repeated.rows("oid", "key")


def _keys(group: tuple[bytes, Iterator[tuple[bytes, str]]] | None) -> tuple[bytes | None, set[str]]:
    """Of one blob."""
    return (None, set()) if group is None else (group[0], {key for _, key in group[1]})


def _entry(row: tuple[Any, ...], content: Content | None = None) -> Entry:
    damaged, key, missing, data = row[REST:]
    return Entry(replace(revision_of(row), damaged=damaged), key, None, content, bool(missing), data)


def read_inline(record: bytes | None) -> bytes | None:
    """What the record holds itself; None where it is gone by now."""
    state = read_state(record)
    return None if state is None else state.inline
