"""A site whose redirects lead to a CDN, and whose public files have addresses that do not expire."""

from __future__ import annotations

import http.client
import secrets
import uuid
from contextlib import closing
from urllib.parse import urlsplit

import payloads
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from edge import Edge
from fixtures_servers import s3_client
from payloads import Payload
from web_client import WebClient, json_file
from zope_instance import ZopeInstance

pytestmark = pytest.mark.one_release

SECTION = """\
  <s3blobstorage>
    bucket-name {bucket}
    s3-prefix plone
    s3-endpoint-url {server.endpoint_url}
    s3-region {server.region}
    s3-access-key {server.access_key}
    s3-secret-key {server.secret_key}
    s3-addressing-style path
    create-bucket on
    cache-dir {home}/cache
    cdn-url-base {edge}
    cdn-key-pair-id KTEST
    cdn-private-key-file {home}/cdn.pem
    public-url-base https://files.example.org/public
    <filestorage>
      path {home}/var/Data.fs
    </filestorage>
  </s3blobstorage>"""

PDF = payloads.pdf()
SVG = Payload("a b.svg", "image/svg+xml", b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>' * 9)


def fetched(url, **headers):
    parts = urlsplit(url)
    with closing(http.client.HTTPConnection(parts.netloc, timeout=30)) as connection:
        connection.request("GET", f"{parts.path}?{parts.query}", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


@pytest.fixture(scope="module")
def edge(s3_server):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    bucket = f"cdn-{uuid.uuid4().hex[:20]}"
    with closing(s3_client(s3_server)) as client, Edge(client, bucket, "plone", key.public_key(), "/site") as edge:
        edge.bucket, edge.private_key = bucket, key
        yield edge


@pytest.fixture(scope="module")
def site(s3_server, edge, tmp_path_factory):
    home = tmp_path_factory.mktemp("cdn")
    pem = edge.private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (home / "cdn.pem").write_bytes(pem)
    (home / "cdn.pem").chmod(0o600)
    section = SECTION.format(bucket=edge.bucket, server=s3_server, home=home, edge=edge.url)
    zope = ZopeInstance(home, home / "cache", section, password=secrets.token_urlsafe(12))
    zope.make()
    zope.start()
    client = WebClient(zope.port, "with", ("admin", zope.password))
    for folder in ("open", "closed"):
        client.api("POST", "", {"@type": "Folder", "id": folder, "title": folder}, expect=201)
        for name, payload in (("pdf", PDF), ("svg", SVG)):
            client.add(folder, "File", name, file=json_file(payload.data, payload.filename, payload.content_type))
    client.api("POST", "open/@workflow/publish", {}, expect=200)
    client.api("PATCH", "@registry", {"collective.s3blobstorage.delivery_mode": "redirect"}, expect=204)
    yield client
    zope.stop()


def test_a_download_leads_to_the_cdn(site, edge):
    visitor = WebClient(site.port, site.site)
    answer = visitor.get("open/svg/@@download/file")
    assert answer.status == 302 and answer.headers["Location"].startswith(f"{edge.url}/blobs/")
    assert answer.headers["Cache-Control"] == "no-store"
    status, headers, body = fetched(answer.headers["Location"])
    assert (status, body) == (200, SVG.data)
    assert headers["Content-Type"] == "image/svg+xml"
    assert headers["Content-Disposition"].startswith("attachment; filename*=UTF-8''a%20b.svg")
    assert headers["Cache-Control"].startswith("public, max-age=")
    assert fetched(answer.headers["Location"], Range="bytes=10-19")[::2] == (206, SVG.data[10:20])
    assert visitor.get("open/svg/@@download/file").headers["Location"] == answer.headers["Location"]


def test_what_was_changed_is_refused(site):
    url = WebClient(site.port, site.site).get("open/svg/@@download/file").headers["Location"]
    for change in (("attachment", "inline"), ("svg%2Bxml", "html"), ("Expires=", "Expires=9")):
        assert change[0] in url
        assert fetched(url.replace(*change))[0] == 403


def test_a_private_file_has_no_address(site, edge):
    before = len(edge.served)
    answer = WebClient(site.port, site.site).get("closed/pdf/@@download/file", Accept="application/json")
    assert answer.status == 401 and b"Signature" not in answer.body and len(edge.served) == before


def test_a_program_is_told_the_cdns_address(site, edge):
    told = site.api("GET", "closed/pdf/@blob-url/file", expect=200)
    assert told["url"].startswith(f"{edge.url}/blobs/") and told["mode"] == "redirect"
    status, headers, body = fetched(told["url"])
    assert (status, body) == (200, PDF.data) and headers["Cache-Control"].startswith("private")


def test_a_public_file_has_an_address_that_does_not_expire(site):
    told = site.api("GET", "open/pdf/@blob-url/file?policy=public", expect=200)
    assert (told["mode"], told["expires"]) == ("public", None)
    base, _, key = told["url"].partition("/blobs/")
    assert base == "https://files.example.org/public" and "?" not in key


def test_what_is_private_has_none(site):
    site.api("GET", "closed/pdf/@blob-url/file?policy=public", expect=403)


def test_who_sends_a_head_is_answered_by_plone(site):
    answer = WebClient(site.port, site.site).request("HEAD", "open/pdf/@@download/file")
    assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(PDF.data)))
