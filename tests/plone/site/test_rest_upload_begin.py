"""``@blob-upload`` over HTTP: who may begin, go on with and abort which upload, and what a store then takes."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.parse import urlencode, urlsplit

import pytest
from fixtures_servers import s3_client
from rest_examples import exchanges, form
from rest_sites import FOREIGN, ROLES

pytestmark = pytest.mark.one_release

PREFIX = "collective.s3blobstorage.upload_"
MB = 2**20
FILE = {"filename": "film.mp4", "size": 1000, "content-type": "video/mp4", "@type": "File"}
LARGE = FILE | {"size": 20 * MB}


@pytest.fixture(scope="module")
def store(sites, s3_server):
    """What is in the staging area of the database ``main``: ids of objects, and of unfinished multipart uploads."""
    client = s3_client(s3_server)

    def seen(prefix="main"):
        area = f"{prefix}/uploads/"
        objects = client.list_objects_v2(Bucket=sites.bucket, Prefix=area).get("Contents", ())
        unfinished = client.list_multipart_uploads(Bucket=sites.bucket).get("Uploads", ())
        return {one["Key"].removeprefix(area) for one in objects}, {
            one["Key"].removeprefix(area) for one in unfinished if one["Key"].startswith(area)
        }

    yield seen
    client.close()


@pytest.fixture(scope="module")
def where(sites):
    """A folder with a file in it, of the site ``one``, where direct upload is on; and another of the same name."""
    for site in ("one", "two", "second/site"):
        settings(sites, site, enabled=True)
        sites.as_user(site, "Manager").api("POST", "", {"@type": "Folder", "id": "up", "title": "Up"}, expect=201)
    manager = sites.as_user("one", "Manager")
    manager.api("POST", "up", {"@type": "Document", "id": "page", "title": "Page"}, expect=201)
    manager.api("POST", "up", {"@type": "News Item", "id": "news", "title": "News"}, expect=201)
    manager.add("up", "File", "file", file={"data": "x", "filename": "x.txt", "content-type": "text/plain"})
    yield "up"


def settings(sites, site, **values):
    records = {PREFIX + name: value for name, value in values.items()}
    sites.as_user(site, "Manager").api("PATCH", "@registry", records, expect=204)


@pytest.fixture
def begin(sites, where):
    """``begin(**more)``: the answer of a POST as a Manager; the upload is aborted after the test."""
    begun = []

    def begin(path=where, *, site="one", user="Manager", file=FILE, **more):
        answer = sites.ask(site, user, "POST", f"{path}/@blob-upload", file | more)
        if answer.status == 201:
            begun.append((site, user, path, answer.json["id"]))
        return answer

    yield begin
    for site, user, path, token in begun:
        sites.ask(site, user, "DELETE", f"{path}/@blob-upload/{token}")


def sent(request, data):
    """The store's status."""
    parts = urlsplit(request["url"])
    headers = {name: value for name, value in request["headers"].items() if name.lower() != "content-length"}
    with closing(http.client.HTTPConnection(parts.netloc, timeout=60)) as connection:
        connection.request(request["method"], f"{parts.path}?{parts.query}", data, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status


def upload(begun):
    return f"up/@blob-upload/{begun.json['id']}"


# Who may begin one where. 401 and 403 are both a refusal: Plone answers 401 where its own check of View fails.


@pytest.mark.parametrize("user", [None, *ROLES, "root"])
def test_who_may_begin(begin, store, user):
    """Whoever may add content to the folder, or change the file; for nobody else anything is begun in the store."""
    before = store()
    added = begin(user=user, file=LARGE)
    replaced = begin("up/file", user=user, file=LARGE, **{"@type": None})
    assert replaced.status in (400, 401)
    named = {name: value for name, value in LARGE.items() if name != "@type"}
    replaced = begin("up/file", user=user, file=named, replace=True)
    for answer, roles in ((added, ("Site Administrator", "Manager", "root")),
                          (replaced, ("Editor", "Site Administrator", "Manager", "root"))):  # fmt: skip
        assert answer.status == 201 if user in roles else answer.status in (401, 403), answer.body
        assert answer.headers.get_all("Cache-Control") == ["no-store"] or answer.status == 401
        assert b"X-Amz" not in answer.body or answer.status == 201
    begun = {answer.json["requests"][0]["url"].partition("?")[0].rpartition("/")[2]
             for answer in (added, replaced) if answer.status == 201}  # fmt: skip
    assert store()[1] - before[1] == begun


@pytest.mark.parametrize("user", [None, *ROLES, "root"])
def test_nobody_else_goes_on_with_it(sites, begin, store, user):
    begun = begin(file=LARGE)
    before = store()
    for method, body in (("GET", None), ("PUT", {"parts": [1]}), ("DELETE", None)):
        answer = sites.ask("one", user, method, upload(begun), body)
        if user != "Manager":
            assert answer.status in (401, 404), (method, answer.body)
            assert b"film" not in answer.body and b"X-Amz" not in answer.body
            assert store() == before
        else:
            assert answer.status in (200, 204), answer.body


def test_only_where_it_was_begun(sites, begin, store):
    """Not at another container, not for the same name in another site or database, and not without its id."""
    begun = begin(file=LARGE)
    token = begun.json["id"]
    before = store()
    for site, path in (("one", ""), ("one", "up/page"), ("one", "up/file"), ("two", "up"), ("second/site", "up")):
        for method, body in (("GET", None), ("PUT", {"parts": [1]}), ("DELETE", None)):
            answer = sites.ask(site, "Manager", method, f"{path}/@blob-upload/{token}".lstrip("/"), body)
            assert (answer.status, answer.json["error"].get("reason")) == (404, "token"), (site, path, answer.body)
    for method in ("PUT", "DELETE"):
        assert sites.ask("one", "Manager", method, "up/@blob-upload", {"parts": [1]}).status == 404
    assert sites.ask("one", "Manager", "GET", f"{upload(begun)}/1").status == 404
    assert store() == before


@pytest.mark.parametrize("change", ["AAAA", "x", "", None], ids=["longer", "letter", "shorter", "other"])
def test_no_other_id(sites, begin, change):
    token = begin().json["id"]
    wrong = {"AAAA": token + "AAAA", "x": token[:40] + ("x" if token[40] != "x" else "y") + token[41:],
             "": token[:-4], None: secrets.token_urlsafe(200)}[change]  # fmt: skip
    for method, body in (("GET", None), ("PUT", {}), ("DELETE", None)):
        answer = sites.ask("one", "Manager", method, f"up/@blob-upload/{wrong}", body)
        assert (answer.status, answer.json["error"]["reason"]) == (404, "token")


def test_after_it_was_aborted(sites, begin, store):
    begun = begin(file=LARGE)
    assert sites.ask("one", "Manager", "DELETE", upload(begun)).status == 204
    assert store() == (set(), set())
    for method, body in (("GET", None), ("PUT", {"parts": [1]}), ("DELETE", None)):
        answer = sites.ask("one", "Manager", method, upload(begun), body)
        assert (answer.status, answer.json["error"]["reason"]) == (410, "ended"), answer.body
    assert sent(begun.json["requests"][0], bytes(16 * MB)) == 404  # the store knows nothing of it


# Foreign pages


def cookies(sites):
    """Of a Manager who has logged in to the site ``one``."""
    form = urlencode({"__ac_name": "Manager", "__ac_password": sites.instance.password, "buttons.login": "Log in"})
    sent = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = sites.as_user("one", None).request("POST", "login", form.encode(), sent)
    set_ = [line.partition(";")[0] for line in answer.headers.get_all("Set-Cookie", ())]
    assert any(line.startswith("__ac=") for line in set_)
    return "; ".join(set_)


FORM = b'--x\r\nContent-Disposition: form-data; name="filename"\r\n\r\na\r\n--x--\r\n'


@pytest.mark.parametrize("way", ["Basic", "cookie"])
def test_a_foreign_page_begins_signs_completes_and_aborts_nothing(sites, begin, store, way):
    user, own = ("Manager", {}) if way == "Basic" else (None, {"Cookie": cookies(sites)})
    begun = begin(file=LARGE)
    before = store()
    for headers in FOREIGN:
        for method, path, body in (
            ("POST", "up/@blob-upload", LARGE),
            ("POST", upload(begun), {}),
            ("PUT", upload(begun), {"parts": [1]}),
            ("DELETE", upload(begun), None),
        ):
            if "multipart" in (headers.get("Content_Type") or ""):
                body = FORM
            answer = sites.ask("one", user, method, path, body, **(own | headers))
            assert answer.status in (403, 415), (headers, method, answer.body)
            assert b"X-Amz" not in answer.body and store() == before
    # The site's own page does all of it with the same cookie.
    same = own | {"Origin": sites.as_user("one", None).url.removesuffix("/one"), "Sec_Fetch_Site": "same-origin"}
    assert sites.ask("one", user, "PUT", upload(begun), {"parts": [1]}, **same).status == 200
    assert sites.ask("one", user, "DELETE", upload(begun), **same).status == 204


# What the store takes


def test_one_request(sites, begin, store):
    begun = begin(method="put").json
    assert begun["method"] == "put" and begun["part-size"] is None and begun["parts"] is None
    again = sites.ask("one", "Manager", "PUT", f"up/@blob-upload/{begun['id']}", {}).json
    assert again["request"]["url"].partition("?")[0] == begun["request"]["url"].partition("?")[0]
    told = sites.ask("one", "Manager", "GET", f"up/@blob-upload/{begun['id']}").json
    assert told["items"] == [] and told["items_total"] == 0
    assert sent(begun["request"], bytes(999)) == sent(begun["request"], bytes(1001)) == 403
    assert store()[0] == set()
    assert sent(again["request"], bytes(1000)) == 200
    told = sites.ask("one", "Manager", "GET", f"up/@blob-upload/{begun['id']}").json
    assert told["items"] == [{"part": 1, "size": 1000}]
    assert sites.ask("one", "Manager", "DELETE", f"up/@blob-upload/{begun['id']}").status == 204
    assert store() == (set(), set())


def test_parts_on_demand(sites, begin):
    begun = begin(size=400 * MB).json
    count = begun["parts"]
    assert [one["part"] for one in begun["requests"]] == list(range(1, 9)) and count > 8
    path = f"up/@blob-upload/{begun['id']}"
    told = sites.ask("one", "Manager", "PUT", path, {"parts": [count, 9]}).json
    assert [one["part"] for one in told["requests"]] == [count, 9]
    last = told["requests"][0]
    assert last["size"] == 400 * MB - (count - 1) * begun["part-size"] == int(last["headers"]["Content-Length"])
    assert sent(last, bytes(last["size"] - 1)) == 403
    assert sent(last, bytes(last["size"])) == 200
    # A part's request is no other part's.
    other = told["requests"][1]
    forged = other | {"url": other["url"].replace("partNumber=9&", "partNumber=10&")}
    assert forged["url"] != other["url"] and sent(forged, bytes(other["size"])) == 403
    seen = sites.ask("one", "Manager", "GET", path).json
    assert seen["items"] == [{"part": count, "size": last["size"]}]
    for parts in ([0], [count + 1], [-1], ["1"], [True], [1.0], [], None, "1", [1, 1], list(range(1, 202)), {"a": 1}):
        answer = sites.ask("one", "Manager", "PUT", path, {"parts": parts})
        assert (answer.status, answer.json["error"]["field"]) == (400, "parts"), (parts, answer.body)
    assert sites.ask("one", "Manager", "PUT", path, {"method": "put"}).json["error"]["field"] == "method"


def test_what_arrived_is_batched(sites, begin):
    begun = begin(size=50 * MB, method="multipart").json
    for one in begun["requests"]:
        assert sent(one, bytes(one["size"])) == 200
    path = f"up/@blob-upload/{begun['id']}"
    told = sites.ask("one", "Manager", "GET", f"{path}?b_start=1&b_size=2").json
    assert told["items_total"] == begun["parts"] and [one["part"] for one in told["items"]] == [2, 3]
    assert "b_start=3" in told["batching"]["next"]


def test_a_form(sites, begin, store):
    begun = begin(method="post").json
    request = begun["request"]
    assert (
        begun["method"] == "post"
        and request["method"] == "POST"
        and "policy" in {name.lower() for name in request["fields"]}
    )
    assert sent_as_form(request, bytes(1001)) in (400, 403) and store()[0] == set()
    assert sent_as_form(request, bytes(1000)) in (200, 201, 204) and len(store()[0]) == 1
    assert sites.ask("one", "Manager", "PUT", f"up/@blob-upload/{begun['id']}", {"method": "post"}).status == 200


def sent_as_form(request, data):
    parts = [
        f'--xyz\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in request["fields"].items()
    ]
    head = "".join(parts) + '--xyz\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    body = head.encode() + data + b"\r\n--xyz--\r\n"
    return sent(request | {"headers": {"Content-Type": "multipart/form-data; boundary=xyz"}}, body)


def test_bytes_that_were_announced(sites, begin):
    """Their SHA-256 is signed: a store that compares it refuses others at once, ``IUploadArea.finish`` at the end."""
    data = secrets.token_bytes(1000)
    request = begin(sha256=hashlib.sha256(data).hexdigest()).json["request"]
    headers = {name.lower(): value for name, value in request["headers"].items()}
    assert headers["x-amz-checksum-sha256"] == base64.b64encode(hashlib.sha256(data).digest()).decode()
    assert "x-amz-checksum-sha256" in request["url"].partition("X-Amz-SignedHeaders=")[2].partition("&")[0]
    assert sent(request, data) == 200


# What is refused


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"filename": None}, "filename"), ({"filename": 3}, "filename"), ({"size": None}, "size"),
        ({"size": "1000"}, "size"), ({"size": 1.5}, "size"), ({"size": True}, "size"), ({"@type": None}, "@type"),
        ({"content-type": "video"}, "content-type"), ({"content-type": "video/mp4\r\nX: y"}, "content-type"),
        ({"content-type": 3}, "content-type"), ({"field": "title"}, "field"), ({"field": 3}, "field"),
        ({"replace": "yes"}, "replace"), ({"replace": True}, "@type"), ({"sha256": "abc"}, "sha256"),
        ({"sha256": None}, "sha256"), ({"method": "PUT"}, "method"), ({"method": 1}, "method"), ({"name": "x"}, "name"),
        ({"size": 5 * 2**30 + 1, "method": "put"}, "method"), ({"@type": "Document"}, "@type-or-field"),
        ({"@type": "nothing"}, "@type"), ({"@type": ""}, "@type"),
    ],
)  # fmt: skip
def test_bodies_that_are_wrong(begin, store, more, field):
    before = store()
    answer = begin(**more)
    assert answer.status in (400, 403), answer.body
    assert answer.json["error"]["field"] == ("field" if field == "@type-or-field" else field), answer.body
    assert store() == before


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b'"x"'])
def test_no_object(sites, where, body):
    assert sites.ask("one", "Manager", "POST", "up/@blob-upload", body).status == 400


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"size": 0}, "empty"), ({"size": -1}, "empty"), ({"size": 6 * 2**40}, "too-large"),
        ({"filename": ""}, "filename"), ({"filename": "a/b"}, "filename"), ({"filename": "..\\a"}, "filename"),
        ({"filename": "a\0.mp4"}, "filename"), ({"filename": "a\r\nX: y"}, "filename"),
        ({"filename": "\x1b[2J"}, "filename"), ({"filename": "a\u202egpj.exe"}, "filename"),
        ({"filename": "\ud800"}, "filename"), ({"filename": "x" * 256}, "filename"),
        ({"@type": "Image"}, "type"), ({"@type": "Image", "content-type": "text/html"}, "type"),
    ],
)  # fmt: skip
def test_files_that_are_refused(begin, store, more, reason):
    answer = begin(**more)
    assert (answer.status, answer.json["error"]["reason"]) == (422, reason), answer.body
    assert answer.json["error"]["type"] == "UploadRefused" and answer.json["error"]["message"]


def test_a_type_that_nobody_said_is_that_of_the_name(begin):
    assert begin(**{"content-type": ""}).json["content-type"] == "video/mp4"
    assert begin(filename="a.html", **{"content-type": ""}).json["content-type"] == "text/html"
    assert begin(**{"content-type": "Text/HTML; charset=utf-8"}).json["content-type"] == "text/html"


@pytest.fixture
def restricted(sites, where):
    def restricted(**values):
        settings(sites, "one", **values)

    yield restricted
    settings(sites, "one", enabled=True, maximum_size=0, portal_types=[], mime_types=[], user_count=50,
             user_size=100 * 1024, site_size=1024 * 1024)  # fmt: skip


def test_what_the_site_says(begin, restricted, sites):
    restricted(maximum_size=2, portal_types=["File"], mime_types=["video/*"])
    assert begin(size=2 * MB).status == 201
    answer = begin(size=2 * MB + 1).json["error"]
    assert answer["reason"] == "too-large" and answer["message"] == "The file is 2.0 MB; this site takes up to 2.0 MB."
    assert begin(**{"content-type": "image/png"}).json["error"]["reason"] == "type"
    image = begin(**{"@type": "Image", "content-type": "image/png"})
    assert image.json["error"]["reason"] == "portal-type"
    told = sites.ask("one", "Manager", "GET", "up/@blob-upload").json
    assert (told["maximum-size"], told["portal-types"], told["mime-types"]) == (2 * MB, ["File"], ["video/*"])


def test_how_much_at_once(begin, restricted, sites, store):
    restricted(user_count=2, user_size=45, site_size=60)
    first = begin(file=LARGE)
    assert first.status == begin(file=LARGE).status == 201
    before = store()
    too_many = begin(file=LARGE)
    assert (too_many.status, too_many.json["error"]["reason"]) == (422, "quota") and store() == before
    assert "You have 2 unfinished uploads" in too_many.json["error"]["message"]
    restricted(user_count=3)
    assert begin(file=LARGE).json["error"]["reason"] == "quota"  # 60 MB of one user
    assert begin(file=LARGE, user="Site Administrator").status == 201
    assert begin(user="root").json["error"]["reason"] == "quota"  # 60 MB and a few bytes of the site
    unfinished = sites.ask("one", "Manager", "GET", "up/@blob-upload").json["unfinished"]
    assert unfinished == {"count": 2, "size": 40 * MB, "maximum-count": 3, "maximum-size": 45 * MB}
    assert sites.ask("one", "Manager", "DELETE", upload(first)).status == 204
    assert begin(file=LARGE).status == 201


def test_switched_off_meanwhile(begin, restricted, sites):
    begun = begin(file=LARGE)
    restricted(enabled=False)
    assert (begin().status, begin().json["error"]["reason"]) == (409, "off")
    for method, body in (("GET", None), ("PUT", {"parts": [1]})):
        answer = sites.ask("one", "Manager", method, upload(begun), body)
        assert (answer.status, answer.json["error"]["reason"]) == (409, "off")
    told = sites.ask("one", "Manager", "GET", "up/@blob-upload").json
    assert told["enabled"] is False and told["why_not"] == "direct upload is off in the settings of this site"
    assert sites.ask("one", "Manager", "DELETE", upload(begun)).status == 204


def test_a_site_without_a_bucket(sites, where):
    told = sites.ask("plain/site", "Manager", "GET", "@blob-upload").json
    assert told["enabled"] is False and "has no <s3blobstorage>" in told["why_not"]
    answer = sites.ask("plain/site", "Manager", "POST", "@blob-upload", FILE)
    assert answer.status == 409 and "has no <s3blobstorage>" in answer.json["error"]["message"]


def test_messages_are_in_the_language_of_the_request(sites, begin):
    """Where there is no translation, in English; what programs read stays."""
    answer = sites.ask("one", "Manager", "POST", "up/@blob-upload", FILE | {"size": 0}, Accept_Language="de")
    assert answer.json["error"]["reason"] == "empty"


def test_what_is_locked_by_somebody_else(sites, begin):
    """A type that knows locks, whose picture is not its primary field, as it has none."""
    file = {"filename": "a.png", "size": 1000, "content-type": "image/png", "replace": True}
    assert begin("up/news", user="Editor", file=file).json["error"]["field"] == "field"
    begun = begin("up/news", user="Editor", file=file, field="image")
    assert begun.status == 201
    path = f"up/news/@blob-upload/{begun.json['id']}"
    assert sites.ask("one", "Editor", "GET", "up/news/@blob-upload").json["fields"] == ["image"]
    sites.as_user("one", "Manager").api("POST", "up/news/@lock", {}, expect=200)
    try:
        assert begin("up/news", user="Editor", file=file, field="image").status == 403
        for method, body in (("PUT", {"parts": [1]}), ("GET", None)):
            answer = sites.ask("one", "Editor", method, path, body)
            assert answer.status == 403 and "locked" in answer.json["error"]["message"]
        assert sites.ask("one", "Editor", "GET", "up/news/@blob-upload").status == 403
    finally:
        sites.as_user("one", "Manager").api("DELETE", "up/news/@lock", {"force": True}, expect=200)
    assert sites.ask("one", "Editor", "PUT", path, {"parts": [1]}).status == 200
    # A lock of one's own is that of the form from which one uploads.
    sites.as_user("one", "Editor").api("POST", "up/news/@lock", {}, expect=200)
    try:
        assert sites.ask("one", "Editor", "PUT", path, {"parts": [1]}).status == 200
    finally:
        sites.as_user("one", "Manager").api("DELETE", "up/news/@lock", {"force": True}, expect=200)


def test_many_at_the_same_time(sites, begin, store):
    """Different uploads of one site: each is noted, whatever conflicts there were, and nothing is left over."""
    before = store()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: begin(file=LARGE), range(12)))
    assert [answer.status for answer in answers] == [201] * 12
    assert len(store()[1] - before[1]) == 12
    assert sites.ask("one", "Manager", "GET", "up/@blob-upload").json["unfinished"]["count"] >= 12
    for answer in answers:
        assert sites.ask("one", "Manager", "GET", upload(answer)).json["items"] == []


# docs/rest.md


def test_the_examples_of_the_documentation(sites, where):
    examples = [one for one in exchanges("@blob-upload") if not (one.method == "POST" and one.path.endswith("/AQx7"))]
    client, token = sites.as_user("one", "Manager"), ""
    client.api("POST", "", {"@type": "Folder", "id": "videos", "title": "Videos"}, expect=201)
    client.add(
        "videos", "File", "harvest.mp4", file={"data": "x", "filename": "harvest.mp4", "content-type": "video/mp4"}
    )
    for example in examples:
        path = example.path.removeprefix("/plone/").replace("AQx7", token)
        answer = client.request(
            example.method, path, example.body and json.dumps(example.body).encode(), example.headers
        )
        assert answer.status == example.status, (str(example), answer.body)
        if example.answer is None:
            continue
        assert form(answer.json) == form(example.answer), example
        if "error" in example.answer:
            assert answer.json == example.answer
        elif "Location" in example.answered:
            assert answer.headers["Location"] == answer.json["@id"]
            token = answer.json["id"]
            assert sent(answer.json["requests"][0], bytes(answer.json["part-size"])) == 200
    assert len(examples) >= 6
