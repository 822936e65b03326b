"""Stores that answer, but not as asked: a small server of the tests' own that ignores what it does not know.

Real ones do each of these things somewhere: ignore encryption headers, ranges and conditions, give ETags that are no
MD5, list without order.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import random
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from rings import sse_c

from collective.s3blobstorage.errors import (
    Corrupt,
    EncryptionNotHonoured,
    ObjectMissing,
    PreconditionFailed,
    Refused,
    StoreError,
    Unavailable,
)
from collective.s3blobstorage.objectstore import open_store, traffic
from collective.s3blobstorage.objectstore.interfaces import ObjectInfo
from collective.s3blobstorage.settings import StoreSettings

MB = 1024 * 1024
KEY = hashlib.sha256(b"the key of these tests").digest()


@dataclass
class Oddities:
    """What the server does today."""

    etag: str | None = None  # instead of the MD5
    break_after: int | None = None  # the body of the first GET ends there
    content_range: str | None = None  # of answers to a range; {first}, {last}, {size} are the right values
    more: int = 0  # bytes sent beyond the range
    lost_bytes: int = 0  # of each PUT
    damage_once: bool = False  # the first byte of the next body arrives as another one
    wants_md5: bool = False  # refuses a body without Content-MD5, as a bucket with Object Lock does
    with_md5: list[bool] = field(default_factory=list)  # of each PUT that came
    listing: list[str] = field(default_factory=list)
    refuse_deleting: set[str] = field(default_factory=set)
    slow_deleting: set[str] = field(default_factory=set)  # fails once each
    bare_404: bool = False
    page: bytes | None = None  # instead of a listing
    content_length: str | None = None
    chunked: bool = False
    requests: list[tuple[str, str]] = field(default_factory=list)
    objects: dict[str, tuple[bytes, dict[str, str]]] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)


class OddStore(BaseHTTPRequestHandler):
    """S3 without signatures, encryption, conditions, and without ranges where the test says nothing about them."""

    protocol_version = "HTTP/1.1"
    odd: Oddities

    def log_message(self, *arguments):
        pass

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except (ConnectionError, ssl.SSLError):
            self.close_connection = True

    def _key(self) -> tuple[str, dict[str, list[str]]]:
        parts = urlsplit(self.path)
        self.odd.requests.append((self.command, parts.query))
        return unquote(parts.path).removeprefix("/bucket/"), parse_qs(parts.query, keep_blank_values=True)

    def _body(self) -> bytes:
        if self.headers.get("Expect") == "100-continue":
            pass  # BaseHTTPRequestHandler has answered it
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, status: int, body: bytes = b"", length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.odd.chunked and status == 200:
            self.send_header("Transfer-Encoding", "chunked")
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        else:
            promised = len(body) if length is None else length
            self.send_header("Content-Length", self.odd.content_length or str(promised))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _error(self, status: int, code: str) -> None:
        self._send(status, f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode())

    def _etag(self, data: bytes) -> str:
        return f'"{self.odd.etag or hashlib.md5(data).hexdigest()}"'

    def do_PUT(self):
        key, query = self._key()
        data = self._body()
        data = data[: len(data) - self.odd.lost_bytes] if self.odd.lost_bytes else data
        self.odd.with_md5.append("Content-MD5" in self.headers)
        if self.odd.wants_md5 and "Content-MD5" not in self.headers:
            return self._error(400, "InvalidRequest")
        if self.odd.damage_once:
            self.odd.damage_once, data = False, bytes([data[0] ^ 1]) + data[1:]
        if "uploadId" in query:
            self.odd.uploads[query["uploadId"][0]][int(query["partNumber"][0])] = data
        else:
            kept = {name: value for name, value in self.headers.items() if name.lower().startswith("x-amz-meta-")}
            self.odd.objects[key] = data, kept
        self._send(200, ETag=self._etag(data))

    def do_POST(self):
        key, query = self._key()
        body = self._body().decode()
        if "uploads" in query:
            self.odd.uploads["u1"] = {}
            self._send(200, b"<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>")
        elif "delete" in query:
            assert self.headers["Content-MD5"] and "x-amz-checksum-crc32" not in self.headers
            errors = ""
            for wanted in [part.split("</Key>")[0] for part in body.split("<Key>")[1:]]:
                if wanted in self.odd.refuse_deleting:
                    errors += f"<Error><Key>{wanted}</Key><Code>AccessDenied</Code></Error>"
                elif wanted in self.odd.slow_deleting:
                    self.odd.slow_deleting.discard(wanted)
                    errors += f"<Error><Key>{wanted}</Key><Code>InternalError</Code></Error>"
                else:
                    self.odd.objects.pop(wanted, None)
            self._send(200, f"<DeleteResult>{errors}</DeleteResult>".encode())
        else:
            cut = self.odd.uploads.pop(query["uploadId"][0])
            data = b"".join(cut[number] for number in sorted(cut))
            self.odd.objects[key] = data, {}
            answer = f"<CompleteMultipartUploadResult><ETag>{self._etag(data)}</ETag></CompleteMultipartUploadResult>"
            self._send(200, answer.encode())

    def do_DELETE(self):
        key, query = self._key()
        if key in self.odd.refuse_deleting:
            return self._error(403, "AccessDenied")
        if "uploadId" in query:
            self.odd.uploads.pop(query["uploadId"][0], None)
        else:
            self.odd.objects.pop(key, None)
        self._send(204)

    def do_GET(self):
        key, query = self._key()
        if "list-type" in query:
            return self._list(query)
        if self.odd.bare_404:
            return self._send(404, b"<html>nothing here</html>")
        if key not in self.odd.objects:
            return self._error(404, "NoSuchKey")
        data, kept = self.odd.objects[key]
        end, self.odd.break_after = self.odd.break_after, None
        if self.odd.content_range is not None and "Range" in self.headers:
            first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
            last = min(last, len(data) - 1)
            named = self.odd.content_range.format(first=first, last=last, size=len(data))
            part = data[first : last + 1 + self.odd.more]
            kept = {"Content-Range": named, **kept} if named else kept
            self._send(206, part[:end], length=len(part), ETag=self._etag(data), **kept)
            self.close_connection = end is not None
            return
        self._send(200, data[:end], length=len(data), ETag=self._etag(data), **kept)
        self.close_connection = end is not None

    do_HEAD = do_GET

    def _list(self, query):
        """In the given order, two a page, with no token to go on with."""
        if self.odd.page is not None:
            return self._send(200, self.odd.page)
        after = query.get("start-after", [""])[0]
        keys = self.odd.listing[self.odd.listing.index(after) + 1 :] if after else self.odd.listing
        lines = "".join(
            f"<Contents><Key>{key}</Key><Size>1</Size><ETag>e</ETag>"
            "<LastModified>2026-11-21T00:00:00Z</LastModified></Contents>"
            for key in keys[:2]
        )
        truncated = str(len(keys) > 2).lower()
        self._send(200, f"<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{lines}</ListBucketResult>".encode())


def serving(made: Oddities, context: ssl.SSLContext | None) -> Iterator[Oddities]:
    """The server's oddities while it runs; ``port`` is where it is."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OddStoreOfThisTest", (OddStore,), {"odd": made}))
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    made.port = server.server_port
    made.scheme = "http" if context is None else "https"
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def odd(request, ca):
    """Over https, or over http where the test says so by a parameter."""
    if getattr(request, "param", "https") == "http":
        yield from serving(Oddities(), None)
        return
    certificate = ca.issue("odd")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    yield from serving(Oddities(), context)


in_clear = pytest.mark.parametrize("odd", ["http"], indirect=True)


@pytest.fixture
def open_odd(odd, ca):
    """``open_odd(**settings)`` opens a store on it."""
    opened = []

    def make(**changes):
        store = open_store(
            StoreSettings(
                bucket="bucket",
                endpoint_url=f"{odd.scheme}://127.0.0.1:{odd.port}",
                region="us-east-1",
                access_key="access",
                secret_key="secret",
                ca_bundle=ca.bundle,
                outage_patience=0.0,  # what is odd here stays odd
                **changes,
            )
        )
        opened.append(store)
        return store

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def file(tmp_path):
    numbers = itertools.count()

    def make(size: int):
        data = random.Random(size).randbytes(size)
        path = tmp_path / f"{next(numbers)}.blob"
        path.write_bytes(data)
        return path, data

    return make


def read(store, key: str, **expected) -> bytes:
    target = io.BytesIO()
    store.get_file(key, target, **expected)
    return target.getvalue()


# Encryption that is silently ignored


@pytest.mark.parametrize("size", [10, 2 * MB, 16 * MB + 1], ids=["bytes", "stream", "parts"])
def test_what_was_not_encrypted_does_not_stay(odd, open_odd, file, size):
    path, _ = file(size)
    with pytest.raises(EncryptionNotHonoured, match="s3-sse-customer-key"):
        open_odd(encryption=sse_c(KEY)).put_file("x", path, metadata={})
    assert odd.objects == {} and odd.uploads == {}


def test_a_marker_that_was_not_encrypted_does_not_stay(odd, open_odd):
    with pytest.raises(EncryptionNotHonoured):
        open_odd(encryption=sse_c(KEY)).put_bytes("x", b"secret")
    assert odd.objects == {}


def test_a_leftover_that_cannot_be_deleted_is_in_the_log(odd, open_odd, caplog):
    odd.refuse_deleting.add("x")
    with pytest.raises(EncryptionNotHonoured):
        open_odd(encryption=sse_c(KEY)).put_bytes("x", b"secret")
    assert "could not be deleted" in caplog.text and "'x'" in caplog.text


def test_nothing_is_read_without_the_echo(odd, open_odd):
    odd.objects["blobs/x"] = b"abc", {}
    store = open_odd(encryption=sse_c(KEY, required=True))
    for verb in (lambda: store.get_bytes("blobs/x"), lambda: store.head("blobs/x"), lambda: read(store, "blobs/x")):
        with pytest.raises(EncryptionNotHonoured):
            verb()


# ETags


@pytest.mark.parametrize("size", [10, 16 * MB + 1], ids=["one put", "parts"])
def test_an_etag_of_another_kind_is_no_error(odd, open_odd, file, size):
    path, data = file(size)
    odd.etag = "an-etag-of-its-own"
    store = open_odd()
    stored = store.put_file("blobs/x", path, metadata={})
    assert stored.etag == "an-etag-of-its-own" and odd.objects["blobs/x"][0] == data


def test_an_etag_that_is_the_md5_of_other_bytes_is(odd, open_odd, file):
    path, _ = file(1000)
    odd.etag = "0" * 32
    with pytest.raises(Corrupt):
        open_odd().put_file("x", path, metadata={})
    assert odd.objects == {}


def test_other_bytes_in_an_object_of_parts(odd, open_odd, file):
    path, _ = file(16 * MB + 1)
    odd.lost_bytes = 1
    with pytest.raises(Corrupt):
        open_odd().put_file("x", path, metadata={})
    assert odd.objects == {} and odd.uploads == {}


def test_over_https_every_part_has_content_md5(odd, open_odd, file):
    store = open_odd()
    store.measured_etags(are_md5=True)
    path, data = file(16 * MB + 1)
    store.put_file("x", path, metadata={})
    assert odd.objects["x"][0] == data and all(odd.with_md5)


@in_clear
def test_without_a_measurement_every_part_has_content_md5(odd, open_odd, file):
    path, data = file(16 * MB + 1)
    open_odd().put_file("x", path, metadata={})
    assert odd.objects["x"][0] == data and odd.with_md5 and all(odd.with_md5)


@pytest.fixture
def proving(odd, open_odd):
    """A store over http whose ETags were seen to be MD5s."""
    store = open_odd()
    store.measured_etags(are_md5=True)
    return store


small_and_large = pytest.mark.parametrize("size", [1000, 16 * MB + 1], ids=["one put", "parts"])


@in_clear
@small_and_large
def test_what_arrived_is_proven_by_its_etag(odd, proving, file, size):
    path, data = file(size)
    proving.put_file("x", path, metadata={})
    assert odd.objects["x"][0] == data and odd.with_md5 and not any(odd.with_md5)


@in_clear
def test_a_file_that_must_not_replace_another_has_content_md5(odd, proving, file):
    path, data = file(1000)
    proving.put_file("x", path, metadata={}, if_absent=True)
    assert odd.objects["x"][0] == data and odd.with_md5 == [True]


@in_clear
@small_and_large
@pytest.mark.parametrize("oddity", [{"damage_once": True}, {"wants_md5": True}, {"etag": "of its own"}], ids=str)
def test_what_its_etag_does_not_prove_is_sent_again_with_content_md5(odd, proving, file, oddity, size):
    for name, value in oddity.items():
        setattr(odd, name, value)
    path, data = file(size)
    counted: list[int] = []
    proving.put_file("x", path, metadata={}, progress=counted.append)
    assert odd.objects["x"][0] == data
    again = sum(odd.with_md5)
    assert again == (1 if "damage_once" in oddity else len(odd.with_md5) / 2) and sum(counted) == len(data)
    errors = traffic.read(proving.traffic.snapshot())["put"].errors
    assert errors == {"unavailable": 0, "refused": 0, "other": 1 if "damage_once" in oddity else 0}


@in_clear
@small_and_large
def test_other_bytes_do_not_stay(odd, proving, file, size):
    path, _ = file(size)
    odd.lost_bytes = 1
    with pytest.raises(Corrupt):
        proving.put_file("x", path, metadata={})
    assert odd.objects == {} and odd.uploads == {}


@pytest.mark.parametrize("size", [1000, 16 * MB + 1], ids=["one put", "parts"])
def test_a_size_that_differs_where_the_etag_tells_nothing(odd, open_odd, file, size):
    path, _ = file(size)
    odd.etag, odd.lost_bytes = "an-etag-of-its-own", 1
    with pytest.raises(Corrupt):
        open_odd().put_file("x", path, metadata={})
    assert odd.objects == {}


# Ranges, conditions, listings


def test_a_store_that_ignores_ranges(odd, open_odd, file):
    """It sends the whole object again; the first part of it is not written twice."""
    _, data = file(MB)
    odd.objects["x"] = data, {}
    odd.break_after = 500_000
    assert read(open_odd(), "x", size=MB, sha256=hashlib.sha256(data).digest()) == data
    assert len(odd.requests) == 2


def read_range(store, start: int, length: int, **expected) -> tuple[bytearray, ObjectInfo]:
    arrived = bytearray()
    return arrived, store.get_range("x", start, length, arrived.extend, **expected)


@pytest.mark.parametrize("start, length", [(0, 100), (MB // 2 - 7, 300_000), (MB - 10, 100), (MB, 1), (MB + 1, 100)])
def test_a_range_of_a_store_that_ignores_ranges(odd, open_odd, start, length):
    data = random.Random(1).randbytes(MB)
    odd.objects["x"] = data, {"x-amz-meta-oid": "1"}
    store = open_odd()
    arrived, info = read_range(store, start, length, size=MB)
    assert arrived == data[start : start + length]
    assert (info.size, info.etag, info.metadata) == (MB, hashlib.md5(data).hexdigest(), {"oid": "1"})
    odd.break_after = start + length // 2
    arrived, _ = read_range(store, start, length)
    assert arrived == data[start : start + length]


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101])
def test_the_end_of_an_object_of_a_store_that_ignores_ranges(odd, open_odd, size):
    odd.objects["x"] = bytes(size), {}
    arrived, info = read_range(open_odd(), 0, 100)
    assert arrived == bytes(min(size, 100)) and info.size == size


def test_a_range_of_a_store_that_ignores_conditions(odd, open_odd):
    odd.objects["x"] = b"x" * 1000, {}
    with pytest.raises(PreconditionFailed):
        read_range(open_odd(), 0, 100, if_match="0" * 32)


def test_an_object_rewritten_on_a_store_that_ignores_conditions(odd, open_odd):
    """The rest of another object is not added to what was given already."""
    data = random.Random(1).randbytes(MB)
    odd.objects["x"] = data, {}
    odd.break_after = 500_000

    def write(block) -> None:
        arrived.extend(block)
        odd.objects["x"] = bytes(MB), {}

    arrived = bytearray()
    with pytest.raises(PreconditionFailed):
        open_odd().get_range("x", 0, MB, write)
    assert arrived == data[: len(arrived)]


@pytest.mark.parametrize(
    "content_range",
    ["bytes 11-109/{size}", "bytes 0-99/{size}", "bytes {first}-{first}/{size}", "bytes {first}-200/{size}"],
)
def test_another_range_than_was_asked_for(odd, open_odd, content_range):
    odd.objects["x"] = b"x" * 1000, {}
    odd.content_range = content_range
    arrived = bytearray()
    with pytest.raises(Corrupt):
        open_odd().get_range("x", 10, 100, arrived.extend)
    assert not arrived


def test_more_bytes_than_the_range_has(odd, open_odd):
    odd.objects["x"] = b"x" * 1000, {}
    odd.content_range, odd.more = "bytes {first}-{last}/{size}", 1
    arrived = bytearray()
    with pytest.raises(Corrupt):
        open_odd().get_range("x", 10, 100, arrived.extend)
    assert not arrived


@pytest.mark.parametrize("content_range", ["", "bytes", "bytes */{size}", "items {first}-{last}/{size}"])
def test_a_part_that_does_not_say_which_one_it_is(odd, open_odd, content_range):
    odd.objects["x"] = b"x" * 1000, {}
    odd.content_range = content_range
    arrived = bytearray()
    with pytest.raises(Unavailable):
        open_odd().get_range("x", 10, 100, arrived.extend)
    assert not arrived


def test_a_range_of_an_object_whose_size_is_not_told(odd, open_odd):
    data = random.Random(1).randbytes(1000)
    odd.objects["x"] = data, {}
    odd.content_range = "bytes {first}-{last}/*"
    store = open_odd()
    with pytest.raises(Unavailable):
        read_range(store, 10, 100)
    arrived, info = read_range(store, 900, 200, size=1000)
    assert arrived == data[900:] and info.size == 1000
    odd.objects["x"] = data, {"x-amz-meta-size": "1000"}
    odd.break_after = 50
    arrived, info = read_range(store, 10, 100)
    assert arrived == data[10:110] and info.size == 1000


@pytest.mark.parametrize("start", [0, 10])
def test_a_range_of_an_object_of_another_size(odd, open_odd, start):
    odd.objects["x"] = b"x" * 1000, {}
    for odd.content_range in (None, "bytes {first}-{last}/{size}"):
        arrived = bytearray()
        with pytest.raises(Corrupt):
            open_odd().get_range("x", start, 100, arrived.extend, size=1001)
        assert not arrived


def test_a_range_is_not_read_without_the_echo(odd, open_odd):
    odd.objects["blobs/x"] = b"x" * 1000, {}
    odd.content_range = "bytes {first}-{last}/{size}"
    arrived = bytearray()
    with pytest.raises(EncryptionNotHonoured):
        open_odd(encryption=sse_c(KEY, required=True)).get_range("blobs/x", 10, 100, arrived.extend)
    assert not arrived


def test_a_bare_404_is_no_missing_object(odd, open_odd):
    """A blob that is "missing" is gone for good to its site; a wrong address is not."""
    odd.bare_404 = True
    with pytest.raises(Unavailable, match="s3-endpoint-url") as raised:
        open_odd().get_bytes("x")
    assert not isinstance(raised.value, ObjectMissing)


def test_a_listing_without_tokens_goes_on_by_key(odd, open_odd):
    odd.listing = ["a", "b", "c", "d", "e"]
    assert [line.key for line in open_odd().list()] == odd.listing


def test_a_listing_that_goes_on_with_nothing_is_refused(odd, open_odd):
    odd.page = b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"
    with pytest.raises(StoreError, match="follows"):
        list(open_odd().list())


@pytest.mark.parametrize("listing", [["b", "a"], ["a", "a"], ["a", "b", "é", "z"]], ids=["order", "twice", "bytes"])
def test_a_listing_out_of_order_is_refused(odd, open_odd, listing):
    odd.listing = listing
    with pytest.raises(StoreError, match="order"):
        list(open_odd().list())


@pytest.mark.parametrize(
    "page",
    [
        b"<html><body>Sign in",
        b"",
        b"{}",
        b"<ListBucketResult><IsTruncated>false</IsTruncated>",
        b"<ListBucketResult><Name>bucket</Name></ListBucketResult>",
        b"<Error><Code>InternalError</Code><Message>m</Message></Error>",
    ],
    ids=["html", "empty", "json", "cut", "without an end", "an error"],
)
def test_an_answer_that_is_no_listing(odd, open_odd, page):
    """A login page or a proxy's greeting must not look like an empty bucket: gc compares with it."""
    odd.page = page
    with pytest.raises(Unavailable):
        list(open_odd().list())


def test_a_header_that_cannot_be_understood(odd, open_odd):
    odd.objects["x"] = b"abc", {}
    odd.content_length = "3, 3"
    with pytest.raises(Unavailable) as raised:
        open_odd().head("x")
    assert raised.value.__cause__ is None


def test_a_body_without_a_length(odd, open_odd):
    """As a proxy sends it that compresses: never an empty blob."""
    odd.objects["x"] = b"abc", {}
    odd.chunked = True
    store = open_odd()
    for verb in (lambda: store.get_bytes("x"), lambda: read(store, "x"), lambda: store.head("x")):
        with pytest.raises(Unavailable):
            verb()
    assert read(store, "x", size=3) == b"abc"
    odd.objects["x"] = b"abc", {"x-amz-meta-size": "3"}
    assert store.get_bytes("x") == b"abc" and store.head("x").size == 3
    with pytest.raises(Corrupt):
        read(store, "x", size=2, sha256=hashlib.sha256(b"abc").digest())


# Deleting


def test_keys_that_stay_are_counted(odd, open_odd):
    keys = [f"k{number}" for number in range(1500)]
    odd.objects.update({key: (b"", {}) for key in keys})
    odd.refuse_deleting = {"k7", "k1200", "k1499"}
    with pytest.raises(Refused, match="3 of 1500"):
        open_odd().delete(keys)
    assert set(odd.objects) == odd.refuse_deleting
    assert len(odd.requests) == 2
    with pytest.raises(Refused, match="1 of 1 "):
        open_odd().delete(["k7"])


def test_keys_that_fail_once_are_tried_again(odd, open_odd):
    odd.objects.update({f"k{number}": (b"", {}) for number in range(5)})
    odd.slow_deleting = {"k1", "k3"}
    open_odd().delete([f"k{number}" for number in range(5)])
    assert odd.objects == {} and len(odd.requests) == 2


def test_a_condition_by_head_where_the_store_has_none(odd, open_odd, file):
    path, _ = file(16 * MB + 1)
    odd.objects["x"] = b"there", {}
    with pytest.raises(PreconditionFailed):
        open_odd().put_file("x", path, metadata={}, if_absent=True)
    assert odd.objects["x"][0] == b"there" and odd.uploads == {}
