"""Is the bucket there, and ours? Makes it where that is wanted."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from collective.s3blobstorage.errors import ConfigurationError, Refused, StoreError
from collective.s3blobstorage.objectstore.connection import Connection
from collective.s3blobstorage.objectstore.patience import Patience
from collective.s3blobstorage.objectstore.translate import Failure, failure_of

log = logging.getLogger(__name__)

# A site that starts together with its store waits a few seconds for it.
OPENING = Patience(attempts=4, seconds=15.0, first_pause=0.5)

# Regions whose buckets are made without a location constraint.
_NO_CONSTRAINT = frozenset((None, "", "us-east-1", "aws-global"))
_CONSTRAINT_REFUSED = frozenset(("InvalidLocationConstraint", "IllegalLocationConstraintException"))

_KEYS_WRONG = {
    "InvalidAccessKeyId": "s3-access-key: the object store does not know this access key",
    "SignatureDoesNotMatch": "s3-secret-key: it does not belong to the access key (s3-access-key)",
    "ExpiredToken": "s3-session-token: it has expired",
    "InvalidToken": "s3-session-token: the object store does not accept it",
    "RequestTimeTooSkewed": "the clock of this machine and the object store's differ by over 15 minutes (NTP)",
    "AuthorizationHeaderMalformed": "s3-region: the bucket is in another region; example: eu-central-1",
}


def open_bucket(connection: Connection, writable: bool) -> None:
    """See ``IObjectStore.open_bucket``."""
    settings = connection.settings
    failure = _asked(connection, "HeadBucket")
    if failure is None:
        return
    if failure.status == 404:
        if settings.create_bucket and writable:
            create_bucket(connection)
            return
        raise ConfigurationError(
            f"bucket-name: there is no bucket {settings.bucket!r}; make it, or set create-bucket on"
        )
    # HEAD's answers have no body: a listing of one key tells why.
    reason = _asked(connection, "ListObjectsV2") or failure
    _raise_refusal(connection, reason)


def open_time(connection: Connection) -> datetime:
    """See ``IObjectStore.now``."""
    told = connection.time.now()
    if told is None:
        attempts = connection.attempts("ListObjectsV2", "", OPENING)
        parameters = {**connection.bucket(), "MaxKeys": 1, "Prefix": connection.full_key("")}
        connection.time.note(attempts.run(lambda: connection.reader.list_objects_v2(**parameters)))
        told = connection.time.now()
    if told is None:
        raise StoreError("The object store's answers do not say what time it is there (Date).")
    return told


def _asked(connection: Connection, verb: str) -> Failure | None:
    """Ask about the bucket; None where all is well, the failure where the store answered. Raises Unavailable."""

    def request() -> Failure | None:
        try:
            if verb == "HeadBucket":
                connection.reader.head_bucket(**connection.bucket())
            else:
                connection.reader.list_objects_v2(**connection.bucket(), MaxKeys=1, Prefix=connection.full_key(""))
        except ClientError as error:
            failure = failure_of(error)
            if failure is None or failure.retry:
                raise
            return failure
        return None

    try:
        return connection.attempts(verb, "", OPENING).run(request)
    except Refused as error:
        raise ConfigurationError(str(error)) from None


def _raise_refusal(connection: Connection, failure: Failure) -> None:
    settings = connection.settings
    log.error("bucket %r cannot be opened: %s", settings.bucket, failure.detail)
    if failure.code in _KEYS_WRONG:
        raise ConfigurationError(_KEYS_WRONG[failure.code])
    if 300 <= failure.status < 400:
        raise ConfigurationError(
            f"s3-region: the bucket {settings.bucket!r} is in another region than {settings.region!r}"
        )
    if failure.status in (401, 403):
        owner = ", s3-expected-bucket-owner" if settings.expected_bucket_owner else ""
        raise ConfigurationError(
            f"bucket-name: access to the bucket {settings.bucket!r} is denied: it belongs to somebody else, or the"
            f" credentials or their policy are wrong (s3-access-key, s3-secret-key{owner})"
        )
    if failure.status == 400:
        raise ConfigurationError(
            f"bucket-name, s3-region: the object store does not accept the request for the bucket {settings.bucket!r}"
        )
    raise failure.error


def create_bucket(connection: Connection) -> None:
    """Make the bucket, or find that somebody else just did. Raises ConfigurationError, Unavailable."""
    settings = connection.settings
    region = connection.writer.meta.region_name
    parameters: dict[str, Any] = {"Bucket": settings.bucket}
    if settings.retention is not None:
        parameters["ObjectLockEnabledForBucket"] = True
    if region not in _NO_CONSTRAINT:
        parameters["CreateBucketConfiguration"] = {"LocationConstraint": region}
    code = _made(connection, parameters)
    if code in _CONSTRAINT_REFUSED and settings.endpoint_url is not None:
        # A store of one's own often has one place with a name of its own, whatever region signs the requests.
        parameters.pop("CreateBucketConfiguration", None)
        code = _made(connection, parameters)
    if code in _CONSTRAINT_REFUSED:
        raise ConfigurationError(f"s3-region: the object store makes no bucket in {region!r}; example: eu-central-1")
    if code == "InvalidBucketName":
        raise ConfigurationError(f"bucket-name: {settings.bucket!r} is no name for a bucket; example: site-blobs")
    # Whoever made it, also another process at this moment: it is ours only where we may look into it.
    failure = _asked(connection, "HeadBucket")
    if failure is None:
        return
    if code == "BucketAlreadyExists" or failure.status in (401, 403):
        raise ConfigurationError(
            f"bucket-name: the bucket {settings.bucket!r} belongs to somebody else; take another name"
        )
    _raise_refusal(connection, failure)


def _made(connection: Connection, parameters: dict[str, Any]) -> str:
    """Create the bucket; the store's code where it says that it is there or the request is wrong, else ""."""

    def request() -> str:
        try:
            connection.writer.create_bucket(**parameters)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code") or "")
            if code in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists", "InvalidBucketName", *_CONSTRAINT_REFUSED):
                return code
            raise
        log.info("bucket %r was created", parameters["Bucket"])
        return ""

    try:
        return connection.attempts("CreateBucket", "", OPENING).run(request)
    except Refused:
        raise ConfigurationError(
            f"create-bucket: the credentials may not create the bucket {parameters['Bucket']!r};"
            " create it by hand, or allow s3:CreateBucket"
        ) from None
