"""Reading whole objects, and what the store says of them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, BinaryIO

from botocore.exceptions import ClientError

from collective.s3blobstorage.errors import Corrupt, Unavailable
from collective.s3blobstorage.objectstore.body import Stopped
from collective.s3blobstorage.objectstore.connection import Connection, recorded_sha256
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


def head(connection: Connection, key: str, version: str = "") -> ObjectInfo | None:
    """HEAD; None where the store answers 404. Its answer has no body, so a missing bucket is not told apart."""
    parameters = {**connection.object(key), **connection.encryption.read_parameters()}
    if version:
        parameters["VersionId"] = version

    def request() -> ObjectInfo | None:
        try:
            response = connection.reader.head_object(**parameters)
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404:
                return None
            raise
        connection.time.note(response)
        connection.encryption.check_read(key, response)
        return connection.info_of(key, response)

    return connection.attempts("HEAD", key, connection.reading).run(request)


def get_file(
    connection: Connection,
    key: str,
    target: BinaryIO,
    *,
    size: int | None = None,
    sha256: bytes | None = None,
    if_match: str | None = None,
    begin: Callable[[ObjectInfo], None] = refuse_sealed,
    hashed: bool = True,
    version: str = "",
) -> ObjectInfo:
    """See ``IObjectStore.get_file``. ``if_match`` is the ETag (without quotes) that the object must have.

    ``begin`` is told what the store says of the object before its first byte is written, again whenever that starts
    over; what it raises goes through. ``hashed``: whether the SHA-256 is computed and compared; not, where the caller
    does better.
    """
    return _Download(
        connection,
        key,
        target,
        size=size,
        sha256=sha256,
        if_match=if_match,
        begin=begin,
        hashed=hashed,
        version=version,
    ).run()


class Limited:
    """The memory that ``IObjectStore.get_bytes`` writes to."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.data = bytearray()

    def write(self, block: bytes) -> int:
        if len(self.data) + len(block) > self.limit:
            raise Corrupt(f"An object that must be small is over {self.limit} bytes.")
        self.data += block
        return len(block)

    def seek(self, offset: int) -> int:
        return offset

    def truncate(self, size: int) -> int:
        del self.data[size:]
        return size


class _Download(Transfer):
    """A whole object on its way into one file.

    Where the object was rewritten meanwhile the file is emptied and the download starts over, once.
    """

    def __init__(
        self,
        connection: Connection,
        key: str,
        target: BinaryIO,
        *,
        size: int | None,
        sha256: bytes | None,
        if_match: str | None,
        begin: Callable[[ObjectInfo], None],
        hashed: bool,
        version: str,
    ) -> None:
        super().__init__(connection, key, size=size, if_match=if_match, begin=begin, version=version)
        self.target = target
        self.wanted_sha256 = sha256
        self.started_over = False
        self.hashed = hashed
        self.hash = hashlib.sha256()

    def range(self) -> str | None:
        return f"bytes={self.received}-" if self.received else None

    def left(self) -> int:
        assert self.info is not None
        return self.info.size - self.received

    def accept(self, response: dict[str, Any]) -> int:
        """A store that ignores ``Range`` (200) starts over."""
        found = content_range(response)
        if not self.received:
            self.begin(response)
        elif found is None:
            self._start_over()
            self.begin(response)
        else:
            first, _, total = found
            assert self.info is not None
            if first != self.received or total not in (None, self.info.size) or not same_etag(response, self.info.etag):
                self._start_over()
                raise BodyBroken("the rest that was asked for is not the rest that came")
        return 0

    def give(self, block: bytes) -> None:
        if self.hashed:
            self.hash.update(block)
        try:
            write_whole(self.target, block)
        except Exception as error:  # no error of the network
            raise Stopped(error) from None

    def rewritten(self) -> None:
        if self.started_over or self.if_match is not None:
            log.warning("GET of %r: rewritten while it was read", self.key)
            raise Unavailable("The object was rewritten while it was read.") from None
        self.started_over = True
        self._start_over()

    def unsatisfiable(self) -> None:
        raise BodyBroken("416 for a whole object")

    def _start_over(self) -> None:
        self.target.seek(0)
        self.target.truncate(0)
        self.received = 0
        self.hash = hashlib.sha256()
        self.info = None

    def compare(self) -> Failure | None:
        """The SHA-256 that must have arrived, from the caller or else from the object's own metadata."""
        assert self.info is not None
        if not self.hashed:
            return None
        digest = self.wanted_sha256 if self.wanted_sha256 is not None else recorded_sha256(self.info.metadata)
        if digest is not None and digest != self.hash.digest():
            received = self.received
            self._start_over()
            return Failure(Corrupt(DIFFERENT), retry=True, detail=f"SHA-256 differs over {received} bytes")
        self.info = replace(self.info, sha256=self.hash.digest())
        return None


def write_whole(target: BinaryIO, block: bytes) -> None:
    """An unbuffered file may take less than it is given."""
    written = target.write(block)
    while written is not None and written < len(block):
        block = block[written:]
        written = target.write(block)
