"""``@@s3blobstorage-ready``, asked over HTTP as a load balancer asks, with the store and the database taken away."""

from __future__ import annotations

import secrets
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.process import ServerProcess, free_port
from servers.proxy import Proxy
from web_client import Answer, WebClient
from zope_instance import ZopeInstance

PATH = "@@s3blobstorage-ready"

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
    <zeoclient>
      server 127.0.0.1:{port}
    </zeoclient>
  </s3blobstorage>"""


@pytest.fixture(scope="module")
def between(s3_server) -> Iterator[Proxy]:
    """What the instance takes for its store; it counts."""
    with Proxy(s3_server.endpoint_url) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Iterator[tuple[int, ServerProcess]]:
    """A ZEO server without blobs, and its port."""
    folder: Path = tmp_path_factory.mktemp("zeo")
    port = free_port()
    (folder / "zeo.conf").write_text(
        f"<zeo>\n  address 127.0.0.1:{port}\n</zeo>\n<filestorage 1>\n  path {folder}/Data.fs\n</filestorage>\n"
    )
    command = [sys.executable, "-m", "ZEO.runzeo", "-C", str(folder / "zeo.conf")]
    server = ServerProcess("ZEO", command, {}, folder / "zeo.log")
    server.start()
    yield port, server
    server.stop()


@pytest.fixture(scope="module")
def instance(s3_server, between, database, tmp_path_factory) -> Iterator[ZopeInstance]:
    """A Zope without any site on that store and that database."""
    home = tmp_path_factory.mktemp("ready")
    section = SECTION.format(
        bucket=f"ready-{uuid.uuid4().hex[:20]}",
        endpoint=between.endpoint_url,
        server=s3_server,
        home=home,
        port=database[0],
    )
    zope = ZopeInstance(home, home / "cache", section, password=secrets.token_urlsafe(12), probe=f"/{PATH}")
    zope.configure()
    zope.start()
    yield zope
    zope.stop()


@pytest.fixture
def ask(instance):
    """Ask as Anonymous."""

    def ask(method: str = "GET") -> Answer:
        return WebClient(instance.port, "").request(method, PATH)

    return ask


def check(answer: Answer, status: int, body: bytes) -> None:
    assert (answer.status, answer.body) == (status, body)
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_ready_without_a_request_to_the_store(ask, between):
    between.reset()
    check(ask(), 200, b"ok\n")
    check(ask("HEAD"), 200, b"")
    check(ask("POST"), 200, b"ok\n")
    assert between.exchanges == []


def test_ready_while_the_store_is_down_or_silent(ask, between):
    between.down()
    try:
        check(ask(), 200, b"ok\n")
        between.reset()
        between.up()
        between.black_hole()
        check(ask(), 200, b"ok\n")
        check(ask("HEAD"), 200, b"")
    finally:
        between.up()
    assert between.exchanges == []


def test_not_ready_while_the_database_is_gone(ask, database, instance):
    _, server = database
    server.stop()
    try:
        check(ask(), 503, b"not ready\n")
        check(ask("HEAD"), 503, b"")
    finally:
        server.start()
        instance.wait_until_it_answers()
    check(ask(), 200, b"ok\n")


def test_only_at_the_application_root(admin, zope):
    client = WebClient(zope.port, "with")
    assert client.get(PATH).status == 404
    assert WebClient(zope.port, "").get(PATH).status == 200
