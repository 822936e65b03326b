"""GetObject, and PutObject of bytes, without what botocore does anew for each request.

A site makes hardly any others, and botocore spends many times the processor time that one needs: endpoint rules, event
hooks, serialising and parsing by its model, a signer and an HTTP library for everything (figures:
docs/performance.md). Where to send and how to sign is read off the first request, which the client makes. Then
``sigv4`` signs with the client's credentials and ``exchange`` sends on connections that the client's HTTP session
opened, which makes each request for which none is open. So credentials, connections, time-outs, certificates,
proxies and errors are botocore's.

What is out of the ordinary is left to the client, each time: a parameter that is not in the tables below, a bucket
whose requests are signed in another way, an answer that names another region.
"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlsplit

import boto3
from botocore.awsrequest import AWSPreparedRequest, HeadersDict
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserFactory
from botocore.utils import parse_timestamp

from collective.s3blobstorage.objectstore import sigv4
from collective.s3blobstorage.objectstore.exchange import exchange, open_ahead
from collective.s3blobstorage.objectstore.translate import BODY_ERRORS, BodyBroken, body_broken

# Parameters and members of answers, as boto3 spells them, and their headers (Amazon S3 API reference, GetObject and
# PutObject). SSECustomerKey and Metadata become more than one header, BucketKeyEnabled is a bool.
_REQUEST = {
    "BucketKeyEnabled": "x-amz-server-side-encryption-bucket-key-enabled",
    "ContentDisposition": "Content-Disposition",
    "ContentMD5": "Content-MD5",
    "ContentType": "Content-Type",
    "ExpectedBucketOwner": "x-amz-expected-bucket-owner",
    "IfMatch": "If-Match",
    "IfNoneMatch": "If-None-Match",
    "ObjectLockLegalHoldStatus": "x-amz-object-lock-legal-hold",
    "ObjectLockMode": "x-amz-object-lock-mode",
    "ObjectLockRetainUntilDate": "x-amz-object-lock-retain-until-date",
    "Range": "Range",
    "SSECustomerAlgorithm": "x-amz-server-side-encryption-customer-algorithm",
    "SSEKMSEncryptionContext": "x-amz-server-side-encryption-context",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "StorageClass": "x-amz-storage-class",
}
_ANSWER = {
    "content-length": "ContentLength",
    "content-range": "ContentRange",
    "etag": "ETag",
    "last-modified": "LastModified",
    "x-amz-checksum-sha256": "ChecksumSHA256",
    "x-amz-server-side-encryption": "ServerSideEncryption",
    "x-amz-server-side-encryption-aws-kms-key-id": "SSEKMSKeyId",
    "x-amz-server-side-encryption-customer-algorithm": "SSECustomerAlgorithm",
    "x-amz-server-side-encryption-customer-key-md5": "SSECustomerKeyMD5",
}
_KEY_HEADER = "x-amz-server-side-encryption-customer-key"
_METADATA = "x-amz-meta-"

# Codes to which botocore answers by asking in another region (its S3RegionRedirectorv2); so it does to any 3xx.
_ELSEWHERE = ("AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect")

_CREDENTIAL = re.compile(r"AWS4-HMAC-SHA256 Credential=.*/\d{8}/([^/,]+)/([^/,]+)/aws4_request,")


_MONTHS = {name: number for number, name in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}

_EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class _Route:
    """What the client's last request shows of how it reaches the bucket."""

    origin: str  # scheme, host and port
    host: str  # for ``Host``: without a port that is the scheme's own
    path: str  # percent-encoded, up to where the key begins
    region: str  # what is signed for
    service: str
    user_agent: str

    @property
    def secure(self) -> bool:
        return self.origin.startswith("https:")


# Whose request a thread is making by a client, which may be shared by many.
_learning = threading.local()


def install(client: Any) -> None:
    """Let whoever makes a request by this client learn from it. Once for each client."""
    client.meta.events.register("before-send.s3", _learn)


def _learn(request: AWSPreparedRequest, **_: Any) -> None:
    who = getattr(_learning, "who", None)
    if who is not None:
        who.learn(request, _learning.path)


class SignedRequests:
    """Of one client and one bucket; from any thread. Answers and exceptions are those of the client's own methods."""

    def __init__(self, client: Any, session: boto3.session.Session, bucket: str) -> None:
        self._client = client
        self.credentials = session.get_credentials()  # the object that the client has too: it renews itself
        self._bucket = bucket
        # Not part of botocore's documented interface: without it everything goes through the client.
        self._http = getattr(getattr(client, "_endpoint", None), "http_session", None)
        self._timeout = client.meta.config.read_timeout
        self._payload_signing = (client.meta.config.s3 or {}).get("payload_signing_enabled")
        # Each replaced as a whole by whichever thread learns it; all learn the same.
        self._route: _Route | None = None
        self._pool: tuple[_Route, Any] | None = None  # urllib3's, of the connections of that route

    def get_object(self, **parameters: Any) -> dict[str, Any]:
        """``Body`` has ``read1`` and is a context manager; leaving it before its end closes the connection."""
        answer = self._sent("GET", parameters)
        if answer is None:
            return self._by_client("get_object", parameters)
        return {**_members(answer), "Body": answer}

    def put_object(self, *, Body: bytes, sha256: bytes, **parameters: Any) -> dict[str, Any]:  # noqa: N803
        """``sha256`` of the body, which its sender has computed already."""
        answer = self._sent("PUT", parameters, Body, sha256.hex())
        if answer is None:
            return self._by_client("put_object", {**parameters, "Body": Body})
        return _members(answer)

    def connect_ahead(self, count: int, stopped: Callable[[], bool]) -> None:
        """Have so many idle connections open. Makes no request, and raises nothing for the network. Any thread.

        None where the client has not read from the bucket yet, or does it by a proxy.
        """
        known = self._pool
        if known is not None and known[1] is not None:
            open_ahead(known[1], count, stopped)

    def _by_client(self, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        _learning.who, _learning.path = self, _quoted(parameters["Key"])
        try:
            return getattr(self._client, operation)(**parameters)
        finally:
            _learning.who = None

    def learn(self, request: AWSPreparedRequest, path: str) -> None:
        """See how the client sends a request to the key that is quoted as ``path``, in the thread of the request."""
        if self._http is None or self.credentials is None:
            return
        found = _CREDENTIAL.match(_text(request.headers.get("Authorization")))
        if found is None or "x-amz-s3session-token" in request.headers or not request.url.endswith("/" + path):
            self._route = None
        else:
            self._route = route = _route(
                request.url.removesuffix(path), found, _text(request.headers.get("User-Agent"))
            )
            if route is not None:
                self._pool = (route, self._pool_of(route))

    def _pool_of(self, route: _Route) -> Any:
        """urllib3's pool of the connections that botocore's session makes for that route; None where it has none.

        Behind a proxy it makes them in another pool, and this one stays empty.
        """
        manager = getattr(self._http, "_manager", None)  # no documented interface, as in idle.py
        return None if manager is None else manager.connection_from_url(route.origin)

    def _sent(self, method: str, parameters: Mapping[str, Any], body: bytes = b"", digest: str = _EMPTY) -> Any:
        """The answer, a success; of a PUT it is read to its end. None: nothing has happened that counts, the client is
        to do it.

        Raises ClientError for every other answer, and what botocore raises for the network.
        """
        route = self._route
        headers = headers_of(parameters) if parameters["Bucket"] == self._bucket else None
        if route is None or headers is None:
            return None
        target = route.path + _quoted(parameters["Key"])
        self._sign(route, method, target, headers, digest)
        if method == "PUT":
            headers["Content-Length"] = str(len(body))
        answer, content = self._answer(route, method, target, headers, body)
        if answer.status < 300:
            if method == "PUT":
                _read(content)
            return answer
        error = self._error(method, answer.status, answer.headers, content)
        if answer.status < 400 or error.response.get("Error", {}).get("Code") in _ELSEWHERE:
            return None
        raise error

    def _sign(self, route: _Route, method: str, target: str, headers: dict[str, str], digest: str) -> None:
        """Add what is signed, the signature, and what is not."""
        keys = self.credentials.get_frozen_credentials()
        headers["Host"] = route.host
        headers["X-Amz-Date"] = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        # As botocore decides: TLS and Content-MD5 protect a body well enough.
        signed = self._payload_signing
        if signed is None:
            signed = not route.secure or "Content-MD5" not in headers
        headers["X-Amz-Content-SHA256"] = digest if signed else sigv4.UNSIGNED
        if keys.token:
            headers["X-Amz-Security-Token"] = keys.token
        headers["Authorization"] = sigv4.authorization(
            method,
            target,
            headers,
            access_key=keys.access_key,
            secret_key=keys.secret_key,
            region=route.region,
            service=route.service,
        )
        headers["User-Agent"] = route.user_agent
        headers["Accept-Encoding"] = "identity"

    def _answer(
        self, route: _Route, method: str, target: str, headers: dict[str, str], body: bytes
    ) -> tuple[Any, Callable[[], bytes]]:
        """The answer, and what reads it whole: on an open connection, else by the client's HTTP session."""
        url = route.origin + target
        known = self._pool
        if known is not None and known[0] is route and known[1] is not None:
            answer = exchange(known[1], method, target, headers, body, timeout=self._timeout, url=url)
            if answer is not None:
                return answer, answer.whole
        response = self._http.send(AWSPreparedRequest(method, url, headers, body or None, method == "GET"))
        self._pool = (route, self._pool_of(route))  # urllib3 drops and closes the pools that it did not use for long
        return response.raw, lambda: response.content

    def _error(self, method: str, status: int, headers: Mapping[str, str], content: Callable[[], bytes]) -> ClientError:
        operation = {"GET": "GetObject", "PUT": "PutObject"}[method]
        body = _read(content)
        # Seen once over TLS: a body that was cut came without an error, and its code was lost with the rest.
        if body.lstrip().startswith(b"<?xml") and not body.rstrip().endswith(b">"):
            raise BodyBroken("the answer's body ended too early")
        answer = {
            "headers": HeadersDict(headers),
            "status_code": status,
            "body": body,
            "context": {"operation_name": operation},
        }
        shape = self._client.meta.service_model.operation_model(operation).output_shape
        return ClientError(ResponseParserFactory().create_parser("rest-xml").parse(answer, shape), operation)


def _route(url: str, credential: re.Match[str], user_agent: str) -> _Route | None:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower()
    own = {"http": ":80", "https": ":443"}.get(parts.scheme)
    if own is None or parts.query:
        return None
    return _Route(
        origin=f"{parts.scheme}://{host}",
        host=host.removesuffix(own),
        path=parts.path,
        region=credential[1],
        service=credential[2],
        user_agent=user_agent,
    )


def _read(content: Callable[[], bytes]) -> bytes:
    try:
        return content()
    except BODY_ERRORS as error:
        raise body_broken(error) from None


def _quoted(key: str) -> str:
    """As botocore serialises a key into a path."""
    return quote(key, safe="/~")


def _text(header: Any) -> str:
    return header.decode("latin-1") if isinstance(header, bytes) else str(header or "")


def headers_of(parameters: Mapping[str, Any]) -> dict[str, str] | None:
    """The headers of a request, None where a parameter is not known here or is not for a header as it is."""
    headers: dict[str, str] = {}
    for name, value in parameters.items():
        if name in _REQUEST:
            headers[_REQUEST[name]] = _header(value)
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


def _header(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")  # ISO 8601, as botocore sends it
    return str(value).lower() if isinstance(value, bool) else value


def _members(answer: Any) -> dict[str, Any]:
    """The answer as the client gives it, but members that nobody here reads. Raises ValueError for bad values."""
    metadata: dict[str, str] = {}
    members: dict[str, Any] = {
        "ResponseMetadata": {"HTTPStatusCode": answer.status},
        "Metadata": metadata,
    }
    for name, value in answer.headers.items():
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
    """An HTTP date; the form that all servers send (RFC 9110, 5.6.7) costs a tenth of what it costs the library."""
    try:
        _, day, month, year, clock, zone = text.split()
        if zone == "GMT":
            hour, minute, second = clock.split(":")
            return datetime(int(year), _MONTHS[month], int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    except (KeyError, ValueError):
        pass
    try:
        return parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return parse_timestamp(text)  # other forms, as botocore takes them; much slower
