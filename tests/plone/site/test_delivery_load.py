"""Who waits for whom: slow clients and a slow store beside somebody who only wants a page.

What is asserted are ratios: how long a page takes beside them, to how long it takes without, in the same run.
"""

from __future__ import annotations

import io
import secrets
import socket
import statistics
import threading
import time
import uuid
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPResponse
from urllib.parse import urlsplit

import payloads
import pytest
from servers import nginx
from servers.proxy import Proxy
from web_client import WebClient
from zope_instance import ZopeInstance

pytestmark = pytest.mark.one_release

# Threads four, and buffers as waitress has them: what Plone's own templates give.
SECTION = """\
  <s3blobstorage>
    bucket-name {bucket}
    s3-endpoint-url {endpoint}
    s3-public-endpoint-url {server.endpoint_url}
    s3-region {server.region}
    s3-access-key {server.access_key}
    s3-secret-key {server.secret_key}
    s3-addressing-style path
    create-bucket on
    cache-dir {home}/cache
    x-accel-location /s3blobs
    <filestorage>
      path {home}/var/Data.fs
    </filestorage>
  </s3blobstorage>"""

HELD_MB = 12  # of the files that slow clients hold: above part-threshold, so that no cache has them at first
SLOWER = 3.0  # times as long as beside nobody, with what else the machine does meanwhile
PAGES = 25


@pytest.fixture(scope="module")
def between(s3_server):
    with Proxy(s3_server.endpoint_url) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def instance(s3_server, between, tmp_path_factory):
    home = tmp_path_factory.mktemp("load")
    bucket = f"load-{uuid.uuid4().hex[:20]}"
    section = SECTION.format(bucket=bucket, endpoint=between.endpoint_url, server=s3_server, home=home)
    zope = ZopeInstance(home, home / "cache", section, password=secrets.token_urlsafe(12))
    zope.make()
    zope.start()
    for site in ("with", "without"):
        admin = WebClient(zope.port, site, ("admin", zope.password))
        admin.api("POST", "", {"@type": "Folder", "id": "public", "title": "public"}, expect=201)
        admin.api("POST", "public/@workflow/publish", {}, expect=200)
    yield zope
    zope.stop()


def add_film(instance, site, megabytes):
    """The path of a new file that no cache has."""
    payload = payloads.noise(megabytes, f"{uuid.uuid4().hex}.mp4")
    admin = WebClient(instance.port, site, ("admin", instance.password))
    path = admin.upload_by_tus("public", io.BytesIO(payload.data), len(payload.data), payload.filename, "video/mp4")
    return f"{path}/@@download/file"


def set_mode(instance, mode):
    admin = WebClient(instance.port, "with", ("admin", instance.password))
    admin.api("PATCH", "@registry", {"collective.s3blobstorage.delivery_mode": mode}, expect=204)


def page_seconds(port):
    """The median time of a page of the site for a visitor."""
    visitor = WebClient(port, "with")
    taken = []
    for _ in range(PAGES):
        started = time.monotonic()
        assert visitor.get("public").status == 200
        taken.append(time.monotonic() - started)
    return statistics.median(taken)


class Slow:
    """A client that takes the first thousand bytes of a file, and then nothing. Follows a redirect."""

    def __init__(self, port, path):
        self._ask(f"localhost:{port}", path)
        if self.response.status == 302:
            target = urlsplit(self.response.headers["Location"])
            self.close()
            self._ask(target.netloc, f"{target.path}?{target.query}")
        assert self.response.status == 200
        assert len(self.response.read(1000)) == 1000

    def _ask(self, netloc, path):
        host, _, port = netloc.partition(":")
        connection = HTTPConnection(host.replace("localhost", "127.0.0.1"), int(port), timeout=300)
        connection.sock = socket.socket()
        # As little as the kernel allows: what lies in its buffers has left the server.
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sock.settimeout(300)
        connection.sock.connect((connection.host, connection.port))
        connection.request("GET", path, headers={"Host": netloc})
        self.response: HTTPResponse = connection.getresponse()
        self._connection = connection

    def close(self):
        self.response.close()
        self._connection.close()


@contextmanager
def slow_clients(count, port, path):
    with ExitStack() as stack:
        made, failures = [], []

        def make():
            try:
                made.append(Slow(port, path))
            except BaseException as error:
                failures.append(error)

        # All at once, as after a newsletter.
        threads = [threading.Thread(target=make) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(280)
        for client in made:
            stack.callback(client.close)
        yield made, failures


@pytest.fixture(scope="module")
def idle(instance):
    page_seconds(instance.port)  # what is imported and rendered once
    return page_seconds(instance.port)


@pytest.mark.parametrize("mode", ["redirect", "x-accel"])
def test_beside_slow_clients_of_the_store_pages_are_as_if_they_were_not_there(
    instance, idle, s3_server, tier, tmp_path, mode
):
    if mode == "x-accel" and not nginx.available():
        pytest.skip("Debian's package nginx-light is not installed")
    path = f"/with/{add_film(instance, 'with', HELD_MB)}"
    set_mode(instance, mode)
    front = nginx.Nginx(tmp_path, instance.port, s3_server.endpoint_url).start() if mode == "x-accel" else None
    try:
        port = front.port if front else instance.port
        with slow_clients(tier["slow_clients"], port, path) as (clients, failures):
            assert failures == [] and len(clients) == tier["slow_clients"]
            beside = page_seconds(instance.port)
    finally:
        if front:
            front.stop()
        set_mode(instance, "stream")
    print(f"{mode}: {idle * 1000:.0f} ms alone, {beside * 1000:.0f} ms beside {len(clients)} slow clients")
    assert beside < SLOWER * idle


def test_beside_slow_clients_of_zope_pages_are_as_in_stock_plone(instance, tier):
    """The same files in the same process, by plone.namedfile's views on a site without the add-on and by ``proxy``."""
    taken = {}
    for site, mode in (("without", "stream"), ("with", "proxy")):
        path = f"/{site}/{add_film(instance, site, HELD_MB)}"
        set_mode(instance, mode)
        with slow_clients(tier["slow_clients"], instance.port, path) as (clients, failures):
            assert failures == [] and len(clients) == tier["slow_clients"]
            taken[mode] = page_seconds(instance.port)
    set_mode(instance, "stream")
    print({mode: f"{seconds * 1000:.0f} ms" for mode, seconds in taken.items()})
    assert taken["proxy"] < SLOWER * taken["stream"]


def test_beside_one_client_of_a_slow_store_pages_are_as_when_idle(instance, idle, between, tier):
    """200 ms for each part, and a client that takes a megabyte a second of what comes."""
    path = f"/with/{add_film(instance, 'with', tier['slow_mb'])}"
    set_mode(instance, "proxy")
    between.round_trip(200)
    stop, counts = threading.Event(), [0]

    def take():
        connection = HTTPConnection("127.0.0.1", instance.port, timeout=60)
        connection.request("GET", path)
        response = connection.getresponse()
        while not stop.is_set() and (data := response.read(100_000)):
            counts[0] += len(data)
            stop.wait(0.1)
        connection.close()

    thread = threading.Thread(target=take)
    thread.start()
    try:
        while not counts[0] and thread.is_alive():
            time.sleep(0.05)
        begun = counts[0]
        beside = page_seconds(instance.port)
        assert thread.is_alive() and counts[0] > begun  # it was under way all the time
    finally:
        stop.set()
        thread.join()
        between.round_trip(0)
        set_mode(instance, "stream")
    print(f"{idle * 1000:.0f} ms alone, {beside * 1000:.0f} ms beside a download")
    assert beside < SLOWER * idle
