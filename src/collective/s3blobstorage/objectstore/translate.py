"""From what botocore, urllib3 and the store say to our errors: one table, pure."""

from __future__ import annotations

import http.client
from dataclasses import dataclass

import urllib3.exceptions
from botocore import exceptions as boto
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from collective.s3blobstorage.errors import (
    Archived,
    Corrupt,
    ObjectMissing,
    PreconditionFailed,
    Refused,
    S3BlobStorageError,
    StoreError,
    Unavailable,
)
from collective.s3blobstorage.objectstore.redaction import redact


class BodyBroken(Exception):
    """The body of a response broke off or stood still. Internal: says only what kind of error it was."""

    def __init__(self, detail: str, *, silent: bool = False) -> None:
        super().__init__(detail)
        self.silent = silent


class Unproven(Exception):
    """A body was sent without Content-MD5, and the answer did not prove it. Internal: it is sent again with it.

    ``differs``: the answer proved that other bytes arrived.
    """

    def __init__(self, detail: str, *, differs: bool = False) -> None:
        super().__init__(detail)
        self.differs = differs


# What reading a body raises for the network, from urllib3 and from http.client.
BODY_ERRORS = (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError)


def body_broken(error: Exception) -> BodyBroken:
    """From one of BODY_ERRORS."""
    silent = isinstance(error, (urllib3.exceptions.ReadTimeoutError, TimeoutError))
    return BodyBroken(type(error).__name__, silent=silent)


class UploadGone(Unavailable):
    """A multipart upload was aborted or completed. Internal; for a caller it is Unavailable: trying again helps."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt.

    ``error`` is what the caller gets where nobody tries again. ``ambiguous``: the store may have carried the request
    out. ``silent``: nothing came on the connection for a whole time-out. ``detail`` is for the log: no secret, no
    message of a validation (those print parameters).
    """

    error: StoreError
    retry: bool = False
    ambiguous: bool = False
    silent: bool = False
    status: int = 0
    code: str = ""
    detail: str = ""
    retry_after: float = 0.0

    @property
    def is_unknown(self) -> bool:
        """The store does not know that request."""
        return self.status in (405, 501) or self.code in _UNKNOWN_CODES


_DAMAGED = "The object store received other bytes than were sent."
_UNREACHABLE = "The object store could not be reached."
_TOO_SLOW = "The object store did not answer in time."
_OVERLOADED = "The object store answered that it cannot serve the request now."
_REFUSED = "The object store refused the request: credentials or a policy are in the way."
_NOT_TAKEN = "The object store does not accept the request."
_NO_S3 = "What answers at s3-endpoint-url is not the object store."
_NO_CREDENTIALS = "There are no usable credentials for the object store (s3-access-key, s3-secret-key, s3-profile)."

# Codes that decide whatever the status is. Sources: Amazon S3 "Error responses"; rgw_http_errors.h of Ceph.
_RETRY_CODES = frozenset(
    "InternalError ServiceUnavailable SlowDown RequestTimeout RequestTimeoutException Throttling ThrottlingException"
    " RequestLimitExceeded BandwidthLimitExceeded TooManyRequests OperationAborted PriorRequestNotComplete"
    " TransactionInProgress XAmzContentChecksumMismatch IncompleteBody".split()
)
_UNKNOWN_CODES = frozenset("NotImplemented MethodNotAllowed".split())
_DAMAGED_CODES = frozenset("BadDigest XAmzContentSHA256Mismatch InvalidDigest".split())
_NAMED = {"InvalidStorageClass": "The object store does not know this storage class (storage-class)."}
_REFUSED_CODES = frozenset(
    "AccessDenied AccountProblem AllAccessDisabled AuthorizationHeaderMalformed ExpiredToken InvalidAccessKeyId"
    " InvalidToken InvalidSecurity NotSignedUp RequestTimeTooSkewed SignatureDoesNotMatch TokenRefreshRequired".split()
)
_PRECONDITION_CODES = frozenset("PreconditionFailed ConditionalRequestConflict".split())

# Connection errors raised before a byte of the request could leave.
_NOT_SENT = (boto.EndpointConnectionError, boto.ConnectTimeoutError, boto.ProxyConnectionError)
_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.TokenRetrievalError,
    boto.NoAuthTokenError,
    boto.UnauthorizedSSOTokenError,
    boto.SSOError,
)


def failure_of(error: Exception) -> Failure | None:
    """What an exception of the network means, or None where it is none (it must then go through unchanged)."""
    if isinstance(error, ClientError):
        return _answer(error)
    if isinstance(error, BodyBroken):
        return Failure(Unavailable(_UNREACHABLE), retry=True, ambiguous=True, silent=error.silent, detail=str(error))
    if isinstance(error, Unproven):
        return Failure(Corrupt(_DAMAGED), retry=True, detail=str(error))
    if isinstance(error, BotoCoreError):
        return _transport(error)
    if isinstance(error, S3BlobStorageError):
        return None
    if isinstance(error, (ResponseParserError, ValueError)):
        # botocore's parsers let a malformed header or body of the answer through as a bare ValueError.
        detail = "an answer that is none of S3: " + type(error).__name__
        return Failure(Unavailable(_NO_S3), retry=True, ambiguous=True, detail=detail)
    return None


def _transport(error: BotoCoreError) -> Failure:
    kind = type(error).__name__
    if isinstance(error, _CREDENTIALS):
        return Failure(Refused(_NO_CREDENTIALS), detail=kind)
    if isinstance(error, boto.SSLError):
        # A certificate does not become valid by asking again; a handshake cut off by a restart may.
        return Failure(
            Unavailable("No trusted TLS connection to the object store could be made (s3-ca-bundle, s3-endpoint-url)."),
            retry="CERTIFICATE" not in str(error).upper(),
            detail=kind + ": " + redact(str(error))[:300],
        )
    if isinstance(error, (boto.ReadTimeoutError, boto.ConnectTimeoutError)):
        ambiguous = not isinstance(error, _NOT_SENT)
        return Failure(Unavailable(_TOO_SLOW), retry=True, ambiguous=ambiguous, silent=ambiguous, detail=kind)
    if isinstance(error, (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError, boto.ChecksumError)):
        ambiguous = not isinstance(error, _NOT_SENT)
        return Failure(Unavailable(_UNREACHABLE), retry=True, ambiguous=ambiguous, detail=kind)
    # What is left are requests that botocore would not send (validation, region, address): no use in repeating. The
    # text of a validation error prints the parameters, so it stays out.
    return Failure(Refused(_NOT_TAKEN), detail=kind)


def _answer(error: ClientError) -> Failure:
    metadata = error.response.get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode") or 0)
    body = error.response.get("Error", {})
    code = str(body.get("Code") or "")
    headers = metadata.get("HTTPHeaders", {})
    request_id = metadata.get("RequestId") or headers.get("x-amz-request-id") or "-"
    message = redact(str(body.get("Message") or ""))[:300]
    ours, retry, ambiguous = _meaning(status, code)
    return Failure(
        ours,
        retry=retry,
        ambiguous=ambiguous,
        status=status,
        code=code,
        detail=f"{status} {code} {message} (request {request_id})",
        retry_after=_seconds(headers.get("retry-after")),
    )


def _meaning(status: int, code: str) -> tuple[StoreError, bool, bool]:
    """(error, try again, may have been carried out) of an answer."""
    if code == "NoSuchBucket":
        # Never ObjectMissing: a bucket that vanished must not look like a blob that is gone for good.
        return Unavailable("The object store's bucket is not there (bucket-name)."), False, False
    if code in _DAMAGED_CODES:
        return Corrupt(_DAMAGED), True, False
    if code in _PRECONDITION_CODES or status == 412:
        return PreconditionFailed("The object is there already or was changed."), False, False
    if code == "InvalidObjectState":
        return Archived(), False, False
    if code in _REFUSED_CODES or status in (401, 403):
        return Refused(_REFUSED), False, False
    if code in _RETRY_CODES or status in (408, 429) or (status >= 500 and status != 501):
        return Unavailable(_OVERLOADED), True, True
    if code == "NoSuchUpload":
        return UploadGone("The object store lost an unfinished upload."), False, False
    if code in ("NoSuchKey", "NoSuchVersion"):
        return ObjectMissing("The object store has no such object."), False, False
    if status == 404:
        # An S3 store names what it misses. A bare 404 comes from something else at that address.
        return Unavailable(_NO_S3), False, False
    if status == 409:
        return PreconditionFailed("The object store is changing the same object for another request."), False, False
    if 300 <= status < 400:
        return Refused("The bucket is in another region (s3-region, s3-endpoint-url)."), False, False
    return Refused(_NAMED.get(code, _NOT_TAKEN)), False, False


def _seconds(value: str | None) -> float:
    """``Retry-After`` in seconds; its other form, a date, is not sent by any S3 store and counts as absent."""
    try:
        return max(0.0, float(value or 0))
    except ValueError:
        return 0.0
