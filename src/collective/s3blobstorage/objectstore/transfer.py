"""What a whole object and a range of one have in common: a GET that goes on where it broke off."""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from collective.s3blobstorage.encryption.envelope import key_name
from collective.s3blobstorage.errors import Corrupt, EncryptionKeyMissing, Unavailable
from collective.s3blobstorage.objectstore.body import Stopped
from collective.s3blobstorage.objectstore.connection import Connection, recorded_size, unquoted
from collective.s3blobstorage.objectstore.counted import Comparing
from collective.s3blobstorage.objectstore.interfaces import ObjectInfo
from collective.s3blobstorage.objectstore.patience import Attempts
from collective.s3blobstorage.objectstore.translate import BODY_ERRORS, BodyBroken, Failure, body_broken, failure_of

log = logging.getLogger(__name__)

BLOCK = 256 * 1024  # bytes asked for at a time; what has arrived comes back, so it bounds memory, not the delay

# A request that brought this many bytes does not count as a failed attempt when it breaks; one that brought less does,
# or a server that sends a few bytes and hangs would hold its caller until the deadline.
PROGRESS = 64 * 1024

DIFFERENT = "The object store delivered other bytes than were stored."

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


def refuse_sealed(info: ObjectInfo) -> None:
    """What a store without keys says to an object that needs one: its bytes are no blob's. Raises
    EncryptionKeyMissing."""
    name = key_name(info.metadata)
    if name is not None:
        log.error("%r is encrypted with the key %s, and no <client-side-encryption> has it", info.key, name)
        raise EncryptionKeyMissing(name)


class Rewritten(Exception):
    """There is another object under the key than the one whose first bytes are here. Internal."""


class Transfer(ABC):
    """Bytes of one object on their way here, over as many requests as it takes. Belongs to one thread.

    After a broken connection the next request asks for the rest by ``Range`` and, by ``If-Match``, only of the same
    object: bytes of two versions never mix.

    ``received`` counts the bytes that were given on, ``info`` is the object that they are of.
    """

    def __init__(
        self,
        connection: Connection,
        key: str,
        *,
        size: int | None,
        if_match: str | None,
        begin: Callable[[ObjectInfo], None],
        version: str = "",
    ) -> None:
        self.connection = connection
        self.key = key
        self.wanted_size = size
        self.if_match = if_match  # the ETag (without quotes) that the object must have
        self.version = version  # "" is what readers get
        self.on_begin = begin  # told what the store says of the object before its bytes are given on, each time
        self.until = connection.clock.monotonic() + connection.settings.download_deadline
        self.info: ObjectInfo | None = None
        self.received = 0

    # What a subclass decides

    @abstractmethod
    def range(self) -> str | None:
        """The ``Range`` of the next request; None asks for the whole object."""

    @abstractmethod
    def accept(self, response: dict[str, Any]) -> int:
        """Check that the response brings what was asked for and set ``info``; how many bytes of its body to skip."""

    @abstractmethod
    def left(self) -> int:
        """How many bytes are still to come, by ``info``."""

    @abstractmethod
    def give(self, block: bytes) -> None:
        """Give a block on. What the receiver raises is carried by ``Stopped``: it is no error of the network."""

    @abstractmethod
    def rewritten(self) -> None:
        """The object is another one now. Start over, or raise what the caller gets."""

    @abstractmethod
    def unsatisfiable(self) -> None:
        """The store answered 416 to the first request. Set ``info``, or raise."""

    @abstractmethod
    def compare(self) -> Failure | None:
        """All bytes are here: are they the right ones?"""

    # The requests

    def run(self) -> ObjectInfo:
        """What was received, as the store describes it. Raises StoreError, and what the receiver raised."""
        attempts = self.connection.attempts("GET", self.key, self.connection.reading, until=self.until)
        closing = False
        while True:
            before = self.received
            with Comparing(self.connection.traffic, "get"):  # of a sealed object, what takes its bytes compares them
                try:
                    attempts.admit()
                    failure = self._attempt(attempts)
                except Rewritten:
                    self.rewritten()
                    closing = True
                    continue
                except Stopped as error:
                    raise error.cause from None
            if failure is None:
                failure = self.compare()
                if failure is not None:
                    self.connection.traffic.failed("get", "other")
            if failure is None:
                assert self.info is not None
                return self.info
            if closing and failure.retry and not failure.status and not self.received:
                # Ceph ends the connection after a 412 without saying so. A request that is made at once may still go
                # out on it: it does not count as an attempt. At most once, since an object is started over once.
                closing = False
                continue
            if self.received - before >= PROGRESS:
                attempts.progressed()
            attempts.failed(failure)

    def _attempt(self, attempts: Attempts) -> Failure | None:
        """One request and its body; None where all is here."""
        answered = False
        try:
            try:
                response = self.connection.signed_reader.get_object(**self._parameters())
            except ClientError as error:
                status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
                if self.received and status in (412, 416):  # 416: the other object is shorter
                    raise Rewritten() from None
                if status == 416:
                    self.unsatisfiable()
                    return None
                raise
            answered = True
            attempts.answered()
            with response["Body"] as stream:  # leaving before its end closes the connection
                self.connection.encryption.check_read(self.key, response)
                self._receive(stream, self.accept(response))
        except Exception as error:
            failure = failure_of(error)
            if failure is None:
                raise
            if answered and isinstance(failure.error, Unavailable):
                self.connection.traffic.failed("get", "unavailable")  # a body that broke, of a request that went well
            return failure
        return None

    def _parameters(self) -> dict[str, Any]:
        parameters = {**self.connection.object(self.key), **self.connection.encryption.read_parameters()}
        if self.version:
            parameters["VersionId"] = self.version
        wanted = self.range()
        if wanted is not None:
            parameters["Range"] = wanted
        etag = self.expected_etag()
        if etag:
            parameters["IfMatch"] = etag  # without quotes: Ceph compares them too
        return parameters

    def expected_etag(self) -> str | None:
        """Of the object whose bytes may be added to those that are here."""
        return self.info.etag if self.info is not None and self.received else self.if_match

    def _receive(self, stream: Any, skip: int) -> None:
        # read1 gives what has arrived. read would wait until the whole block is there: a server that sends a byte every
        # few seconds would never run into the deadline.
        read: Callable[[int], bytes] = getattr(stream, "read1", None) or stream.read
        began = self.received - skip
        try:
            while skip:
                skip -= len(_block(read, min(BLOCK, skip)))
                self._check_deadline()
            while left := self.left():
                block = _block(read, min(BLOCK, left))
                self.give(block)
                self.received += len(block)
                if len(block) < left:
                    self._check_deadline()
        finally:
            self.connection.traffic.received("get", self.received - skip - began)
        # Reading the end of the body gives the connection back to the pool. All bytes are here: an error takes
        # nothing from what arrived.
        try:
            read(1)
        except Exception as error:
            log.debug("end of body: %s", type(error).__name__)

    def _check_deadline(self) -> None:
        if self.connection.clock.monotonic() > self.until:
            log.warning("GET of %r: deadline after %d bytes", self.key, self.received)
            raise Unavailable("The object store did not deliver before the deadline (download-deadline).")

    # For accept()

    def begin(self, response: dict[str, Any], total: int | None = None) -> ObjectInfo:
        """The first answer. That the store holds another size is known before gigabytes of it are here.

        ``total`` is the size of the whole object where the response is a part of it.
        """
        described = response if total is None else {**response, "ContentLength": total}
        info = self.info = self.connection.info_of(self.key, described, self.wanted_size)
        self.on_begin(info)  # first: a sealed object without its key has another size too
        self.check_size(info)
        return info

    def check_size(self, info: ObjectInfo) -> None:
        wanted = self.wanted_size if self.wanted_size is not None else recorded_size(info.metadata)
        if wanted is not None and wanted != info.size:
            log.error("GET of %r: the store holds %d bytes instead of %d", self.key, info.size, wanted)
            raise Corrupt(DIFFERENT)


def content_range(response: dict[str, Any]) -> tuple[int, int, int | None] | None:
    """First byte, last byte and size of the whole object (None for ``*``); None where the response is no range."""
    found = _CONTENT_RANGE.fullmatch(response.get("ContentRange") or "")
    if response["ResponseMetadata"]["HTTPStatusCode"] != 206 or found is None:
        return None
    return int(found[1]), int(found[2]), None if found[3] == "*" else int(found[3])


def same_etag(response: dict[str, Any], etag: str | None) -> bool:
    """Whether nothing says that the response is of another object than the one with that ETag."""
    there = unquoted(response.get("ETag"))
    return not there or not etag or there == etag


def _block(read: Callable[[int], bytes], amount: int) -> bytes:
    try:
        block = read(amount)
    except BODY_ERRORS as error:
        # From here on this is a network error; the receiver's own OSError never passes this place.
        raise body_broken(error) from None
    if not block:
        raise BodyBroken("the body ended too early")
    return block
