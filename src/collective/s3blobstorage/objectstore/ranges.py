"""Reading a range of an object: how a blob is fetched by parts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from botocore.parsers import ResponseParserError

from collective.s3blobstorage.errors import Corrupt, ObjectMissing, PreconditionFailed
from collective.s3blobstorage.objectstore.body import Stopped
from collective.s3blobstorage.objectstore.connection import Connection, recorded_size
from collective.s3blobstorage.objectstore.download import head
from collective.s3blobstorage.objectstore.interfaces import ObjectInfo
from collective.s3blobstorage.objectstore.transfer import (
    DIFFERENT,
    Transfer,
    content_range,
    refuse_sealed,
    same_etag,
)
from collective.s3blobstorage.objectstore.translate import BodyBroken, Failure

log = logging.getLogger(__name__)

_CHANGED = "The object was changed."


def get_range(
    connection: Connection,
    key: str,
    start: int,
    length: int,
    write: Callable[[bytes | memoryview], None],
    *,
    size: int | None = None,
    if_match: str | None = None,
    begin: Callable[[ObjectInfo], None] = refuse_sealed,
) -> ObjectInfo:
    """See ``IObjectStore.get_range``. ``begin`` is told what the store says of the object before bytes of it are given
    on, again with each request that goes on; what it raises goes through. Not told where nothing is in the range."""
    if start < 0 or length < 1:
        raise ValueError(f"{length} bytes from {start} on are no range")
    return _Range(connection, key, start, length, write, size=size, if_match=if_match, begin=begin).run()


class _Range(Transfer):
    """A range on its way to a callback, which cannot take back what it was given: nothing is ever started over."""

    def __init__(
        self,
        connection: Connection,
        key: str,
        start: int,
        length: int,
        write: Callable[[bytes | memoryview], None],
        *,
        size: int | None,
        if_match: str | None,
        begin: Callable[[ObjectInfo], None],
    ) -> None:
        super().__init__(connection, key, size=size, if_match=if_match, begin=begin)
        self.start = start
        self.end = start + length  # the first byte behind the range
        self.write = write

    def range(self) -> str:
        return f"bytes={self.start + self.received}-{self.end - 1}"

    def left(self) -> int:
        assert self.info is not None
        return max(0, min(self.end, self.info.size) - self.start - self.received)

    def accept(self, response: dict[str, Any]) -> int:
        if not same_etag(response, self.expected_etag()):  # a store that ignores If-Match
            raise PreconditionFailed(_CHANGED)
        before = self.info if self.received else None
        first = self.start + self.received
        found = content_range(response)
        if found is not None:
            begins, last, total = found
            info = self.begin(response, self._size(response) if total is None else total)
            length = response.get("ContentLength")
            wrong = begins != first or last != min(self.end, info.size) - 1
            if wrong or (length is not None and length != last - begins + 1):
                log.error("GET of %r: %s asked, %s sent", self.key, self.range(), response.get("ContentRange"))
                raise Corrupt(DIFFERENT)
        elif response["ResponseMetadata"]["HTTPStatusCode"] == 200:
            # A store that ignores Range sends all of the object. Slow, but the range is in it.
            info = self.begin(response)
        else:
            raise ResponseParserError("a range without Content-Range")
        if before is not None and before.size != info.size:
            raise PreconditionFailed(_CHANGED)
        return first if found is None and first < info.size else 0

    def _size(self, response: dict[str, Any]) -> int:
        """Of the whole object, where Content-Range has a ``*`` in its place."""
        size = self.wanted_size
        if size is None:
            size = recorded_size({name.lower(): value for name, value in response.get("Metadata", {}).items()})
        if size is None:
            raise ResponseParserError("Content-Range without a size")
        return size

    def give(self, block: bytes) -> None:
        try:
            self.write(block)
        except Exception as error:
            raise Stopped(error) from None

    def rewritten(self) -> None:
        raise PreconditionFailed(_CHANGED) from None

    def unsatisfiable(self) -> None:
        """The range begins at the end or behind it. A 416 has neither ETag nor metadata: they are asked for."""
        there = head(self.connection, self.key)
        if there is None:
            raise ObjectMissing("The object store has no such object.")
        if self.if_match and there.etag != self.if_match:
            raise PreconditionFailed(_CHANGED)
        self.check_size(there)
        if self.start < there.size:
            raise BodyBroken("416 for a range that is there")
        self.info = there

    def compare(self) -> Failure | None:
        return None
