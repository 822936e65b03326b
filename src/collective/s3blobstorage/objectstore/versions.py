"""Does the bucket keep versions, and what keeps one of them from being deleted?"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from collective.s3blobstorage.errors import Refused
from collective.s3blobstorage.keys import BLOBS
from collective.s3blobstorage.objectstore.connection import Connection, lock_told
from collective.s3blobstorage.objectstore.interfaces import Lock, ObjectInfo
from collective.s3blobstorage.objectstore.patience import UPLOADING
from collective.s3blobstorage.objectstore.translate import Failure, failure_of


def keeps_versions(connection: Connection) -> bool | None:
    """See ``IObjectStore.keeps_versions``."""
    parameters = connection.bucket()
    answer = answered(
        connection, "GetBucketVersioning", "", lambda: connection.reader.get_bucket_versioning(**parameters)
    )
    if not isinstance(answer, Failure):
        return bool(answer.get("Status"))
    if answer.is_unknown:
        return False
    return None


def lock_of(connection: Connection, key: str, version: str) -> Lock:
    """See ``IObjectStore.lock_of``."""
    named = {**connection.object(key), **({"VersionId": version} if version else {})}
    # Of what a customer's key encrypts a HEAD without it tells nothing.
    told = answered(connection, "HEAD", key, lambda: connection.reader.head_object(**named))
    if not isinstance(told, Failure) and (lock := lock_told(told)) != Lock():
        return lock
    return _asked_for(connection, key, named)[0]


def lock_before(connection: Connection, info: ObjectInfo) -> Lock:
    """What keeps the object, of which a HEAD told ``info``, and is to keep what takes its place under its key.

    A HEAD shows it only to who may read retentions. So where ``retention`` is set and it shows none, it is asked for:
    what is written must not be kept for less long than before. Raises Refused where these credentials may not ask.
    """
    if info.lock.until is not None or connection.settings.retention is None or not info.key.startswith(BLOBS):
        return info.lock
    lock, refused = _asked_for(connection, info.key, connection.object(info.key))
    if refused:
        raise Refused(
            "retention: these credentials may not read until when an object is kept, and what is written in its place"
            " is to be kept for as long: let the policy of s3-access-key allow s3:GetObjectRetention"
        )
    return lock


def _asked_for(connection: Connection, key: str, named: dict[str, Any]) -> tuple[Lock, bool]:
    """By the requests that are there for it; and whether the one for the retention was refused."""
    kept = answered(connection, "GetObjectRetention", key, lambda: connection.reader.get_object_retention(**named))
    held = answered(connection, "GetObjectLegalHold", key, lambda: connection.reader.get_object_legal_hold(**named))
    retention = {} if isinstance(kept, Failure) else kept.get("Retention") or {}
    hold = {} if isinstance(held, Failure) else held.get("LegalHold") or {}
    lock = Lock(retention.get("RetainUntilDate"), str(retention.get("Mode") or ""), hold.get("Status") == "ON")
    return lock, isinstance(kept, Failure) and kept.status in (401, 403)


def locks_objects(connection: Connection) -> bool | None:
    """See ``IObjectStore.locks_objects``."""
    parameters = connection.bucket()
    answer = answered(
        connection,
        "GetObjectLockConfiguration",
        "",
        lambda: connection.reader.get_object_lock_configuration(**parameters),
    )
    if not isinstance(answer, Failure):
        return (answer.get("ObjectLockConfiguration") or {}).get("ObjectLockEnabled") == "Enabled"
    if answer.status == 404 or answer.is_unknown:
        return False
    return None


def retain(connection: Connection, key: str, mode: str, until: datetime) -> None:
    """See ``IObjectStore.lock``."""
    parameters = {**connection.object(key), "Retention": {"Mode": mode, "RetainUntilDate": until}}
    connection.attempts("PutObjectRetention", key, UPLOADING).run(
        lambda: connection.writer.put_object_retention(**parameters)
    )


def keep(connection: Connection, key: str, lock: Lock) -> None:
    """Lock the object that was just written."""
    if lock.until is not None:
        retain(connection, key, lock.mode, lock.until)
    if lock.legal_hold:
        hold(connection, key, on=True)


def hold(connection: Connection, key: str, *, on: bool, version: str = "") -> None:
    """See ``IObjectStore.hold``."""
    parameters = {**connection.object(key), "LegalHold": {"Status": "ON" if on else "OFF"}}
    if version:
        parameters["VersionId"] = version
    connection.attempts("PutObjectLegalHold", key, UPLOADING).run(
        lambda: connection.writer.put_object_legal_hold(**parameters)
    )


def answered(
    connection: Connection, verb: str, key: str, request: Callable[[], dict[str, Any]]
) -> dict[str, Any] | Failure:
    """What the store answers, or how it refuses. Raises Unavailable where it cannot be reached."""

    def once() -> dict[str, Any] | Failure:
        try:
            return request()
        except ClientError as error:
            failure = failure_of(error)
            if failure is None or failure.retry:
                raise
            return failure

    return connection.attempts(verb, key, connection.reading).run(once)
