"""Reading: one GET per object, resumed where it breaks."""

from __future__ import annotations

import hashlib
import http.client
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, BinaryIO

import urllib3.exceptions
from botocore.exceptions import ClientError

from collective.s3blobstorage.errors import Corrupt, Unavailable
from collective.s3blobstorage.objectstore.body import Stopped
from collective.s3blobstorage.objectstore.connection import (
    Connection,
    info_of,
    recorded_sha256,
    recorded_size,
    unquoted,
)
from collective.s3blobstorage.objectstore.interfaces import ObjectInfo
from collective.s3blobstorage.objectstore.patience import Attempts
from collective.s3blobstorage.objectstore.translate import BodyBroken, Failure, failure_of

log = logging.getLogger(__name__)

BLOCK = 256 * 1024  # bytes asked for at a time; what has arrived comes back, so it bounds memory, not the delay

# A request that brought this many bytes does not count as a failed attempt when it breaks; one that brought less does,
# or a server that sends a few bytes and hangs would hold its caller until the deadline.
PROGRESS = 64 * 1024

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_DIFFERENT = "The object store delivered other bytes than were stored."


def head(connection: Connection, key: str) -> ObjectInfo | None:
    """HEAD; None where the store answers 404. Its answer has no body, so a missing bucket is not told apart."""
    parameters = {**connection.object(key), **connection.encryption.read_parameters()}

    def request() -> ObjectInfo | None:
        try:
            response = connection.reader.head_object(**parameters)
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404:
                return None
            raise
        connection.encryption.check_echo(response)
        return info_of(key, response)

    return connection.attempts("HEAD", key, connection.reading).run(request)


def get_file(
    connection: Connection,
    key: str,
    target: BinaryIO,
    *,
    size: int | None = None,
    sha256: bytes | None = None,
    if_match: str | None = None,
) -> ObjectInfo:
    """See ``IObjectStore.get_file``. ``if_match`` is the ETag (without quotes) that the object must have."""
    try:
        return _Download(connection, key, target, size=size, sha256=sha256, if_match=if_match).run()
    except Stopped as error:
        raise error.cause from None


def get_bytes(connection: Connection, key: str, limit: int) -> bytes:
    """See ``IObjectStore.get_bytes``."""
    target = _Limited(limit)
    get_file(connection, key, target)  # type: ignore[arg-type]
    return bytes(target.data)


class _Rewritten(Exception):
    """There is another object under the key than the one whose first bytes are here."""


class _Limited:
    """The memory that ``get_bytes`` writes to."""

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


class _Download:
    """One object on its way into one file, over as many requests as it takes. Belongs to one thread.

    After a broken connection the next request asks for the rest by ``Range`` and, by ``If-Match``, only of the same
    object: bytes of two versions never mix. Where the object was rewritten meanwhile (412) the file is emptied and the
    download starts over, once.
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
    ) -> None:
        self.connection = connection
        self.key = key
        self.target = target
        self.wanted_size = size
        self.wanted_sha256 = sha256
        self.if_match = if_match
        self.until = connection.clock.monotonic() + connection.settings.download_deadline
        self.started_over = False
        self.info: ObjectInfo | None = None
        self.received = 0
        self.hash = hashlib.sha256()

    def run(self) -> ObjectInfo:
        attempts = self.connection.attempts("GET", self.key, self.connection.reading, until=self.until)
        while True:
            before = self.received
            try:
                attempts.admit()
                failure = self._attempt(attempts)
            except _Rewritten:
                self._start_over_once()
                continue
            if failure is None:
                failure = self._compare()
                if failure is None:
                    assert self.info is not None
                    return replace(self.info, sha256=self.hash.digest())
                self._start_over()
            elif self.received - before >= PROGRESS:
                attempts.progressed()
            attempts.failed(failure)

    def _attempt(self, attempts: Attempts) -> Failure | None:
        """One request and its body; None where the whole object is here."""
        try:
            try:
                response = self.connection.reader.get_object(**self._parameters())
            except ClientError as error:
                if self._is_rewritten(error):
                    raise _Rewritten() from None
                raise
            attempts.answered()
            with response["Body"] as stream:  # leaving before its end closes the connection
                self.connection.encryption.check_echo(response)
                self._accept(response)
                self._receive(stream)
        except Exception as error:
            failure = failure_of(error)
            if failure is None:
                raise
            return failure
        return None

    def _parameters(self) -> dict[str, Any]:
        parameters = {**self.connection.object(self.key), **self.connection.encryption.read_parameters()}
        if self.info is not None and self.received:
            parameters["Range"] = f"bytes={self.received}-"
            parameters["IfMatch"] = self.info.etag
        elif self.if_match is not None:
            parameters["IfMatch"] = self.if_match
        return parameters

    def _is_rewritten(self, error: ClientError) -> bool:
        """Whether the answer to a request for the rest is that there is another object now (412, shorter: 416)."""
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return bool(self.received) and status in (412, 416)

    def _start_over_once(self) -> None:
        if self.started_over or self.if_match is not None:
            log.warning("GET of %r: rewritten while it was read", self.key)
            raise Unavailable("The object was rewritten while it was read.") from None
        self.started_over = True
        self._start_over()

    def _start_over(self) -> None:
        self.target.seek(0)
        self.target.truncate(0)
        self.received = 0
        self.hash = hashlib.sha256()
        self.info = None

    def _accept(self, response: dict[str, Any]) -> None:
        """Check that the response continues what is here; a store that ignores ``Range`` (200) starts over."""
        if not self.received:
            self._begin(response)
            return
        assert self.info is not None
        total = self.info.size
        found = _CONTENT_RANGE.fullmatch(response.get("ContentRange") or "")
        if response["ResponseMetadata"]["HTTPStatusCode"] != 206 or found is None:
            self._start_over()
            self._begin(response)
        elif int(found[1]) != self.received or found[3] not in ("*", str(total)) or not self._same(response):
            self._start_over()
            raise BodyBroken("the rest that was asked for is not the rest that came")

    def _begin(self, response: dict[str, Any]) -> None:
        """The whole object comes. That the store holds another size is known before gigabytes of it are here."""
        self.info = info_of(self.key, response, self.wanted_size)
        wanted = self.wanted_size if self.wanted_size is not None else recorded_size(self.info.metadata)
        if wanted is not None and wanted != self.info.size:
            log.error("GET of %r: the store holds %d bytes instead of %d", self.key, self.info.size, wanted)
            raise Corrupt(_DIFFERENT)

    def _same(self, response: dict[str, Any]) -> bool:
        assert self.info is not None
        etag = unquoted(response.get("ETag"))
        return not etag or etag == self.info.etag

    def _receive(self, stream: Any) -> None:
        assert self.info is not None
        # read1 gives what has arrived. read would wait until the whole block is there: a server that sends a byte every
        # few seconds would never run into the deadline.
        read: Callable[[int], bytes] = getattr(stream, "read1", None) or stream.read
        while self.received < self.info.size:
            block = _block(read, min(BLOCK, self.info.size - self.received))
            self.hash.update(block)
            _write_whole(self.target, block)
            self.received += len(block)
            if self.connection.clock.monotonic() > self.until and self.received < self.info.size:
                log.warning("GET of %r: deadline at %d of %d bytes", self.key, self.received, self.info.size)
                raise Unavailable("The object store did not deliver before the deadline (download-deadline).")
        # Reading the end of the body gives the connection back to the pool. The size was reached: an error here takes
        # nothing from what arrived.
        try:
            read(1)
        except Exception as error:
            log.debug("end of body: %s", type(error).__name__)

    def _compare(self) -> Failure | None:
        """The SHA-256 that must have arrived, from the caller or else from the object's own metadata."""
        assert self.info is not None
        digest = self.wanted_sha256 if self.wanted_sha256 is not None else recorded_sha256(self.info.metadata)
        if digest is not None and digest != self.hash.digest():
            return Failure(Corrupt(_DIFFERENT), retry=True, detail=f"SHA-256 differs over {self.received} bytes")
        return None


def _block(read: Callable[[int], bytes], amount: int) -> bytes:
    try:
        block = read(amount)
    except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
        # From here on this is a network error; the target's own OSError never passes this place.
        raise BodyBroken(type(error).__name__) from None
    if not block:
        raise BodyBroken("the body ended too early")
    return block


def _write_whole(target: BinaryIO, block: bytes) -> None:
    """An unbuffered file may take less than it is given. What it raises is no error of the network."""
    try:
        written = target.write(block)
        while written is not None and written < len(block):
            block = block[written:]
            written = target.write(block)
    except Exception as error:
        raise Stopped(error) from None


