"""The bucket's lifecycle rules, and objects in an archive, which the store has to restore before they can be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from collective.s3blobstorage.errors import Refused, StoreError
from collective.s3blobstorage.objectstore.connection import Connection
from collective.s3blobstorage.objectstore.interfaces import Restoring
from collective.s3blobstorage.objectstore.translate import Failure
from collective.s3blobstorage.objectstore.versions import answered

_NONE = "NoSuchLifecycleConfiguration"


# Amazon S3 API Reference, PutBucketLifecycleConfiguration: from which size on objects are moved. It stands beside the
# rules, is of all of them, and falls back to the default where it is not sent again.
_MOVED_FROM = "TransitionDefaultMinimumObjectSize"


def lifecycle(connection: Connection) -> tuple[dict[str, Any], ...]:
    """See ``IObjectStore.lifecycle``."""
    answer = _read(connection)
    if not isinstance(answer, Failure):
        return tuple(dict(rule) for rule in answer.get("Rules", ()))
    if answer.code == _NONE:
        return ()
    raise _error(answer, "read", "s3:GetLifecycleConfiguration")


def _read(connection: Connection) -> dict[str, Any] | Failure:
    request = connection.reader.get_bucket_lifecycle_configuration
    return answered(connection, "GetBucketLifecycleConfiguration", "", lambda: request(**connection.bucket()))


def set_lifecycle(connection: Connection, rules: Sequence[Mapping[str, Any]]) -> None:
    """See ``IObjectStore.set_lifecycle``."""
    writer, bucket = connection.writer, connection.bucket()
    if rules:
        present = _read(connection)
        if not isinstance(present, Failure) and present.get(_MOVED_FROM):
            bucket[_MOVED_FROM] = present[_MOVED_FROM]
        wanted = {"Rules": [dict(rule) for rule in rules]}
        answer = answered(
            connection,
            "PutBucketLifecycleConfiguration",
            "",
            lambda: writer.put_bucket_lifecycle_configuration(**bucket, LifecycleConfiguration=wanted),
        )
    else:
        answer = answered(connection, "DeleteBucketLifecycle", "", lambda: writer.delete_bucket_lifecycle(**bucket))
    if isinstance(answer, Failure):
        raise _error(answer, "change", "s3:PutLifecycleConfiguration")


def _error(failure: Failure, what: str, action: str) -> StoreError:
    if failure.is_unknown:
        return StoreError(
            "The object store does not know lifecycle rules (GetBucketLifecycleConfiguration): unfinished uploads and"
            " old versions are removed by s3blobs gc and s3blobs gc --versions."
        )
    if failure.status in (401, 403):
        return Refused(
            f"The object store refuses to {what} the bucket's lifecycle rules: let the policy of the credentials"
            f" (s3-access-key) allow {action} on the bucket."
        )
    if failure.status == 400:
        return Refused(f"The object store does not take these lifecycle rules: {failure.detail}")
    return failure.error


def restore(connection: Connection, key: str, days: int, tier: str) -> Restoring:
    """See ``IObjectStore.restore``."""
    wanted: dict[str, Any] = {"Days": days}
    if tier:
        wanted["GlacierJobParameters"] = {"Tier": tier}
    named = {**connection.object(key), "RestoreRequest": wanted}
    answer = answered(connection, "RestoreObject", key, lambda: connection.writer.restore_object(**named))
    if not isinstance(answer, Failure):
        # Amazon S3 API Reference, RestoreObject: 202 where it begins, 200 where a copy is there and stays for longer.
        status = (answer.get("ResponseMetadata") or {}).get("HTTPStatusCode")
        return Restoring.READABLE if status == 200 else Restoring.BEGUN
    if answer.code == "RestoreAlreadyInProgress":
        return Restoring.UNDER_WAY
    if answer.code in ("InvalidObjectState", "ObjectAlreadyInActiveTierError"):
        return Restoring.NOT_ARCHIVED
    if answer.is_unknown:
        raise StoreError("The object store has no archive from which objects could be restored (RestoreObject).")
    if answer.status in (401, 403):
        raise Refused(
            "The object store refuses to restore an object: let the policy of the credentials (s3-access-key) allow"
            " s3:RestoreObject on the objects."
        )
    raise answer.error
