"""``@blob-url`` over HTTP: what it tells, whom, and that what it tells is good for a download."""

from __future__ import annotations

import http.client
from contextlib import closing
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import payloads
import pytest
from payloads import Payload
from rest_examples import exchanges
from web_client import WebClient, json_file

pytestmark = pytest.mark.one_release

PDF = payloads.pdf()
SVG = Payload('ü "x".svg', "image/svg+xml", b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>' * 9)


def fetched(url):
    parts = urlsplit(url)
    with closing(http.client.HTTPConnection(parts.netloc, timeout=30)) as connection:
        connection.request("GET", f"{parts.path}?{parts.query}")
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


@pytest.fixture(scope="module")
def site(admin, zope):
    """Folders with a PDF, an SVG and an image each, one published, one private; the manager's client."""
    client = WebClient(zope.port, "with", admin.user)
    for folder in ("open-urls", "closed-urls"):
        client.api("POST", "", {"@type": "Folder", "id": folder, "title": folder}, expect=201)
        for name, payload in (("pdf", PDF), ("svg", SVG)):
            client.add(folder, "File", name, file=json_file(payload.data, payload.filename, payload.content_type))
        png = payloads.png()
        client.add(folder, "Image", "image", image=json_file(png.data, png.filename, png.content_type))
    client.api("POST", "open-urls/@workflow/publish", {}, expect=200)  # files have no workflow of their own
    yield client
    set_mode(client, "stream")


def set_mode(client, mode):
    client.api("PATCH", "@registry", {"collective.s3blobstorage.delivery_mode": mode}, expect=204)


def anonymous(client):
    return WebClient(client.port, client.site)


def test_the_fields_of_an_item(site):
    told = site.api("GET", "open-urls/pdf/@blob-url", expect=200)
    assert told == {
        "@id": f"{site.url}/open-urls/pdf/@blob-url",
        "items": [
            {
                "@id": f"{site.url}/open-urls/pdf/@blob-url/file",
                "field": "file",
                "filename": PDF.filename,
                "content_type": "application/pdf",
                "size": len(PDF.data),
            }
        ],
    }


def test_a_signed_url_where_the_site_redirects(site):
    set_mode(site, "redirect")
    told = site.api("GET", "open-urls/svg/@blob-url/file", expect=200)
    status, headers, body = fetched(told["url"])
    assert (status, body) == (200, SVG.data)
    assert headers["Content-Type"] == "image/svg+xml"
    assert headers["Content-Disposition"].startswith("attachment; filename*=UTF-8''")
    assert headers["Cache-Control"].startswith("public, max-age=")
    size, sha256 = payloads.fingerprint(SVG.data)
    url = told.pop("url")
    assert told == {
        "@id": f"{site.url}/open-urls/svg/@blob-url/file",
        "method": "GET",
        "expires": told["expires"],
        "filename": SVG.filename,
        "content_type": "image/svg+xml",
        "size": size,
        "sha256": sha256,
        "mode": "redirect",
    }
    left = (datetime.fromisoformat(told["expires"]) - datetime.now(UTC)).total_seconds()
    assert 140 < left <= 300
    assert parse_qs(urlsplit(url).query)["X-Amz-Expires"] == ["300"]


def test_the_answer_is_kept_by_nobody(site):
    set_mode(site, "redirect")
    answer = site.get("open-urls/pdf/@blob-url/file", Accept="application/json")
    assert answer.headers.get_all("Cache-Control") == ["no-store"]
    assert answer.headers["ETag"] is None


def test_plones_own_url_where_the_site_streams(site):
    set_mode(site, "stream")
    told = site.api("GET", "open-urls/pdf/@blob-url/file", expect=200)
    assert (told["mode"], told["expires"]) == ("stream", None)
    assert told["url"].startswith(f"{site.url}/open-urls/pdf/@@download/file/")
    assert fetched(told["url"])[::2] == (200, PDF.data)
    inline = site.api("GET", "open-urls/pdf/@blob-url/file?disposition=inline", expect=200)
    assert "/@@display-file/file/" in inline["url"]


def test_presigned_is_given_whatever_the_site_does(site):
    set_mode(site, "stream")
    told = site.api("GET", "open-urls/pdf/@blob-url/file?policy=presigned", expect=200)
    assert told["mode"] == "redirect" and fetched(told["url"])[::2] == (200, PDF.data)


@pytest.mark.parametrize(
    ("name", "disposition", "begins"),
    [
        ("pdf", "attachment", "attachment;"),
        ("pdf", "inline", "inline"),  # Plone 6.2 adds the name
        ("svg", "attachment", "attachment;"),
        ("svg", "inline", "attachment;"),  # plone.namedfile does not show it
    ],
)
def test_inline_only_what_plone_shows(site, name, disposition, begins):
    told = site.api("GET", f"open-urls/{name}/@blob-url/file?policy=presigned&disposition={disposition}", expect=200)
    status, headers, _ = fetched(told["url"])
    assert status == 200 and headers["Content-Disposition"].startswith(begins)


def test_a_scale(site):
    told = site.api("GET", "open-urls/image/@blob-url/image/thumb?policy=presigned", expect=200)
    again = site.api("GET", "open-urls/image/@blob-url/image/thumb?policy=presigned", expect=200)
    assert again["mode"] == "redirect"
    status, headers, body = fetched(again["url"])
    assert (status, len(body)) == (200, again["size"]) and headers["Content-Type"] == again["content_type"]
    assert told["size"] == again["size"]
    whole = site.api("GET", "open-urls/image/@blob-url/image?policy=presigned", expect=200)
    assert whole["size"] > again["size"]


@pytest.mark.parametrize(
    "path",
    ["open-urls/pdf/@blob-url/nothing", "open-urls/pdf/@blob-url/title", "open-urls/pdf/@blob-url/file/thumb/more",
     "open-urls/image/@blob-url/image/nothing", "open-urls/pdf/@blob-url/portal_type"],
)  # fmt: skip
def test_what_is_not_there(site, path):
    error = site.api("GET", path, expect=404)
    assert "X-Amz" not in str(error)


@pytest.mark.parametrize("query", ["policy=all", "policy=", "disposition=form-data", "policy=public&policy=auto"])
def test_parameters_that_there_are_not(site, query):
    error = site.api("GET", f"open-urls/pdf/@blob-url/file?{query}", expect=400)
    assert error["error"]["type"] == "BadRequest"


@pytest.mark.parametrize("query", ["", "?policy=presigned", "?policy=public"])
@pytest.mark.parametrize("field", ["", "/file"])
def test_a_private_item_is_private(site, field, query):
    set_mode(site, "redirect")
    answer = anonymous(site).get(f"closed-urls/pdf/@blob-url{field}{query}", Accept="application/json")
    download = anonymous(site).get("closed-urls/pdf/@@download/file", Accept="application/json")
    assert answer.status == 401
    assert b"X-Amz" not in answer.body and b"X-Amz" not in download.body


def test_who_may_see_it_gets_a_url_that_no_cache_shares(site):
    set_mode(site, "redirect")
    told = site.api("GET", "closed-urls/pdf/@blob-url/file", expect=200)
    status, headers, _ = fetched(told["url"])
    assert status == 200 and headers["Cache-Control"].startswith("private, max-age=")


def test_a_public_address_of_what_is_private_is_refused(site):
    error = site.api("GET", "closed-urls/pdf/@blob-url/file?policy=public", expect=403)
    assert error["error"]["type"] == "Forbidden"


def test_there_is_none_without_a_base(site):
    error = site.api("GET", "open-urls/pdf/@blob-url/file?policy=public", expect=409)
    assert "public-url-base" in error["error"]["message"]


def test_a_site_without_the_add_on_has_no_such_service(admin, zope):
    client = WebClient(zope.port, "without", admin.user)
    assert client.get("files/@blob-url", Accept="application/json").status == 404


@pytest.mark.parametrize("example", exchanges("@blob-url"), ids=str)
def test_the_examples_of_the_documentation(site, example):
    """As recorded, but for the site's address, the signature and what belongs to the bytes."""
    set_mode(site, "redirect")
    method, status, documented = example.method, example.status, example.answer
    path = example.path.replace("/plone/press/report", "open-urls/pdf").replace(
        "/plone/press/portrait", "open-urls/image"
    )
    if path.count("/") == 4:
        site.api(method, path, expect=status)  # makes the scale
    told = site.api(method, path, expect=status)

    def plain(value, name=""):
        if isinstance(value, dict):
            return {name: plain(each, name) for name, each in value.items()}
        if isinstance(value, list):
            return [plain(each) for each in value]
        # Plone's own addresses as they are; all else that differs from file to file, by its kind.
        if name in ("url", "size", "sha256", "expires", "filename"):
            return type(value).__name__
        if isinstance(value, str):
            for ours, theirs in (("open-urls/pdf", "press/report"), ("open-urls/image", "press/portrait")):
                value = value.replace(f"{site.url}/{ours}", f"https://www.example.org/plone/{theirs}")
        return value

    assert plain(told) == plain(documented)
