"""The sources of one storage, in order, each with the rules of its options."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, BinaryIO, TypeVar

from ZODB.utils import oid_repr, tid_repr
from zope.interface import implementer

from ..cache.interfaces import IBlobSource
from ..errors import BlobMissing, StoreError, Unavailable
from ..objectstore.content import Openable
from ..objectstore.interfaces import IObjectStore
from .behind import BehindBucket, emptied
from .interfaces import ICopyingSource, IOverlay, ISource, ISourceSettings, Revision, Share, SourceOptions
from .lacking import Lacking, NoLacking
from .mirror import Mirror, NoMirror, never_shared
from .negative import NegativeCache

logger = logging.getLogger(__name__)

T = TypeVar("T")


@implementer(IOverlay)
class NoOverlay:
    """No source is configured: the bucket is all there is, and nothing costs anything."""

    names: tuple[str, ...] = ()
    forked = False
    miss_level = logging.ERROR

    def behind(
        self, bucket: IBlobSource, revision: Revision, keys: tuple[str, ...] = (), last: IBlobSource | None = None
    ) -> IBlobSource:
        return bucket

    def has(self, revision: Revision) -> bool:
        return False

    def which(self, revision: Revision) -> str | None:
        return None

    def copy_into(self, revision: Revision, store: IObjectStore, key: str) -> int | None:
        raise BlobMissing(revision.oid, revision.tid)

    def fetch(self, revision: Revision, file: BinaryIO) -> None:
        raise BlobMissing(revision.oid, revision.tid)

    def undone_by_base(self, revision: Revision) -> bool:
        return False

    def look_into(self, store: IObjectStore) -> None:
        pass

    def mirror_into(self, store: IObjectStore, share: Share = never_shared) -> None:
        pass

    def completed(self, oid: bytes, tid: bytes, file: str | Openable) -> None:
        pass

    def mirrored(self) -> dict[str, int]:
        return NoMirror().counts()

    def close(self) -> None:
        pass


class Member:
    """One source in the chain."""

    def __init__(self, source: ISource, options: SourceOptions, monotonic: Callable[[], float]) -> None:
        self.source = source
        self.options = options
        self._missing = NegativeCache(options.negative_cache, monotonic)

    @property
    def name(self) -> str:
        return self.options.name

    def looks_up(self, revision: Revision) -> bool:
        fork = self.options.fork_tid
        return (fork is None or revision.tid <= fork) and revision.oid + revision.tid not in self._missing

    def ask(self, revision: Revision, action: Callable[[IBlobSource], T]) -> tuple[IBlobSource, T]:
        """The revision as it is here, and what ``action`` returns for it. BlobMissing is remembered for a while."""
        blob = self.source.blob(revision)
        try:
            self._check_size(revision, blob)
            return blob, action(blob)
        except BlobMissing:
            self._missing.note(revision.oid + revision.tid)
            raise

    def _check_size(self, revision: Revision, blob: IBlobSource) -> None:
        largest = self.options.max_size
        if largest is None:
            return
        size = revision.state.size
        if size is None:
            size = blob.describe()[0]
        elif size > largest:
            blob.describe()  # whether it is there at all: else it is missing here, and not too large
        if size > largest:
            raise Unavailable(f"A blob of {size} bytes is not taken from there, since max-size is {largest}.")

    def named(self, error: StoreError) -> StoreError:
        """The same error, saying which source it is of."""
        named = copy(error)  # an error's class may take other arguments than its text
        named.args = (f"Source {self.name!r}: {error}",)
        return named


@implementer(IOverlay)
class Overlay:
    """See ``IOverlay``. Owns its sources, and the thread that looks at them once after the start."""

    miss_level = logging.DEBUG

    def __init__(
        self, sources: Sequence[tuple[ISource, SourceOptions]], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.members = tuple(Member(source, options, monotonic) for source, options in sources)
        self._checking: threading.Thread | None = None
        self._mirror: Mirror | NoMirror = NoMirror()
        self._monotonic = monotonic
        self.lacking: Lacking | NoLacking = NoLacking()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(member.name for member in self.members)

    @property
    def forked(self) -> bool:
        return any(member.options.fork_tid is not None for member in self.members)

    def __repr__(self) -> str:
        return f"<Overlay of {', '.join(self.names)}>"

    def behind(
        self, bucket: IBlobSource, revision: Revision, keys: tuple[str, ...] = (), last: IBlobSource | None = None
    ) -> IBlobSource:
        return BehindBucket(bucket, self, revision, keys, last)

    def member(self, name: str) -> Member | None:
        return next((member for member in self.members if member.name == name), None)

    def first(
        self,
        revision: Revision,
        action: Callable[[IBlobSource], T],
        given_up: Callable[[], bool] = lambda: True,
    ) -> tuple[Member, IBlobSource, T]:
        """What ``action`` returns for the first source that has the revision; the rest as ``IOverlay.behind`` says.

        ``given_up``: whether what a failed action did is undone, so that the next source may be asked.
        """
        failure: StoreError | None = None
        for member in self.members:
            if not member.looks_up(revision):
                continue
            try:
                blob, result = member.ask(revision, action)
            except BlobMissing:
                continue
            except StoreError as error:
                where = f"blob {oid_repr(revision.oid)} at {tid_repr(revision.tid)}"
                logger.warning("source %s cannot give %s: %s", member.name, where, error)
                failure = failure or member.named(error)
                if not given_up():
                    break
                continue
            return member, blob, result
        raise failure or BlobMissing(revision.oid, revision.tid)

    def has(self, revision: Revision) -> bool:
        return self.which(revision) is not None

    def which(self, revision: Revision) -> str | None:
        try:
            return self.first(revision, _looked_up)[0].name
        except BlobMissing:
            return None

    def copy_into(self, revision: Revision, store: IObjectStore, key: str) -> int | None:
        for member in self.members:
            if not member.looks_up(revision):
                continue
            if not ICopyingSource.providedBy(member.source):
                return None
            try:
                copied = member.ask(revision, lambda blob, source=member.source: source.copy_into(revision, store, key))
            except BlobMissing:
                continue
            return copied[1]
        raise BlobMissing(revision.oid, revision.tid)

    def fetch(self, revision: Revision, file: BinaryIO) -> None:
        self.first(revision, lambda blob: blob.download(file), lambda: emptied(file))

    def undone_by_base(self, revision: Revision) -> bool:
        for member in self.members:
            if member.source.follows_undo and member.options.fork_tid is None:
                try:
                    member.source.blob(revision).describe()
                except BlobMissing:
                    continue
                return True
        return False

    def look_into(self, store: IObjectStore) -> None:
        self.lacking = Lacking(store, self._monotonic)

    def mirror_into(self, store: IObjectStore, share: Share = never_shared) -> None:
        if any(member.options.mirror != "off" for member in self.members):
            self._mirror = Mirror(store, self.copy_into, lambda key: self.lacking.came(key), share)

    def note(self, member: Member | None, revision: Revision) -> None:
        """Bytes of the revision come from there; None: from the bucket."""
        self._mirror.note(revision, "off" if member is None else member.options.mirror)

    def completed(self, oid: bytes, tid: bytes, file: str | Openable) -> None:
        self._mirror.completed(oid, tid, file)

    def mirrored(self) -> dict[str, int]:
        return self._mirror.counts()

    def start_checking(self) -> None:
        """Look at each source once, in the background, so that the log says early what will not work."""
        self._checking = threading.Thread(target=self._check, name="s3blobs-sources", daemon=True)
        self._checking.start()

    def _check(self) -> None:
        for member in self.members:
            try:
                trouble = member.source.check()
            except Exception:
                logger.exception("looking at source %s failed", member.name)
                continue
            if trouble is not None:
                logger.warning("source %s: %s; %s", member.name, trouble.detail, trouble.mend)

    def close(self) -> None:
        self._mirror.close()
        self.lacking.close()
        checking, self._checking = self._checking, None
        if checking is not None:
            checking.join()
        for member in self.members:
            member.source.close()


def _looked_up(blob: IBlobSource) -> tuple[int, bytes | None]:
    return blob.describe()


def open_overlay(sources: Sequence[ISourceSettings], base: Any, clock: Any = None, *, check: bool = True) -> IOverlay:
    """The sources of a storage around ``base``. Makes no request in this thread; ``check``: one each in another.

    Raises ConfigurationError where a source's settings cannot work; those that were opened are closed again.
    """
    if not sources:
        return NoOverlay()
    opened: list[tuple[ISource, SourceOptions]] = []
    try:
        for settings in sources:
            opened.append((settings.open(base, clock), settings.options))
    except BaseException:
        for source, _ in opened:
            source.close()
        raise
    overlay = Overlay(opened)
    if check:
        overlay.start_checking()
    return overlay
