"""Retention (Object Lock): until when nobody may delete a new blob, and whether the store says that it keeps to it.

Protocol: Amazon S3 User Guide, "Locking objects with Object Lock". The mode and the date go along with PutObject,
CreateMultipartUpload and CopyObject. AWS wants Content-MD5, or a checksum, with such a PUT and with each part.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from collective.s3blobstorage.errors import Refused, RetentionNotHonoured
from collective.s3blobstorage.keys import BLOBS
from collective.s3blobstorage.objectstore.interfaces import Lock, ObjectInfo
from collective.s3blobstorage.settings import Retention

if TYPE_CHECKING:
    from collective.s3blobstorage.objectstore.connection import Connection

log = logging.getLogger(__name__)

# A date that is over when the request arrives is refused. What ends sooner is kept for so long.
_LEAST = timedelta(minutes=2)
# Dates are cut to seconds, or rounded, on the way to the store and back.
_ROUNDED = timedelta(seconds=1)


def wanted(retention: Retention | None, key: str, before: Lock | None, now: datetime) -> Lock:
    """What the version that is about to be written shall be kept by. Pure.

    ``before``: what keeps the version whose place it takes, with the same bytes: it is kept by the same, so that a
    change of keys makes nothing shorter and begins nothing anew. None: it is a new object.
    """
    if before is not None:
        if before.until is None or before.until <= now:
            return Lock(legal_hold=before.legal_hold)
        return Lock(max(before.until, now + _LEAST), before.mode, before.legal_hold)
    if retention is None or not key.startswith(BLOBS):
        return Lock()
    until = (now + timedelta(seconds=retention.seconds)).replace(microsecond=0) + _ROUNDED
    return Lock(until, retention.mode.upper())


def lock_for(connection: Connection, key: str, before: Lock | None) -> Lock:
    """``wanted``, by the store's clock where an answer told it."""
    if before is None and connection.settings.retention is None:
        return _NOTHING  # on the way of every small blob
    return wanted(connection.settings.retention, key, before, connection.time.now() or datetime.now(UTC))


_NOTHING = Lock()


def parameters(lock: Lock) -> dict[str, Any]:
    """Of PutObject, CreateMultipartUpload and CopyObject."""
    named: dict[str, Any] = {}
    if lock.until is not None:
        named |= {"ObjectLockMode": lock.mode, "ObjectLockRetainUntilDate": lock.until}
    if lock.legal_hold:
        named["ObjectLockLegalHoldStatus"] = "ON"
    return named


def asked(named: Mapping[str, Any]) -> Lock:
    """What ``parameters`` put into those of a request. One that asks for something needs Content-MD5 with its body."""
    until = named.get("ObjectLockRetainUntilDate")
    if until is None and "ObjectLockLegalHoldStatus" not in named:
        return _NOTHING
    return Lock(until, str(named.get("ObjectLockMode") or ""), named.get("ObjectLockLegalHoldStatus") == "ON")


def explained(lock: Lock) -> AbstractContextManager[None]:
    """Around the request that asks for it: a refusal says what that needs, beside what else may be in the way."""
    return _AS_IT_IS if lock == _NOTHING else _explained()


_AS_IT_IS = nullcontext()


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except Refused as error:
        if type(error) is not Refused:
            raise
        raise Refused(
            f"{error} It was to be kept (retention, or a legal hold of what it replaces): that needs Object Lock in the"
            " bucket, and the right s3:PutObjectRetention."
        ) from None


class Honoured:
    """Whether the store was seen to keep what was asked for, for each way to write. Of one process and bucket.

    A way is PUT, multipart or copy: some stores take the headers with all of them and look at them with one. There each
    object is kept by a request of its own, just after it was written. Any thread may call anything; those that write
    their first objects at once each look.
    """

    def __init__(self) -> None:
        self._by_headers: dict[str, bool] = {}

    def check(
        self, way: str, key: str, lock: Lock, look: Callable[[], ObjectInfo | None], keep: Callable[[], None]
    ) -> None:
        """After each object that was written with ``lock``: a HEAD, as ``look`` makes it, after the first one of each
        way, two where the store did not look at the headers. ``keep`` makes the requests that lock an object. ``way``:
        "" is one that proves nothing of the next one.

        Raises RetentionNotHonoured, and what ``look`` and ``keep`` raise.
        """
        known = self._by_headers.get(way)
        if lock == Lock() or known:
            return
        if known is None and _keeps(look(), lock):
            if way:
                self._by_headers[way] = True
            return
        try:
            keep()
        except Refused:
            if known is not None:
                raise
            raise _not_honoured(key) from None
        if known is None:
            if not _keeps(look(), lock):
                raise _not_honoured(key)
            if way:
                log.info("%s: this store locks objects only by a request of its own, one for each (retention)", way)
                self._by_headers[way] = False


def _keeps(told: ObjectInfo | None, lock: Lock) -> bool:
    if told is None or (lock.legal_hold and not told.lock.legal_hold):
        return False
    if lock.until is None:
        return True
    until = told.lock.until
    return until is not None and told.lock.mode == lock.mode and until >= lock.until - _ROUNDED


def _not_honoured(key: str) -> RetentionNotHonoured:
    log.error("%r: the store does not say that it keeps it from deletion", key)
    return RetentionNotHonoured(
        "retention: the object store does not say that it keeps a new object as it was asked to. Take a bucket with"
        " Object Lock, let the policy of s3-access-key allow s3:PutObjectRetention and s3:GetObjectRetention, or remove"
        " retention"
    )
