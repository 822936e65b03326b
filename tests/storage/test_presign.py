"""Presigned URLs and forms against a real server that checks signatures (``--s3`` chooses which)."""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import ssl
import time
import uuid
from contextlib import closing
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from rings import sse_c
from zope.interface.verify import verifyObject

from collective.s3blobstorage.encryption.configured import StoreMode, configured
from collective.s3blobstorage.encryption.managed import SSES3
from collective.s3blobstorage.errors import ConfigurationError, Refused, Unavailable
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.objectstore.interfaces import IObjectStore
from collective.s3blobstorage.objectstore.presign import Presigner

KEY = "blobs/0000000000000001/" + "a" * 32
DATA = bytes(range(256)) * 40


@pytest.fixture(params=["", "a/b"], ids=["no prefix", "prefix a/b"])
def store(request, settings):
    opened = open_store(dataclasses.replace(settings, prefix=request.param))
    opened.open_bucket(True)
    yield opened
    opened.close()


def asked(method, url, body=b"", headers=None):
    """(status, headers in lower case, body) of a request as a browser makes it: only what the URL says."""
    parts = urlsplit(url)
    context = ssl._create_unverified_context() if parts.scheme == "https" else None
    kind = http.client.HTTPSConnection if context else http.client.HTTPConnection
    with closing(kind(parts.netloc, timeout=30, **({"context": context} if context else {}))) as connection:
        connection.request(method, f"{parts.path}?{parts.query}".rstrip("?"), body or None, dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def form_of(fields, data):
    boundary = uuid.uuid4().hex
    lines = [f'--{boundary}\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in fields.items()]
    lines.append(f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n')
    return "".join(lines).encode() + data + f"\r\n--{boundary}--\r\n".encode(), {
        "Content-Type": f"multipart/form-data; boundary={boundary}"
    }


def test_the_contract(store):
    assert verifyObject(IObjectStore, store)


def test_a_get_whole_and_ranges_with_the_headers_that_were_signed(store):
    store.put_bytes(KEY, DATA)
    disposition = "attachment; filename*=UTF-8''%C3%9Cbung%20%22x%22%3B%20y.svg"
    signed = store.presign_get(
        KEY,
        seconds=60,
        content_type="image/svg+xml; charset=utf-8",
        disposition=disposition,
        cache_control="private, max-age=30",
    )
    status, headers, body = asked("GET", signed.url)
    assert (status, body) == (200, DATA)
    assert headers["content-type"] == "image/svg+xml; charset=utf-8"
    assert headers["content-disposition"] == disposition
    assert headers["cache-control"] == "private, max-age=30"
    status, headers, body = asked("GET", signed.url, headers={"Range": "bytes=100-199"})
    assert (status, body, headers["content-disposition"]) == (206, DATA[100:200], disposition)


def test_without_overrides_a_browser_saves_it_and_knows_no_type(store):
    store.put_bytes(KEY, DATA)
    _, headers, _ = asked("GET", store.presign_get(KEY, seconds=60).url)
    assert (headers["content-type"], headers["content-disposition"]) == ("application/octet-stream", "attachment")


@pytest.mark.parametrize(
    "change",
    [
        lambda url: url.replace("response-content-type=text%2Fplain", "response-content-type=text%2Fhtml"),
        lambda url: url.replace("&response-content-disposition=attachment", ""),
        lambda url: url.replace("a" * 32, "b" * 32),
        lambda url: url.replace("X-Amz-Expires=60", "X-Amz-Expires=61"),
        lambda url: url[:-1] + ("0" if url[-1] != "0" else "1"),
        lambda url: url.partition("?")[0],
    ],
    ids=["type", "disposition", "key", "expiry", "signature", "no signature"],
)
def test_what_was_changed_is_refused(store, change):
    store.put_bytes(KEY, DATA)
    store.put_bytes("blobs/0000000000000001/" + "b" * 32, b"another one's")
    url = store.presign_get(KEY, seconds=60, content_type="text/plain", disposition="attachment").url
    assert asked("GET", url)[0] == 200
    changed = change(url)
    assert changed != url
    status, _, body = asked("GET", changed)
    assert status in (400, 403)
    assert DATA[:256] not in body and b"another one's" not in body


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
def test_it_is_good_for_its_method_only(store, method):
    store.put_bytes(KEY, DATA)
    assert asked(method, store.presign_get(KEY, seconds=60).url, b"x")[0] in (400, 403, 405, 411)
    assert store.get_bytes(KEY) == DATA


def test_it_expires(store):
    store.put_bytes(KEY, DATA)
    signed = store.presign_get(KEY, seconds=1)
    assert timedelta(0) < signed.expires - datetime.now(UTC) <= timedelta(seconds=1)
    time.sleep(2.2)
    assert asked("GET", signed.url)[0] in (400, 403)


def test_steady_urls_are_the_same_for_half_their_time(store):
    presigner = Presigner(store.connection)
    none = {"content_type": None, "disposition": None, "cache_control": None}
    begin = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
    urls = [
        presigner.get(KEY, 600, begin + timedelta(seconds=seconds), steady=True, **none) for seconds in (0, 1, 299, 300)
    ]
    assert urls[0].url == urls[1].url == urls[2].url != urls[3].url
    assert urls[0].expires == begin + timedelta(seconds=600)
    assert (
        presigner.get(KEY, 600, begin, steady=False, **none).url
        != presigner.get(KEY, 600, begin + timedelta(seconds=1), steady=False, **none).url
    )


def test_a_steady_url_works(store):
    store.put_bytes(KEY, DATA)
    signed = store.presign_get(KEY, seconds=600, steady=True)
    assert asked("GET", signed.url)[0] == 200
    assert timedelta(seconds=299) < signed.expires - datetime.now(UTC) <= timedelta(seconds=600)


def test_what_others_send_is_encrypted_as_our_own(settings):
    """The store encrypts what asks for it: the headers of SSE-S3 are signed, and left out the request is refused."""
    sse_s3 = configured([StoreMode("sse-s3", lambda required: SSES3(required=required))])
    with closing(open_store(dataclasses.replace(settings, encryption=sse_s3))) as store:
        put = store.presign_put(KEY, seconds=60, size=len(DATA))
        assert put.headers["x-amz-server-side-encryption"] == "AES256"
        assert asked("PUT", put.url, DATA, put.headers)[0] == 200
        assert store.protection(KEY).mode == "sse-s3"
        form = store.presign_post(KEY, seconds=60, least=1, most=len(DATA))
        assert form.fields["x-amz-server-side-encryption"] == "AES256"
        without = {name: value for name, value in put.headers.items() if "encryption" not in name}
        assert asked("PUT", put.url, DATA, without)[0] == 403


def test_a_put_of_just_so_many_bytes(store):
    signed = store.presign_put(KEY, seconds=60, size=len(DATA), sha256=hashlib.sha256(DATA).digest())
    assert asked("PUT", signed.url, DATA + b"x", {**signed.headers, "Content-Length": str(len(DATA) + 1)})[0] == 403
    assert asked("PUT", signed.url, DATA, {**signed.headers, "Content-Type": "text/html"})[0] == 403
    assert store.head(KEY) is None
    assert asked("PUT", signed.url, DATA, signed.headers)[0] == 200
    assert store.get_bytes(KEY) == DATA
    _, headers, _ = asked("GET", store.presign_get(KEY, seconds=60).url)
    assert (headers["content-type"], headers["content-disposition"]) == ("application/octet-stream", "attachment")


def test_a_form_of_so_many_bytes(store):
    signed = store.presign_post(KEY, seconds=60, least=10, most=len(DATA))
    for data in (DATA + b"x", DATA[:9]):
        body, headers = form_of(signed.fields, data)
        assert asked("POST", signed.url, body, headers)[0] in (400, 403)
    body, headers = form_of({**signed.fields, "Content-Type": "text/html"}, DATA)
    assert asked("POST", signed.url, body, headers)[0] == 403
    body, headers = form_of({**signed.fields, "key": signed.fields["key"] + "x"}, DATA)
    assert asked("POST", signed.url, body, headers)[0] == 403
    assert not list(store.list())
    body, headers = form_of(signed.fields, DATA)
    assert asked("POST", signed.url, body, headers)[0] in (200, 204)
    assert store.get_bytes(KEY) == DATA


def test_it_is_signed_for_the_host_that_browsers_reach(settings):
    settings = dataclasses.replace(settings, public_endpoint_url="https://files.example.org:8443")
    with closing(open_store(settings)) as store:
        parts = urlsplit(store.presign_get(KEY, seconds=60).url)
        assert (parts.scheme, parts.netloc.partition(".")[2]) in (
            ("https", "example.org:8443"),
            ("https", "files.example.org:8443"),
        )
        assert urlsplit(store.presign_post(KEY, seconds=60, least=1, most=2).url).netloc == parts.netloc


def test_another_key_is_refused(store):
    store.put_bytes(KEY, DATA)
    stolen = dataclasses.replace(store.settings, secret_key="0" * 40)
    with closing(open_store(stolen)) as other:
        assert asked("GET", other.presign_get(KEY, seconds=60).url)[0] == 403


def test_seconds_that_the_signature_does_not_know(store):
    for seconds in (0, -1, 7 * 86400 + 1):
        with pytest.raises(ValueError, match="1 to 604800 seconds"):
            store.presign_get(KEY, seconds=seconds)


def test_a_customers_key_is_not_given_to_a_browser(settings):
    settings = dataclasses.replace(
        settings, encryption=sse_c(b"k" * 32), endpoint_url=settings.endpoint_url.replace("http:", "https:")
    )
    with closing(open_store(settings)) as store, pytest.raises(ConfigurationError, match="s3-sse-customer-key"):
        store.presign_get(KEY, seconds=60)


def test_a_store_that_is_only_read_signs_no_upload(settings):
    with closing(open_store(settings, read_only=True)) as store:
        for sign in (
            lambda: store.presign_put(KEY, seconds=60, size=1),
            lambda: store.presign_post(KEY, seconds=60, least=1, most=1),
        ):
            with pytest.raises(Refused):
                sign()


class Temporary:
    """Credentials of a role, as botocore's that renew themselves."""

    def __init__(self, seconds):
        self._expiry_time = datetime.now(UTC) + timedelta(seconds=seconds)

    def get_frozen_credentials(self):
        from botocore.credentials import ReadOnlyCredentials

        return ReadOnlyCredentials("key", "secret", "token/+=")


def test_a_url_ends_with_temporary_credentials(store, monkeypatch):
    monkeypatch.setattr(store.connection.signed_reader, "credentials", Temporary(600))
    signed = store.presign_get(KEY, seconds=3600)
    assert timedelta(seconds=590) < signed.expires - datetime.now(UTC) <= timedelta(seconds=600)
    assert parse_qs(urlsplit(signed.url).query)["X-Amz-Security-Token"] == ["token/+="]


def test_credentials_that_are_about_to_end_sign_nothing(store, monkeypatch):
    monkeypatch.setattr(store.connection.signed_reader, "credentials", Temporary(119))
    with pytest.raises(Unavailable):
        store.presign_get(KEY, seconds=60)
