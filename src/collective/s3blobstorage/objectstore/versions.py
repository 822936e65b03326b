"""Does the bucket keep versions, and what keeps one of them from being deleted?"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from collective.s3blobstorage.objectstore.connection import Connection
from collective.s3blobstorage.objectstore.interfaces import Lock
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
    named = {**connection.object(key), "VersionId": version}
    kept = answered(connection, "GetObjectRetention", key, lambda: connection.reader.get_object_retention(**named))
    held = answered(connection, "GetObjectLegalHold", key, lambda: connection.reader.get_object_legal_hold(**named))
    retention = {} if isinstance(kept, Failure) else kept.get("Retention") or {}
    hold = {} if isinstance(held, Failure) else held.get("LegalHold") or {}
    return Lock(retention.get("RetainUntilDate"), str(retention.get("Mode") or ""), hold.get("Status") == "ON")


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


def lock(connection: Connection, key: str, mode: str, until: datetime) -> None:
    """See ``IObjectStore.lock``."""
    parameters = {**connection.object(key), "Retention": {"Mode": mode, "RetainUntilDate": until}}
    connection.attempts("PutObjectRetention", key, UPLOADING).run(
        lambda: connection.writer.put_object_retention(**parameters)
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
