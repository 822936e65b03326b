"""One blob revision that may be in the bucket or in a source."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from ZODB.utils import oid_repr, tid_repr
from zope.interface import implementer

from ..cache.interfaces import IBlobSource
from ..errors import BlobMissing, PreconditionFailed, StoreError
from .interfaces import Revision

if TYPE_CHECKING:
    from .chain import Member, Overlay

logger = logging.getLogger(__name__)

T = TypeVar("T")

# In a validator, around the name of the source it is of. No ETag and no name has one; the bucket's validators stay as
# they are.
_QUOTE = '"'

_ELSEWHERE = "The blob is not any more where its first bytes were read."


@dataclass(frozen=True)
class _Place:
    """Where the revision was found. ``member`` None: the bucket."""

    member: Member | None
    blob: IBlobSource

    def tagged(self, validator: str) -> str:
        return validator if self.member is None else f"{_QUOTE}{self.member.name}{_QUOTE}{validator}"


class _OfReader(Exception):
    """Around what ``write`` raised, which may be one of the store's errors. Never leaves this module."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class _Passing:
    """A read whose blocks are passed on, and which remembers that they were: what a reader was given cannot be taken
    back."""

    def __init__(self, start: int, length: int, write: Callable[[bytes | memoryview], None]) -> None:
        self._range = start, length
        self._write = write
        self._raised: Exception | None = None
        self.nothing_yet = True

    def read(self, blob: IBlobSource, validator: str | None) -> str:
        try:
            return blob.read(*self._range, self._pass_on, validator)
        except Exception as error:
            if self._raised is not None:
                raise _OfReader(self._raised) from error
            raise

    def _pass_on(self, data: bytes | memoryview) -> None:
        self.nothing_yet = False
        try:
            self._write(data)
        except Exception as error:
            self._raised = error
            raise


@implementer(IBlobSource)
class BehindBucket:
    """See ``IBlobSource`` and ``IOverlay.behind``. Shared by the threads that read one blob.

    A validator names the source it is of. So whoever goes on with parts that another process began, goes on in the same
    place, without asking the bucket first.
    """

    def __init__(
        self,
        bucket: IBlobSource,
        overlay: Overlay,
        revision: Revision,
        keys: tuple[str, ...] = (),
        last: IBlobSource | None = None,
    ) -> None:
        self._bucket = _Place(None, bucket)
        self._last = last
        self._overlay = overlay
        self._revision = revision
        self._keys = keys
        self._place: _Place | None = None
        self._lock = threading.Lock()  # guards _place; nothing waits while it is held

    def __repr__(self) -> str:
        return f"<BehindBucket {oid_repr(self._revision.oid)} {tid_repr(self._revision.tid)}>"

    @property
    def described(self) -> tuple[int, bytes | None] | None:
        known = self._bucket.blob.described
        place = self._place
        return known if known is not None or place is None else place.blob.described

    def describe(self) -> tuple[int, bytes | None]:
        return self.described or self._find(lambda blob: blob.describe())[1]

    def download(self, file: BinaryIO) -> None:
        place, _ = self._find(lambda blob: blob.download(file), lambda: emptied(file))
        self._note(place)

    def read(self, start: int, length: int, write: Callable[[bytes | memoryview], None], validator: str | None) -> str:
        passing = _Passing(start, length, write)
        try:
            if validator:
                return self._read_on(passing, validator)
            place, found = self._find(lambda blob: passing.read(blob, None), lambda: passing.nothing_yet)
            self._note(place)
            return place.tagged(found)
        except _OfReader as own:
            raise own.error from None

    def _read_on(self, passing: _Passing, validator: str) -> str:
        place, bare = self._of(validator)
        self._note(place)  # before it: a request that is given up at the border of a part has brought some
        try:
            found = _ask(place, lambda blob: passing.read(blob, bare))
        except BlobMissing:
            self._forget(place)
            raise PreconditionFailed(_ELSEWHERE) from None
        return self._keep(place).tagged(found)

    def _note(self, place: _Place) -> None:
        """What a source gives is mirrored when the cache has the whole, and what the bucket gives is not."""
        self._overlay.note(place.member, self._revision)

    def _of(self, validator: str) -> tuple[_Place, str]:
        """The place that the validator is of, and what it said there."""
        place = self._place
        if not validator.startswith(_QUOTE):
            return (place if place is not None and place.member is None else self._bucket), validator
        name, _, bare = validator[1:].partition(_QUOTE)
        if place is not None and place.member is not None and place.member.name == name:
            return place, bare
        member = self._overlay.member(name)
        if member is None:  # the configuration was changed since
            raise PreconditionFailed(_ELSEWHERE)
        return _Place(member, member.source.blob(self._revision)), bare

    def _find(
        self, action: Callable[[IBlobSource], T], given_up: Callable[[], bool] = lambda: True
    ) -> tuple[_Place, T]:
        """What ``action`` returns, in the place where the revision was found before, else the first that has it.

        The bucket is the first, unless it was seen to lack the revision a moment ago: then it is the last.
        """
        place = self._place
        if place is not None:
            try:
                return place, _ask(place, action)
            except BlobMissing:
                self._forget(place)  # it moved: from a source that was emptied into the bucket, for example
        lacking, failure = self._overlay.lacking, None
        if lacking.lacks(self._keys, self._revision.tid):
            try:
                member, blob, result = self._overlay.first(self._revision, action, given_up)
                return self._keep(_Place(member, blob)), result
            except StoreError as error:
                if not given_up():
                    raise
                failure = error  # it may have come into the bucket since
        try:
            result = action(self._bucket.blob)
        except BlobMissing:
            lacking.missed(self._keys, self._revision.tid)
        else:
            lacking.found()
            return self._keep(self._bucket), result
        try:
            if failure is not None:
                raise failure
            member, blob, result = self._overlay.first(self._revision, action, given_up)
        except StoreError as error:
            if self._last is not None and given_up():
                with suppress(BlobMissing):
                    result = action(self._last)
                    return self._keep(_Place(None, self._last)), result
            if isinstance(error, BlobMissing):
                logger.error(
                    "blob %s at %s is neither in the bucket nor in a source (%s)",
                    oid_repr(self._revision.oid),
                    tid_repr(self._revision.tid),
                    ", ".join(self._overlay.names),
                )
            raise
        return self._keep(_Place(member, blob)), result

    def _keep(self, place: _Place) -> _Place:
        with self._lock:
            if self._place is None:
                self._place = place
        return place

    def _forget(self, place: _Place) -> None:
        with self._lock:
            if self._place is place:
                self._place = None


def emptied(file: BinaryIO) -> bool:
    """What a download that failed wrote is taken back: the next place begins anew."""
    file.seek(0)
    file.truncate(0)
    return True


def _ask(place: _Place, action: Callable[[IBlobSource], T]) -> T:
    """What ``action`` returns there. A source's error says which source it is of."""
    try:
        return action(place.blob)
    except BlobMissing:
        raise
    except StoreError as error:
        if place.member is None:
            raise
        raise place.member.named(error) from error
