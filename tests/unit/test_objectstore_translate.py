"""From answers and exceptions to our errors, by table."""

from __future__ import annotations

import pytest
from botocore import exceptions as boto
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from collective.s3blobstorage.errors import (
    ConfigurationError,
    Corrupt,
    ObjectMissing,
    PreconditionFailed,
    Refused,
    StoreError,
    Unavailable,
)
from collective.s3blobstorage.objectstore.translate import BodyBroken, UploadGone, failure_of

URL = "https://secret-bucket.example.org/secret-key"


def answer(status: int, code: str, **headers: str) -> ClientError:
    response = {
        "Error": {"Code": code, "Message": None},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers},
    }
    return ClientError(response, "GetObject")


@pytest.mark.parametrize(
    "status, code, error, retry, ambiguous",
    [
        (404, "NoSuchKey", ObjectMissing, False, False),
        (404, "NoSuchUpload", UploadGone, False, False),
        (404, "NoSuchBucket", Unavailable, False, False),
        (404, "404", Unavailable, False, False),
        (403, "AccessDenied", Refused, False, False),
        (403, "403", Refused, False, False),
        (401, "401", Refused, False, False),
        (400, "ExpiredToken", Refused, False, False),
        (400, "InvalidToken", Refused, False, False),
        (403, "RequestTimeTooSkewed", Refused, False, False),
        (400, "InvalidArgument", Refused, False, False),
        (400, "InvalidStorageClass", Refused, False, False),
        (301, "PermanentRedirect", Refused, False, False),
        (501, "NotImplemented", Refused, False, False),
        (412, "PreconditionFailed", PreconditionFailed, False, False),
        (412, "412", PreconditionFailed, False, False),
        (409, "ConditionalRequestConflict", PreconditionFailed, False, False),
        (409, "BucketAlreadyExists", PreconditionFailed, False, False),
        (409, "OperationAborted", Unavailable, True, True),
        (400, "BadDigest", Corrupt, True, False),
        (400, "XAmzContentSHA256Mismatch", Corrupt, True, False),
        (400, "RequestTimeout", Unavailable, True, True),
        (408, "408", Unavailable, True, True),
        (429, "429", Unavailable, True, True),
        (500, "InternalError", Unavailable, True, True),
        (200, "InternalError", Unavailable, True, True),
        (502, "502", Unavailable, True, True),
        (503, "SlowDown", Unavailable, True, True),
        (504, "504", Unavailable, True, True),
        (507, "507", Unavailable, True, True),
    ],
)
def test_answers(status, code, error, retry, ambiguous):
    failure = failure_of(answer(status, code))
    assert type(failure.error) is error
    assert (failure.retry, failure.ambiguous) == (retry, ambiguous)
    assert (failure.status, failure.code) == (status, code)
    assert code in failure.detail


@pytest.mark.parametrize(
    "raised, error, retry, ambiguous",
    [
        (boto.EndpointConnectionError(endpoint_url=URL, error="x"), Unavailable, True, False),
        (boto.ConnectTimeoutError(endpoint_url=URL), Unavailable, True, False),
        (boto.ProxyConnectionError(proxy_url=URL), Unavailable, True, False),
        (boto.ReadTimeoutError(endpoint_url=URL), Unavailable, True, True),
        (boto.ConnectionClosedError(endpoint_url=URL), Unavailable, True, True),
        (boto.ResponseStreamingError(error="x"), Unavailable, True, True),
        (boto.HTTPClientError(error="x"), Unavailable, True, True),
        (boto.SSLError(endpoint_url=URL, error="CERTIFICATE_VERIFY_FAILED"), Unavailable, False, False),
        (boto.SSLError(endpoint_url=URL, error="UNEXPECTED_EOF_WHILE_READING"), Unavailable, True, False),
        (boto.NoCredentialsError(), Refused, False, False),
        (boto.PartialCredentialsError(provider="env", cred_var="x"), Refused, False, False),
        (boto.ParamValidationError(report="SSECustomerKey=topsecret"), Refused, False, False),
        (BodyBroken("IncompleteRead"), Unavailable, True, True),
        (ValueError("topsecret"), Unavailable, True, True),
        (ResponseParserError("topsecret"), Unavailable, True, True),
    ],
)
def test_the_network(raised, error, retry, ambiguous):
    failure = failure_of(raised)
    assert type(failure.error) is error
    assert (failure.retry, failure.ambiguous) == (retry, ambiguous)
    assert "topsecret" not in failure.detail + str(failure.error)


@pytest.mark.parametrize(
    "other", [OSError(28, "No space left"), KeyError("x"), MemoryError(), Unavailable("x"), ConfigurationError("x")]
)
def test_everything_else_goes_through_unchanged(other):
    assert failure_of(other) is None


def test_messages_for_visitors_name_no_place():
    for raised in (answer(403, "AccessDenied"), boto.EndpointConnectionError(endpoint_url=URL, error=URL)):
        assert isinstance(failure_of(raised).error, StoreError)
        assert "secret" not in str(failure_of(raised).error)


@pytest.mark.parametrize("value, seconds", [("3", 3.0), ("0.5", 0.5), ("-1", 0.0), ("Sat, 21 Nov 2026", 0.0)])
def test_retry_after(value, seconds):
    assert failure_of(answer(503, "SlowDown", **{"retry-after": value})).retry_after == seconds
