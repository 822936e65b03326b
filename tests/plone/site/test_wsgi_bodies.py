"""What the WSGI server gets as a body: never a file that may wait for the store."""

from __future__ import annotations

import secrets
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import payloads
import pytest
from servers.proxy import Proxy
from web_client import WebClient, json_file
from zope_instance import ZopeInstance

pytestmark = pytest.mark.one_release

MEGABYTES = 17  # five parts

SECTION = """\
  <s3blobstorage>
    bucket-name {bucket}
    s3-endpoint-url {endpoint}
    s3-region {server.region}
    s3-access-key {server.access_key}
    s3-secret-key {server.secret_key}
    s3-addressing-style path
    create-bucket on
    cache-dir {home}/cache
    <filestorage>
      path {home}/var/Data.fs
    </filestorage>
  </s3blobstorage>"""
VIEW = '<browser:page name="open-file" for="*" class="wsgi_bodies.OpenFile" permission="zope.Public" />'


@pytest.fixture(scope="module")
def between(s3_server) -> Iterator[Proxy]:
    """What the instance takes for its store; it counts."""
    with Proxy(s3_server.endpoint_url) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def instance(s3_server, between, tmp_path_factory) -> Iterator[ZopeInstance]:
    """A site whose WSGI server's bodies are noted."""
    home = tmp_path_factory.mktemp("bodies")
    section = SECTION.format(
        bucket=f"bodies-{uuid.uuid4().hex[:20]}", endpoint=between.endpoint_url, server=s3_server, home=home
    )
    environment = {"SITES": "with", "PYTHONPATH": str(Path(__file__).parent), "BODIES": str(home / "bodies")}
    zope = ZopeInstance(
        home, home / "cache", section, password=secrets.token_urlsafe(12), environment=environment,
        zcml=VIEW, filter="wsgi_bodies:noting", waitress="outbuf_high_watermark = 1048576",
    )  # fmt: skip
    zope.make()
    zope.start()
    yield zope
    zope.stop()


@pytest.fixture
def client(instance) -> WebClient:
    return WebClient(instance.port, "with", ("admin", instance.password))


@pytest.fixture
def bodies(instance) -> Path:
    """The classes of what is given to the server's ``wsgi.file_wrapper`` during the test, a line each."""
    notes = Path(instance.environment["BODIES"])
    notes.write_text("")
    return notes


@pytest.fixture
def large(client, between, bodies) -> payloads.Payload:
    """The new File ``large-N``, which no cache has, since it is above what ``cache-fill-on-commit`` takes."""
    payload = payloads.noise(MEGABYTES, f"{uuid.uuid4().hex}.bin")
    file = json_file(payload.data, payload.filename, payload.content_type)
    client.add("", "File", payload.filename, file=file)
    between.reset()
    return payload


def fetched(between: Proxy) -> int:
    """Bytes that came from the store."""
    return sum(exchange.bytes_down for exchange in between.exchanges if exchange.operation == "GetObject")


def test_a_reader_of_parts_never_reaches_the_file_wrapper(client, between, bodies, large):
    answer = client.get(f"{large.filename}/open-file")
    assert (answer.status, payloads.fingerprint(answer.body)) == (200, large.fingerprint)
    assert answer.headers["Content-Length"] == str(len(large.data))
    assert fetched(between) == len(large.data)
    assert bodies.read_text() == ""


def test_a_file_that_is_whole_does(client, bodies, large):
    """That is how an open file on the disk is sent fastest; and so the filter sees what it is there for."""
    answer = client.get(f"{large.filename}/@@download/file")
    assert payloads.fingerprint(answer.body) == large.fingerprint
    assert client.get(f"{large.filename}/open-file").body == large.data
    assert bodies.read_text().split() == ["plone.namedfile.utils.filestream_range_iterator", "ZODB.blob.BlobFile"]


class SlowClient(threading.Thread):
    """Takes a megabyte and then nothing until ``go``, so that waitress' own loop has to send the rest."""

    def __init__(self, port: int, path: str) -> None:
        super().__init__(daemon=True)
        self.port, self.path = port, path
        self.paused, self.go = threading.Event(), threading.Event()
        self.body = b""

    def run(self) -> None:
        received = bytearray()
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
            sock.connect(("127.0.0.1", self.port))
            sock.sendall(f"GET {self.path} HTTP/1.0\r\n\r\n".encode())
            while piece := sock.recv(64 * 1024):
                received += piece
                if len(received) > payloads.MEGABYTE and not self.paused.is_set():
                    self.paused.set()
                    self.go.wait()
        self.body = bytes(received.partition(b"\r\n\r\n")[2])


def test_other_clients_are_served_while_a_reader_waits_for_the_store(instance, between, large):
    slow = SlowClient(instance.port, f"/with/{large.filename}/open-file")
    slow.start()
    assert slow.paused.wait(30)
    time.sleep(1)  # the thread of the request has sent what the client takes
    between.black_hole()
    try:
        slow.go.set()
        ends = time.monotonic() + 5
        while time.monotonic() < ends:
            started = time.monotonic()
            assert WebClient(instance.port, "").get("@@s3blobstorage-ready").body == b"ok\n"
            assert time.monotonic() - started < 2
            assert slow.is_alive(), "it does not wait for the store"
            time.sleep(0.05)
    finally:
        between.up()
    slow.join(60)
    assert payloads.fingerprint(slow.body) == large.fingerprint


def test_a_head_of_an_open_file_makes_no_request(client, between, bodies, large):
    answer = client.request("HEAD", f"{large.filename}/open-file")
    assert (answer.status, answer.headers["Content-Length"], answer.body) == (200, str(len(large.data)), b"")
    assert between.lines == []


def test_plones_own_download_fetches_once_for_head_range_and_get(client, between, large):
    """It asks for the path of the whole file, whatever the request needs of it."""
    path = f"{large.filename}/@@download/file"
    head = client.request("HEAD", path)
    assert (head.status, head.headers["Content-Length"], head.body) == (200, str(len(large.data)), b"")
    part = client.get(path, Range="bytes=-100")
    assert (part.status, part.body) == (206, large.data[-100:])
    assert payloads.fingerprint(client.get(path).body) == large.fingerprint
    assert fetched(between) == len(large.data)
