"""Signs requests that others make: a browser's GET, PUT or POST of a form.

Makes no request itself. Sources: Amazon S3 API reference, "Authenticating Requests: Using Query Parameters (AWS
Signature Version 4)" and "Browser-Based Uploads Using POST"; GetObject, for the ``response-`` parameters.

Not botocore's ``generate_presigned_url``: it signs at the time of the call, and a browser's cache needs one URL for
some minutes.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from collective.s3blobstorage.errors import ConfigurationError, Unavailable
from collective.s3blobstorage.objectstore import client, multipart, sigv4
from collective.s3blobstorage.objectstore.connection import Connection
from collective.s3blobstorage.objectstore.presigned import Presigned, steady_time
from collective.s3blobstorage.objectstore.signed import headers_of

MOST_SECONDS = 7 * 86400  # of Signature Version 4
# Temporary credentials that end sooner are renewed, or nothing is signed with them.
LEAST_LEFT = 120.0


class Presigner:
    """Signs for the host that browsers reach (``s3-public-endpoint-url``, else the endpoint). Any thread.

    ``own_keys``: a key of ours is needed to read or write what is there, so that nothing is signed.
    """

    def __init__(self, connection: Connection, *, own_keys: bool = False) -> None:
        self.connection = connection
        self._own_keys = own_keys
        self._lock = threading.Lock()
        self._base: tuple[str, str, str] | None = None

    # Where

    def _where(self) -> tuple[str, str, str]:
        """Origin, path of the bucket and region. Found out once, by a client that makes no request (50 ms)."""
        with self._lock:
            if self._base is None:
                self._base = self._found()
            return self._base

    def _found(self) -> tuple[str, str, str]:
        settings = self.connection.settings
        signer = self.connection.reader
        if settings.public_endpoint_url:
            settings = replace(settings, endpoint_url=settings.public_endpoint_url)
            signer = client.client(client.session(settings), settings, reading=True)
        try:
            parts = urlsplit(client.bucket_url(signer, settings.bucket))
            return f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/"), signer.meta.region_name
        finally:
            if signer is not self.connection.reader:
                signer.close()

    # Who

    def _keys(self, seconds: float, now: datetime) -> tuple[Any, datetime | None]:
        """Credentials, and when they end, where that is known.

        Temporary ones of a role are renewed by botocore ten minutes and more before that. Raises Unavailable where
        those that there are end too soon.
        """
        credentials = self.connection.signed_reader.credentials
        if credentials is None:
            raise ConfigurationError("s3-access-key: there are no credentials to sign a URL with")
        try:
            keys = credentials.get_frozen_credentials()
        except (BotoCoreError, ClientError) as error:
            raise Unavailable(f"The credentials could not be renewed ({type(error).__name__}).") from None
        ends = getattr(credentials, "_expiry_time", None)
        if ends is not None and (ends - now).total_seconds() < LEAST_LEFT:
            raise Unavailable("The credentials end too soon to sign a URL with.")
        return keys, ends

    # What

    def get(
        self,
        key: str,
        seconds: int,
        now: datetime,
        *,
        content_type: str | None,
        disposition: str | None,
        cache_control: str | None,
        steady: bool,
    ) -> Presigned:
        asked = {
            "response-content-type": content_type,
            "response-content-disposition": disposition,
            "response-cache-control": cache_control,
        }
        query = {name: value for name, value in asked.items() if value is not None}
        return self._url("GET", key, seconds, now, query=query, steady=steady)

    def put(self, key: str, seconds: int, now: datetime, *, size: int, sha256: bytes | None) -> Presigned:
        headers = {"Content-Length": str(size), **self._stored_as()}
        if sha256 is not None:
            headers["x-amz-checksum-sha256"] = base64.b64encode(sha256).decode()
        return self._url("PUT", key, seconds, now, headers=headers)

    def part(self, key: str, upload_id: str, number: int, seconds: int, now: datetime, *, size: int) -> Presigned:
        # What the object is to be was said when the upload was begun.
        query = {"partNumber": str(number), "uploadId": upload_id}
        return self._url("PUT", key, seconds, now, query=query, headers={"Content-Length": str(size)})

    def _stored_as(self) -> dict[str, str]:
        """Headers of an upload, and fields of a form: as our own uploads have them."""
        stored = {"Content-Type": multipart.CONTENT_TYPE, "Content-Disposition": multipart.DISPOSITION}
        if self.connection.settings.storage_class:
            stored["x-amz-storage-class"] = self.connection.settings.storage_class
        # The store encrypts what asks for it, and nothing else (SSE-S3, SSE-KMS).
        return {**stored, **(headers_of(self.connection.encryption.write_parameters()) or {})}

    def _url(
        self,
        method: str,
        key: str,
        seconds: int,
        now: datetime,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        steady: bool = False,
    ) -> Presigned:
        self._check(seconds)
        origin, bucket_path, region = self._where()
        keys, ends = self._keys(seconds, now)
        signed_at = steady_time(now, seconds) if steady else now
        signed = {"Host": urlsplit(origin).netloc, **(headers or {})}
        path = f"{bucket_path}/{quote(self.connection.full_key(key), safe='/~')}"
        names = sigv4.signed_names(signed)
        moment = f"{signed_at:%Y%m%dT%H%M%SZ}"
        parameters = {
            **(query or {}),
            "X-Amz-Algorithm": sigv4.ALGORITHM,
            "X-Amz-Credential": f"{keys.access_key}/{sigv4.scope(moment, region, 's3')}",
            "X-Amz-Date": moment,
            "X-Amz-Expires": str(seconds),
            "X-Amz-SignedHeaders": names,
        }
        if keys.token:
            parameters["X-Amz-Security-Token"] = keys.token
        text = urlencode(sorted(parameters.items()), quote_via=quote, safe="~")
        signature = sigv4.query_signature(
            method, path, text, signed, moment=moment, secret_key=keys.secret_key, region=region, service="s3"
        )
        expires = signed_at + timedelta(seconds=seconds)
        if ends is not None:
            expires = min(expires, ends)
        return Presigned(method, f"{origin}{path}?{text}&X-Amz-Signature={signature}", expires, dict(headers or {}))

    def post(self, key: str, seconds: int, now: datetime, *, least: int, most: int) -> Presigned:
        self._check(seconds)
        origin, bucket_path, region = self._where()
        keys, ends = self._keys(seconds, now)
        expires = now + timedelta(seconds=seconds)
        if ends is not None:
            expires = min(expires, ends)
        moment = f"{now:%Y%m%dT%H%M%SZ}"
        signed = {
            "key": self.connection.full_key(key),
            **self._stored_as(),
            "x-amz-algorithm": sigv4.ALGORITHM,
            "x-amz-credential": f"{keys.access_key}/{sigv4.scope(moment, region, 's3')}",
            "x-amz-date": moment,
        }
        if keys.token:
            signed["x-amz-security-token"] = keys.token
        conditions: list[Any] = [{"bucket": self.connection.settings.bucket}]
        conditions += [{name: value} for name, value in signed.items()]
        conditions.append(["content-length-range", least, most])
        policy = base64.b64encode(
            json.dumps({"expiration": f"{expires:%Y-%m-%dT%H:%M:%S.000Z}", "conditions": conditions}).encode()
        ).decode()
        signature = sigv4.signature(policy, moment=moment, secret_key=keys.secret_key, region=region, service="s3")
        form = {**signed, "policy": policy, "x-amz-signature": signature}
        return Presigned("POST", f"{origin}{bucket_path}/", expires, {}, form)

    def _check(self, seconds: int) -> None:
        if not 1 <= seconds <= MOST_SECONDS:
            raise ValueError(f"a signature holds for 1 to {MOST_SECONDS} seconds")
        self.check_keys()

    def check_keys(self) -> None:
        """Raises ConfigurationError where whoever makes a request would need a key of ours."""
        if self._own_keys:
            raise ConfigurationError(
                "<client-side-encryption>, <sse-c>, s3-sse-customer-key: with them there are no presigned URLs, since a"
                " browser must not have the key"
            )
