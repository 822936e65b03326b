"""GetObject, and PutObject of bytes, without what botocore does anew for each request.

A site makes hardly any others, and botocore spends twice the processor time that one needs: endpoint rules, event
hooks, serialising and parsing by its model (figures: docs/performance.md). Here its signer signs and the client's own
HTTP session sends, so credentials, signatures, connections, time-outs, certificates, proxies and errors are botocore's.
Where to send and how to sign is read off the first request, which the client makes.

What is out of the ordinary is left to the client, each time: a parameter that is not in the tables below, a bucket
whose requests are signed in another way, an answer that names another region.
"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import boto3
import urllib3.exceptions
from botocore.auth import UNSIGNED_PAYLOAD, S3SigV4Auth
from botocore.awsrequest import AWSPreparedRequest, AWSRequest
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserFactory
from botocore.utils import parse_timestamp

from collective.s3blobstorage.objectstore.translate import BodyBroken

# Parameters and members of answers, as boto3 spells them, and their headers (Amazon S3 API reference, GetObject and
# PutObject). SSECustomerKey and Metadata become more than one header.
_REQUEST = {
    "ContentDisposition": "Content-Disposition",
    "ContentMD5": "Content-MD5",
    "ContentType": "Content-Type",
    "ExpectedBucketOwner": "x-amz-expected-bucket-owner",
    "IfMatch": "If-Match",
    "IfNoneMatch": "If-None-Match",
    "Range": "Range",
    "SSECustomerAlgorithm": "x-amz-server-side-encryption-customer-algorithm",
    "StorageClass": "x-amz-storage-class",
}
_ANSWER = {
    "content-length": "ContentLength",
    "content-range": "ContentRange",
    "etag": "ETag",
    "last-modified": "LastModified",
    "x-amz-checksum-sha256": "ChecksumSHA256",
    "x-amz-server-side-encryption": "ServerSideEncryption",
    "x-amz-server-side-encryption-customer-algorithm": "SSECustomerAlgorithm",
    "x-amz-server-side-encryption-customer-key-md5": "SSECustomerKeyMD5",
}
_KEY_HEADER = "x-amz-server-side-encryption-customer-key"
_METADATA = "x-amz-meta-"

# Codes to which botocore answers by asking in another region (its S3RegionRedirectorv2); so it does to any 3xx.
_ELSEWHERE = ("AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect")

_CREDENTIAL = re.compile(r"AWS4-HMAC-SHA256 Credential=.*/\d{8}/([^/,]+)/([^/,]+)/aws4_request,")


@dataclass(frozen=True, slots=True)
class _Route:
    """What the client's last request shows of how it reaches the bucket."""

    url: str  # of the bucket, up to where the key begins
    region: str  # what is signed for
    service: str
    user_agent: str


class _Signer(S3SigV4Auth):
    """Hashes the body as it is, where botocore builds the request a second time to get at it."""

    def __init__(self, credentials: Any, route: _Route, body: bytes) -> None:
        super().__init__(credentials, route.service, route.region)
        self._body = body

    def payload(self, request: AWSRequest) -> str:
        signed = self._should_sha256_sign_payload(request)
        return hashlib.sha256(self._body).hexdigest() if signed else UNSIGNED_PAYLOAD


class SignedRequests:
    """Of one client and one bucket; from any thread. Answers and exceptions are those of the client's own methods."""

    def __init__(self, client: Any, session: boto3.session.Session, bucket: str) -> None:
        self._client = client
        self._credentials = session.get_credentials()  # the object that the client has too: it renews itself
        self._bucket = bucket
        # Not part of botocore's documented interface: without it everything goes through the client.
        self._http = getattr(getattr(client, "_endpoint", None), "http_session", None)
        self._context = {"client_config": client.meta.config, "has_streaming_input": True}
        # Replaced as a whole by whichever thread learns it; all learn the same.
        self._route: _Route | None = None
        self._learning = threading.local()
        client.meta.events.register("before-send.s3", self._learn)

    def get_object(self, **parameters: Any) -> dict[str, Any]:
        """``Body`` is urllib3's response, a context manager; leaving it before its end closes the connection."""
        response = self._sent("GET", parameters, b"")
        if response is None:
            return self._by_client("get_object", parameters)
        return {**_members(response), "Body": response.raw}

    def put_object(self, *, Body: bytes, **parameters: Any) -> dict[str, Any]:  # noqa: N803
        response = self._sent("PUT", parameters, Body)
        if response is None:
            return self._by_client("put_object", {**parameters, "Body": Body})
        return _members(response)

    def _by_client(self, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        self._learning.path = _quoted(parameters["Key"])
        try:
            return getattr(self._client, operation)(**parameters)
        finally:
            self._learning.path = ""

    def _learn(self, request: AWSPreparedRequest, **_: Any) -> None:
        """botocore's event ``before-send``, in the thread of the request."""
        path = getattr(self._learning, "path", "")
        if not path or self._http is None or self._credentials is None:
            return
        found = _CREDENTIAL.match(_text(request.headers.get("Authorization")))
        if found is None or "x-amz-s3session-token" in request.headers or not request.url.endswith("/" + path):
            self._route = None
        else:
            agent = _text(request.headers.get("User-Agent"))
            self._route = _Route(request.url.removesuffix(path), found[1], found[2], agent)

    def _sent(self, method: str, parameters: Mapping[str, Any], body: bytes) -> Any:
        """The answer, a success. None: nothing has happened that counts, the client is to do it.

        Raises ClientError for every other answer, and what botocore raises for the network.
        """
        route = self._route
        headers = _headers(parameters) if parameters["Bucket"] == self._bucket else None
        if route is None or headers is None:
            return None
        headers["User-Agent"] = route.user_agent
        request = AWSRequest(method, route.url + _quoted(parameters["Key"]), headers)
        request.context.update(self._context)
        _Signer(self._credentials.get_frozen_credentials(), route, body).add_auth(request)
        final = dict(request.headers.items())
        if method == "PUT":
            final["Content-Length"] = str(len(body))
        response = self._http.send(AWSPreparedRequest(method, request.url, final, body or None, method == "GET"))
        if response.status_code < 300:
            return response
        error = self._error(method, response)
        if response.status_code < 400 or error.response.get("Error", {}).get("Code") in _ELSEWHERE:
            return None
        raise error

    def _error(self, method: str, response: Any) -> ClientError:
        operation = {"GET": "GetObject", "PUT": "PutObject"}[method]
        try:
            content = response.content
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise BodyBroken(type(error).__name__) from None
        # Seen once over TLS: a body that was cut came without an error, and its code was lost with the rest.
        if content.lstrip().startswith(b"<?xml") and not content.rstrip().endswith(b">"):
            raise BodyBroken("the answer's body ended too early")
        answer = {
            "headers": response.headers,
            "status_code": response.status_code,
            "body": content,
            "context": {"operation_name": operation},
        }
        shape = self._client.meta.service_model.operation_model(operation).output_shape
        return ClientError(ResponseParserFactory().create_parser("rest-xml").parse(answer, shape), operation)


def _quoted(key: str) -> str:
    """As botocore serialises a key into a path."""
    return quote(key, safe="/~")


def _text(header: Any) -> str:
    return header.decode("latin-1") if isinstance(header, bytes) else str(header or "")


def _headers(parameters: Mapping[str, Any]) -> dict[str, str] | None:
    """The headers of a request, None where a parameter is not known here or is not for a header as it is."""
    headers: dict[str, str] = {}
    for name, value in parameters.items():
        if name in _REQUEST:
            headers[_REQUEST[name]] = value
        elif name == "Metadata":
            headers.update({_METADATA + key: text for key, text in value.items()})
        elif name == "SSECustomerKey":
            headers[_KEY_HEADER] = base64.b64encode(value).decode()
            digest = hashlib.md5(value, usedforsecurity=False).digest()
            headers[_KEY_HEADER + "-MD5"] = base64.b64encode(digest).decode()
        elif name not in ("Bucket", "Key"):
            return None
    plain = all(text.isascii() and text.isprintable() for pair in headers.items() for text in pair)
    return headers if plain else None


def _members(response: Any) -> dict[str, Any]:
    """The answer as the client gives it, but members that nobody here reads. Raises ValueError for bad values."""
    metadata: dict[str, str] = {}
    members: dict[str, Any] = {
        "ResponseMetadata": {"HTTPStatusCode": response.status_code},
        "Metadata": metadata,
    }
    for name, value in response.raw.headers.items():
        lower = name.lower()
        if lower in _ANSWER:
            members[_ANSWER[lower]] = value
        elif lower.startswith(_METADATA):
            metadata[lower.removeprefix(_METADATA)] = value
    if "ContentLength" in members:
        members["ContentLength"] = int(members["ContentLength"])
    if "LastModified" in members:
        members["LastModified"] = _time(members["LastModified"])
    return members


def _time(text: str) -> Any:
    try:
        return parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return parse_timestamp(text)  # other forms, as botocore takes them; much slower
