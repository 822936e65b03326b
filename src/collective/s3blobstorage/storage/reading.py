"""From a revision to its bytes: record, key, cache, bucket, and the sources behind it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, BinaryIO

from ZODB.blob import BlobFile
from ZODB.POSException import POSKeyError
from ZODB.utils import p64, u64

from ..cache.interfaces import IBlobCache, IBlobSource
from ..errors import BlobMissing, Unavailable
from ..keys import blob_key, foreign_keys, object_key, read_shared_name
from ..objectstore.interfaces import IObjectStore
from ..overlay.bringing import bring
from ..overlay.interfaces import IOverlay, Revision
from ..shared import marked_generations, referred_objects
from .inline import InlineFile
from .promise import BlobPath
from .read_notes import NoNotes, ReadNotes
from .record import BlobState, read_state
from .referred import Referred, own_keys
from .sharing import carry_out, share_again
from .source import InlineSource, Location, ObjectSource

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


class BlobReader:
    """Reads blobs for a root storage and all its instances. Any thread."""

    def __init__(
        self,
        store: IObjectStore,
        cache: IBlobCache,
        overlay: IOverlay,
        *,
        with_foreign_keys: bool,
        deduplicated: bool = False,
    ):
        self._store = store
        self._cache = cache
        self.overlay = overlay
        self.with_foreign_keys = with_foreign_keys
        # Whether the prefix was known to have shared objects when it was opened: references are looked for before
        # sources are asked. Else behind them, as another process may have begun since.
        self.deduplicated = deduplicated
        self._referred = Referred(store)
        self.notes: ReadNotes | NoNotes = NoNotes()

    # Where it is

    def locate(self, load_before: LoadBefore, oid: bytes, tid: bytes) -> Location:
        return self.location(oid, tid, state_of(read_exact(load_before, oid, tid), oid, tid))

    def location(self, oid: bytes, tid: bytes, state: BlobState) -> Location:
        if state.inline is not None:
            return Location(oid, tid, (), state.size, None)
        name = state.name_at(tid)
        keys = own_keys(oid, name, state.object)
        if state.name is None and self.with_foreign_keys:
            keys += foreign_keys(oid, tid)
        return Location(oid, tid, keys, state.size, state.sha256, name)

    def source(self, oid: bytes, tid: bytes, state: BlobState) -> IBlobSource:
        if state.inline is not None:
            return InlineSource(state.inline)
        location = self.location(oid, tid, state)
        if not self.overlay.names:
            return ObjectSource(self._store, location, referred=self._referred, miss_level=self.overlay.miss_level)
        if self.deduplicated:
            referred, last = self._referred, None
        else:
            referred, only = None, replace(location, keys=())
            last = ObjectSource(self._store, only, referred=self._referred, miss_level=self.overlay.miss_level)
        bucket = ObjectSource(self._store, location, referred=referred, miss_level=self.overlay.miss_level)
        return self.overlay.behind(bucket, Revision(oid, tid, state), location.keys, last)

    def find(self, location: Location, *, references: bool = True) -> str | None:
        """The first of the keys in the bucket that exists, with the size that it must have, or None.

        A HEAD each, and where none exists, with ``references``, a LIST of those of the revision, and a HEAD of what
        they lead to.
        """
        if not location.keys:
            return None
        found = self._first_of(location, self.candidates(location))
        if found is None and references:
            found = self._first_of(location, self._referred.look(location.oid, location.name, location.sha256))
            if found is not None:
                self._referred.note(blob_key(location.oid, location.name), found)
        return found

    def candidates(self, location: Location) -> tuple[str, ...]:
        """The keys under which it may lie, as far as that is known without a request."""
        known = self._referred.known(blob_key(location.oid, location.name))
        return location.keys if known is None else (known, *location.keys)

    def _first_of(self, location: Location, keys: Iterable[str]) -> str | None:
        for key in keys:
            info = self._store.head(key)
            if info is not None and location.size in (None, info.size):
                return key
        return None

    def is_somewhere(self, oid: bytes, tid: bytes, state: BlobState) -> bool:
        """Whether it can be read: from its record, the bucket or a source. Raises where that cannot be told."""
        if state.inline is not None or self.find(self.location(oid, tid, state)) is not None:
            return True
        return self.overlay.has(Revision(oid, tid, state))

    def give_key(self, oid: bytes, tid: bytes, state: BlobState, key: str) -> bool:
        """Put the revision's bytes into the bucket under ``key`` too; False where they are nowhere.

        A copy inside the bucket, or from a source through this machine's disk.
        """
        present = self.find(self.location(oid, tid, state))
        if present is None:
            if not self.overlay.has(Revision(oid, tid, state)):
                return False
            bring(self.source(oid, tid, state), self._store, self._cache, key, oid, tid)
        elif not state.nameless:  # its record leads to it
            self.hold(Revision(oid, tid, state))
        elif present != key:
            self._store.copy(present, key)
        return True

    def share_again(self, revision: Revision, send: Callable[[str], object]) -> bool:
        """Give a revision that is restored, or comes from a source, the shared object that its record names.

        ``send`` puts the bytes under the key it is given, as ``sharing.carry_out`` says. False where it needs an object
        of its own: its record names none, that one was given up, keys of ours encrypt, ``retention`` is set, or the
        prefix has no shared objects. Any thread; up to five requests. Raises what the store and ``send`` raise.
        """
        state, encryption = revision.state, self._store.encryption
        if state.object is None or state.size is None or not self.deduplicated:
            return False
        if encryption.seals or encryption.server_side.own_key:
            return False
        if self._store.settings.retention is not None:  # type: ignore[attr-defined]
            return False  # the shared object may be kept for less long, or not at all
        steps = share_again(revision.oid, state.name_at(revision.tid), state.object, state.size)
        return carry_out(steps, self._store, send)

    def hold(self, revision: Revision) -> None:
        """Where the shared object that a record names is there: see to it that it stays for this revision, too.

        It may be there for others alone, and go with them, where this record comes from elsewhere. Raises as
        ``share_again``.
        """
        oid, state = revision.oid, revision.state
        if state.object is None or self._store.head(object_key(state.object)) is None:
            return
        name, shared = state.name_at(revision.tid), object_key(state.object)
        sha256, generation = read_shared_name(state.object)
        if shared in referred_objects(self._store, oid, name, sha256):
            # Looked for after the reference was seen. A reference that came after a mark protects nothing: gc may have
            # listed all references before that (a restore leaves one where the mark came between its two looks).
            if generation not in marked_generations(self._store, sha256):
                return
        elif self.share_again(revision, _gone):
            return
        own = blob_key(oid, name)
        if self._store.head(own) is None:
            self._store.copy(shared, own, metadata={"oid": oid.hex(), "size": str(state.size)})

    def expected(self, oid: bytes, tid: bytes) -> str:
        """Where its file is while the cache has it."""
        return self._cache.expected(oid, tid)

    # Its bytes. ``record`` is called where the cache does not have the file, and gives the revision's record. It is
    # called here and not in a download, whose errors reach every waiting thread: another thread's connection may see a
    # revision that ours does not see any more.

    def path(self, oid: bytes, tid: bytes, record: Callable[[], bytes]) -> str:
        """The path of a complete file with the blob's bytes; fetched where it is not in the cache.

        Where the cache is encrypted the file is removed when nobody has this very object any more.
        """
        self.notes.note(oid)
        return self._cache.path(oid, tid, lambda: self.source(oid, tid, state_of(record(), oid, tid)))

    def bring(self, oid: bytes, tid: bytes, record: Callable[[], bytes]) -> None:
        """Have it whole in the cache."""
        self.notes.note(oid)
        if self._cache.get_text(oid, tid) is None:
            self._cache.complete(oid, tid, self.source(oid, tid, state_of(record(), oid, tid)))

    def open(self, oid: bytes, tid: bytes, record: Callable[[], bytes], blob: Any = None) -> BinaryIO:
        """The complete file, opened: a ``BlobFile`` where a blob is given, as ZODB's own blob storage does, and the
        cache's own reader where it is encrypted."""
        if self._cache.seals:
            self.bring(oid, tid, record)
            name = BlobPath(self, oid, tid, record())
            source = self.source(oid, tid, state_of(name.record(), oid, tid))
            return self._cache.open_lazily(oid, tid, source, name=name, blob=blob)
        try:
            return opened(self.path(oid, tid, record), blob)
        except OSError:
            pass  # evicted between the two calls, or it cannot be opened: the cache finds a way, or says why not
        return self._cache.open(
            oid,
            tid,
            self.source(oid, tid, state_of(record(), oid, tid)).download,
            opener=lambda path: opened(path, blob),
        )

    def open_lazily(
        self,
        oid: bytes,
        tid: bytes,
        record: Callable[[], bytes],
        name: os.PathLike[str],
        blob: Any = None,
        *,
        look: bool = False,
    ) -> BinaryIO:
        """The same, but what the cache does not have whole is asked for when somebody needs a byte.

        ``look``: ask first whether it is anywhere, so that BlobMissing is raised now and not by the first read.
        """
        self.notes.note(oid)
        sealed = self._cache.seals
        looked = False
        if not sealed:
            cached = self._cache.get_text(oid, tid)
            looked = cached is None
            if cached is not None:
                try:
                    return opened(cached, blob)
                except OSError:  # evicted since, or no file can be opened: read otherwise
                    pass
        state = state_of(record(), oid, tid)
        if state.inline is not None:
            return InlineFile(state.inline, name, blob)
        if look and not (sealed and self._cache.get_text(oid, tid)) and not self.is_somewhere(oid, tid, state):
            raise BlobMissing(oid, tid)
        source = self.source(oid, tid, state)
        return self._cache.open_lazily(oid, tid, source, name=name, blob=blob, looked=looked)


def _gone(key: str) -> object:
    raise Unavailable("A shared object went while a revision was to refer to it.")


def state_of(record: bytes, oid: bytes, tid: bytes) -> BlobState:
    """What the record says; BlobMissing where it is no blob's."""
    state = read_state(record)
    if state is None:
        raise BlobMissing(oid, tid)
    return state


def opened(path: str, blob: Any) -> BinaryIO:
    """The file: a ``BlobFile`` where a blob is given, as ZODB's own blob storage does."""
    return open(path, "rb") if blob is None else BlobFile(path, "r", blob)
