"""What people are told of the sources behind one storage's bucket."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zope.interface import implementer

from ..errors import BlobMissing
from ..interfaces import IBlobOverlay
from ..overlay.interfaces import ISourceSettings, Revision
from .reading import BlobReader, state_of

BUCKET, RECORD = "bucket", "record"


@implementer(IBlobOverlay)
class StorageSources:
    """See ``IBlobOverlay``. ``record(oid, tid)`` reads that revision's record."""

    def __init__(
        self, reader: BlobReader, record: Callable[[bytes, bytes], bytes], settings: Sequence[ISourceSettings]
    ) -> None:
        self._reader = reader
        self._record = record
        self._settings = settings

    def sources(self) -> list[dict[str, str]]:
        # An add-on's source need not say of which type its section is.
        return [
            {
                "name": settings.options.name,
                "type": settings.options.type or type(settings).__name__,
                "mirror": settings.options.mirror,
            }
            for settings in self._settings
        ]

    def where(self, oid: bytes, tid: bytes) -> str | None:
        try:
            state = state_of(self._record(oid, tid), oid, tid)
        except BlobMissing:
            return None  # the database has no such revision of a blob
        if state.inline is not None:
            return RECORD
        if self._reader.find(self._reader.location(oid, tid, state)) is not None:
            return BUCKET
        return self._reader.overlay.which(Revision(oid, tid, state))
