"""Blobs of one content that come to share one object, though each has its own: a part of ``s3blobs dedup``.

Why nothing is lost, wherever it is killed
    A revision's own object is deleted last, by its ETag: until then readers get that one, whatever else is there.
    Before it goes, its reference was there before a look that saw no mark of that generation (so gc never deletes what
    it refers to, as ``storage/sharing.py`` argues), and the shared object has the right size and SHA-256. Run again, it
    finds what has an object of its own still.

Why no byte changes
    What becomes the shared object is read and compared before it is copied, and copied only while it is that object.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import Archived, Corrupt, ObjectMissing, PreconditionFailed, Refused, StoreError
from ..keys import blob_key, object_key, read_shared_name, reference_key
from ..objectstore.connection import recorded_sha256
from ..objectstore.interfaces import Doomed, IObjectStore, ObjectInfo
from ..shared import marked_generations
from ..storage.sharing import Reference, asks_encryption, carry_out, settle
from .reading import read_whole


@dataclass(eq=False)
class Content:
    """Blobs of one content. ``first``: the generation to begin with, None before anybody looked. ``ready``: shared
    objects that were found right. ``lock``: held by the one who makes it."""

    size: int
    sha256: bytes
    exists: bool
    lock: threading.Lock = field(default_factory=threading.Lock)
    first: int | None = None
    ready: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Batch:
    content: Content
    revisions: list[tuple[bytes, str]]  # oid and name

    @property
    def count(self) -> int:
        return len(self.revisions)


@dataclass
class Done:
    """What became of a batch. ``failed``: key and error of each."""

    converted: int = 0
    made: int = 0
    gone: int = 0
    held: int = 0
    locked: int = 0
    versions: int = 0
    failed: list[tuple[str, Exception]] = field(default_factory=list)


class Conversion:
    """One batch: blobs of one content. Any thread, several at a time on one content.

    ``check`` raises where the lease is lost; it is called before each request that changes something. ``moved`` is told
    the bytes that were read and copied. ``locks``: an object may have a legal hold or a retention.
    """

    def __init__(
        self,
        store: IObjectStore,
        batch: Batch,
        check: Callable[[], None],
        moved: Callable[[int], None],
        *,
        locks: bool,
    ) -> None:
        self._store = store
        self._content = batch.content
        self._revisions = batch.revisions
        self._check = check
        self._moved = moved
        self._locks = locks
        self._done = Done()

    def run(self) -> Done:
        """Raises StoreError where none of the batch could be converted, and what ``check`` raises."""
        present: dict[tuple[bytes, str], ObjectInfo] = {}
        for oid, name in self._revisions:
            info = self._present(oid, name)
            if info is not None:
                present[oid, name] = info
        if present:
            shared = self._referred(present)
            self._made(shared, present)
            self._delete(present)
        return self._done

    def _present(self, oid: bytes, name: str) -> ObjectInfo | None:
        """Its own object, where it is still what it was when it was listed, and may be deleted."""
        key = blob_key(oid, name)
        info = self._store.head(key)
        if info is None or info.size != self._content.size:
            self._done.gone += 1
            return None
        if recorded_sha256(info.metadata) not in (None, self._content.sha256):
            self._done.failed.append((key, Corrupt("its metadata name another SHA-256 than its record")))
            return None
        if self._locks:
            lock = self._store.lock_of(key)
            if lock.legal_hold:
                self._done.held += 1
                return None
            if lock.keeps_at(self._store.now()):
                self._done.locked += 1
                return None
        return info

    def _referred(self, present: dict[tuple[bytes, str], ObjectInfo]) -> str:
        """Put the references, as a writer does, and return the name of what they refer to."""
        store, content = self._store, self._content
        with content.lock:
            if content.first is None:  # only so that no reference has to be put twice
                content.first = max(marked_generations(store, content.sha256), default=-1) + 1

        def refer(shared: str) -> list[Reference]:
            return [
                Reference(reference_key(oid, name, shared), oid, info.metadata.get("tid"))
                for (oid, name), info in present.items()
            ]

        steps = settle(refer, content.sha256, first=content.first, encrypted=asks_encryption(store))
        # Those which are not used must go: of names that records have, gc would take them for what is needed. Nobody
        # relies on them, each of these revisions has its own object still.
        shared = carry_out(steps, store, send=None, put=lambda key: self._check(), forget=store.delete)
        content.first = read_shared_name(shared)[1]
        return shared

    def _made(self, shared: str, present: dict[tuple[bytes, str], ObjectInfo]) -> None:
        """See to it that the shared object is there and right. What is found damaged is taken from ``present``."""
        with self._content.lock:
            if shared in self._content.ready:
                return
            if self._is_right(shared) or self._copied(shared, present):
                self._content.ready.add(shared)

    def _is_right(self, shared: str) -> bool:
        """Whether it is there. Raises Corrupt where it is something else."""
        content, info = self._content, self._store.head(object_key(shared))
        if info is None:
            return False
        if info.size != content.size or recorded_sha256(info.metadata) not in (None, content.sha256):
            raise Corrupt("The shared object has other bytes: `s3blobs fsck --deep` finds and repairs it.")
        if recorded_sha256(info.metadata) is None:  # a copy of the bucket that lost them: it may be anything
            read_whole(self._store, info.key, self._moved, size=content.size, sha256=content.sha256)
        return True

    def _copied(self, shared: str, present: dict[tuple[bytes, str], ObjectInfo]) -> bool:
        """From the first of them whose bytes are right; False where none are."""
        content, store = self._content, self._store
        for each in list(present):
            key = blob_key(*each)
            try:
                told = read_whole(store, key, self._moved, size=content.size, sha256=content.sha256)
                self._check()
                metadata = {"size": str(content.size), "sha256": content.sha256.hex()}
                store.copy(key, object_key(shared), if_match=told.etag, metadata=metadata, progress=self._moved)
            except (ObjectMissing, PreconditionFailed):
                self._done.gone += 1
                del present[each]
            except (Corrupt, Archived) as error:
                self._done.failed.append((key, error))
                del present[each]
            else:
                if not self._is_right(shared):
                    raise StoreError("A file that was just copied is not in the object store.")
                self._done.made += 1
                return True
        return False

    def _delete(self, present: dict[tuple[bytes, str], ObjectInfo]) -> None:
        if not present:
            return
        doomed = [Doomed(blob_key(*each), info.etag) for each, info in present.items()]
        self._check()
        deleted = self._store.delete_each(doomed)
        for each in doomed:
            code = deleted.failed.get(each)
            if code is None:
                self._done.converted += 1
            else:
                self._done.failed.append((each.key, Refused(f"its own object was not deleted: {code}")))
        self._done.versions += deleted.markers
