"""Stock Uppy in headless Chromium uploads to a site, as the manual has it: the bytes go to the store, not to Zope."""

from __future__ import annotations

import json
from urllib.parse import urlencode, urlsplit

import payloads
import pytest
from command_line import s3blobs
from direct_upload import send_to_store
from rest_sites import FOREIGN
from uppy_bundle import bundle
from web_client import WebClient

pytestmark = [pytest.mark.chromium, pytest.mark.one_release]

PLACE = "/with/++api++/files"
COMPANION = "files/@blob-upload/companion/s3"
ENABLED = "collective.s3blobstorage.upload_enabled"
MB = 2**20

SEND = """async ([example, place, options, meta]) => {
    const uppy = window.examples[example](place)
    uppy.getPlugin('AwsS3').setOptions(options)
    uppy.setMeta(meta)
    for (const file of document.querySelector('#chosen').files)
        uppy.addFile({ name: file.name, type: file.type, data: file })
    const { successful, failed } = await uppy.upload()
    const failure = failed.map((file) => String(file.error))
    return { failure, locations: successful.map((file) => uppy.getFile(file.id).uploadURL) }
}"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    return bundle(tmp_path_factory.mktemp("uppy"))


@pytest.fixture(scope="module")
def enabled(zope):
    """Direct upload is on, and the command has told the bucket that pages of this site may send to it."""
    origin = f"http://localhost:{zope.port}"
    done = s3blobs("--config", zope.home / "etc" / "zope.conf", "cors", "--origin", origin, "--yes")
    assert done.returncode == 0, done.stderr
    manager = WebClient(zope.port, "with", ("admin", zope.password))
    manager.api("PATCH", "@registry", {ENABLED: True}, expect=204)
    yield
    manager.api("PATCH", "@registry", {ENABLED: False}, expect=204)


class Sent:
    """What a page has sent, by the headers that its browser made."""

    def __init__(self, page, store):
        self._store = urlsplit(store).netloc
        self._requests = []
        page.on("requestfinished", lambda request: self._requests.append(request))

    def to_store(self):
        """(method, bytes of the body) of each request that the store answered, in order of the sizes."""
        return sorted((request.method, _size(request)) for request in self._requests if self._is(request))

    def to_zope(self):
        """Bytes of bodies."""
        return sum(_size(request) for request in self._requests if not self._is(request))

    def _is(self, request):
        return urlsplit(request.url).netloc == self._store and request.method in ("PUT", "POST")


def _size(request):
    return int(request.all_headers().get("content-length", 0))


@pytest.fixture
def editing(page, zope, script, enabled, s3_server):
    """A page of the editor with the script, and what it sends from then on."""
    page.goto("/with/login")
    page.fill("[name=__ac_name]", "editor")
    page.fill("[name=__ac_password]", zope.password)
    page.click("[name='buttons.login']")
    page.wait_for_url(lambda url: "/login" not in url)
    return with_script(page, script, s3_server)


def with_script(page, script, s3_server):
    page.goto("/with/files")
    page.add_script_tag(path=script)
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<input type=file multiple id=chosen>')")
    return page, Sent(page, s3_server.endpoint_url)


def send(page, tmp_path, *files, example="uploader", place=PLACE, options=None, meta=None):
    for payload in files:
        (tmp_path / payload.filename).write_bytes(payload.data)
    page.set_input_files("#chosen", [tmp_path / payload.filename for payload in files])
    return page.evaluate(SEND, [example, place, options or {}, meta or {}])


def check(client, location, payload, field="file"):
    """That it is content, byte for byte."""
    path = client.path_of(location)
    answer = client.get(f"{path}/@@download/{field}")
    assert answer.status == 200 and payloads.fingerprint(answer.body) == payload.fingerprint
    return path


def test_a_large_file_in_parts(editing, editor, tmp_path, tier):
    page, sent = editing
    film = payloads.noise(tier["site_file_mb"], "film.mp4")
    told = send(page, tmp_path, film)
    assert told["failure"] == []
    check(editor, told["locations"][0], film)
    parts = -(-len(film.data) // (5 * MB))
    assert sent.to_store() == sorted(("PUT", min(5 * MB, len(film.data) - number * 5 * MB)) for number in range(parts))
    assert sent.to_zope() < 20_000 + 500 * parts


def test_a_small_file_is_one_part_and_a_picture_is_a_picture(editing, editor, tmp_path):
    page, sent = editing
    photo = payloads.png("photo.png")
    told = send(page, tmp_path, photo, meta={"@type": "Image"})
    assert told["failure"] == []
    path = check(editor, told["locations"][0], photo, "image")
    assert editor.api("GET", path, expect=200)["image"]["width"] == 900
    assert sent.to_store() == [("PUT", len(photo.data))]


def test_several_at_once(editing, editor, tmp_path):
    files = [payloads.noise(1, f"one-of-{number}.bin") for number in range(4)]
    told = send(editing[0], tmp_path, *files)
    assert told["failure"] == [] and len(set(told["locations"])) == 4
    by_name = {editor.path_of(location).rpartition("/")[2]: location for location in told["locations"]}
    for file in files:
        check(editor, by_name[file.filename], file)


def test_a_file_is_replaced(editing, editor, tmp_path):
    before, after = payloads.noise(1, "before.bin"), payloads.noise(2, "after.bin")
    path = check(editor, send(editing[0], tmp_path, before)["locations"][0], before)
    place = f"{PLACE}/{path.rpartition('/')[2]}"
    refused = send(editing[0], tmp_path, after, place=place)  # a file is no folder
    assert refused["locations"] == [] and refused["failure"]
    told = send(editing[0], tmp_path, after, place=place, meta={"@type": None, "replace": True})
    assert told == {"failure": [], "locations": [f"{editor.url}/{path}"]}
    check(editor, told["locations"][0], after)


def test_parts_of_another_size(editing, editor, tmp_path):
    page, sent = editing
    film = payloads.noise(13, "seven.bin")
    page.evaluate("window.sevens = () => 7 * 1024 * 1024")
    page.evaluate(
        """() => { const whole = window.examples.uploader
        window.examples = { ...window.examples, sevens: (place) => { const uppy = whole(place)
            uppy.getPlugin('AwsS3').setOptions({ getChunkSize: window.sevens }); return uppy } } }"""
    )
    told = send(page, tmp_path, film, example="sevens", meta={"part-size": 7 * MB})
    assert told["failure"] == []
    check(editor, told["locations"][0], film)
    assert sent.to_store() == [("PUT", len(film.data) - 7 * MB), ("PUT", 7 * MB)]


def test_one_request_for_each_file(editing, editor, tmp_path):
    """By forms, which are a little longer than the files."""
    page, sent = editing
    files = [payloads.noise(1, f"single-{number}.bin") for number in range(2)]
    told = send(page, tmp_path, *files, example="uploaderOfSmallFiles")
    assert told["failure"] == []
    for file, location in zip(files, told["locations"], strict=True):
        check(editor, location, file)
    (method, size), other = sent.to_store()
    assert (method, size) == other == ("POST", size) and 0 < size - len(files[0].data) < 4000
    assert sent.to_zope() < 20_000


def test_a_login_by_token(page, zope, script, enabled, s3_server, editor, tmp_path):
    """No cookie: the page is seen by Anonymous, and the header tells who sends."""
    page, _sent = with_script(page, script, s3_server)
    file = payloads.noise(1, "token.bin")
    refused = send(page, tmp_path, file)
    assert refused["locations"] == [] and refused["failure"]
    login = {"login": "editor", "password": zope.password}
    token = editor.api("POST", "@login", login, expect=200)["token"]
    page.evaluate("([place, token]) => window.examples.withToken(place, token)", [PLACE, token])
    told = send(page, tmp_path, file)
    assert told["failure"] == []
    check(editor, told["locations"][0], file)


def test_what_was_sent_is_gone_on_with(editing, editor, site_bucket, tmp_path):
    """The store refuses the second part for a while; Uppy asks what has arrived, and sends the rest."""
    page, sent = editing
    film = payloads.noise(12, "resumed.bin")
    refused = []

    def second(route):
        if len(refused) > 3:  # Uppy tries it four times by itself
            route.continue_()
        else:
            refused.append(True)
            route.abort()

    page.route(lambda url: "partNumber=2" in url and "X-Amz" in url, second)
    page.evaluate(
        """() => { const whole = window.examples.uploader
        window.examples = { ...window.examples, patient: (place) => { const uppy = whole(place)
            const upload = uppy.upload.bind(uppy)
            uppy.upload = async () => {
                const told = await upload()
                return told.failed.length ? uppy.retryAll() : told }
            return uppy } } }"""
    )
    told = send(page, tmp_path, film, example="patient")
    assert len(refused) == 4 and told["failure"] == []
    check(editor, told["locations"][0], film)
    assert len(sent.to_store()) == 3  # none of them twice


# The protocol, without a browser


FILE = {"filename": "film.mp4", "type": "video/mp4", "metadata": {"size": 6 * MB, "@type": "File", "name": "film.mp4"}}
ACCEPT = {"Accept": "application/json"}
JSON = {**ACCEPT, "Content-Type": "application/json"}


@pytest.fixture
def ask(editor, enabled):
    def ask(method, path, body=None, client=editor, headers=None):
        sent = {**(JSON if method == "POST" else ACCEPT), **(headers or {})}
        return client.request(method, path, None if body is None else json.dumps(body).encode(), sent)

    return ask


@pytest.fixture
def begun(ask):
    """An upload in two parts, as Uppy begins it: its address below the site, with and without the key."""
    answer = ask("POST", f"{COMPANION}/multipart", FILE)
    assert answer.status == 200, answer.body
    path = f"{COMPANION}/multipart/{answer.json['uploadId']}"
    yield path, f"?key={answer.json['key']}"
    ask("DELETE", f"{path}?key={answer.json['key']}")


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({"@type": "File"}, "uppy.setFileMeta(file.id, { size: file.size })"),
        ({"size": 10}, "uppy.setMeta({ '@type': 'File' })"),
        ({"size": "ten", "@type": "File"}, "metadata.size is no number"),
        ({"size": 10, "@type": "File", "part-size": 1000}, "part-size is not from 5242880"),
        ({"size": 10, "@type": "Folder"}, "field is no file of this type"),
        ("size", "metadata is no object"),
    ],
)
def test_what_uppy_was_not_told_to_send(ask, metadata, says):
    answer = ask("POST", f"{COMPANION}/multipart", FILE | {"metadata": metadata})
    assert answer.status == 400 and says in answer.json["error"]["message"]


def test_metadata_that_are_all_text(ask, editor):
    """As Uppy 5 sends them."""
    path = editor.add("files", "File", "textual", file={"data": "x", "filename": "x.txt", "content-type": "text/plain"})
    metadata = {"size": str(6 * MB), "replace": "true", "part-size": str(6 * MB)}
    address = f"{path}/@blob-upload/companion/s3/multipart"
    begun = ask("POST", address, FILE | {"metadata": metadata})
    assert begun.status == 200, begun.body
    upload = f"{address}/{begun.json['uploadId']}"
    assert ask("GET", f"{upload}/2?key={begun.json['key']}").status == 400  # all of it is one part
    assert ask("DELETE", f"{upload}?key={begun.json['key']}").status == 200
    assert ask("POST", address, FILE | {"metadata": metadata | {"replace": "yes"}}).status == 400


SMALL = b"small" * 100
SCRIPT = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}  # as Chromium has them of a fetch


def params(**more):
    """The address that Uppy asks for a form, with the metadata that it sends along."""
    metadata = {"size": len(SMALL), "@type": "File", "name": "small.bin", **more}
    asked = {"filename": "small.bin", "type": "application/octet-stream"}
    asked |= {f"metadata[{name}]": value for name, value in metadata.items()}
    return f"{COMPANION}/params?{urlencode(asked)}"


def by_form(told, data=SMALL):
    """The store's status, for the form as a browser fills it in."""
    fields = [f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
              for name, value in told["fields"].items()]  # fmt: skip
    body = "".join(fields) + '--x\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    form = {
        "method": told["method"],
        "url": told["url"],
        "headers": {"Content-Type": "multipart/form-data; boundary=x"},
    }
    return send_to_store(form, body.encode() + data + b"\r\n--x--\r\n")


@pytest.fixture
def form_begun(ask):
    """An upload in one request, as Uppy begins it: the form, and the address that completes it."""
    answer = ask("GET", params(), headers=SCRIPT)
    assert answer.status == 200, answer.body
    path = f"files/@blob-upload/{answer.json['fields']['key'].rpartition('/')[2]}"
    yield answer.json, path
    ask("DELETE", path, headers=JSON)


def test_one_request_is_completed_by_its_id(ask, form_begun, editor):
    told, path = form_begun
    assert set(told) == {"method", "url", "fields"} and told["method"] == "POST"
    assert ask("GET", path).json["items"] == []
    early = ask("POST", path, {})
    assert early.status == 400 and early.json["error"]["incomplete"] is True
    assert by_form(told, SMALL + b"x") in (400, 403) and by_form(told) in (200, 201, 204)
    assert ask("GET", path).json["items"] == [{"part": 1, "size": len(SMALL)}]
    made = ask("POST", path, {"title": "By its id"})
    assert made.status == 201 and made.json["title"] == "By its id"
    assert editor.get(f"{editor.path_of(made.json['@id'])}/@@download/file").body == SMALL
    again = ask("POST", path, {})
    assert again.status == 200 and again.json == made.json
    assert ask("DELETE", path, headers=JSON).status == 410


def test_by_its_id_it_is_cancelled_and_signed_again(ask, form_begun):
    told, path = form_begun
    signed = ask("PUT", path, {"method": "post"}, headers=JSON)
    assert signed.status == 200 and signed.json["request"]["fields"]["key"] == told["fields"]["key"]
    assert ask("DELETE", path, headers=JSON).status == 204
    assert by_form(told) in (200, 201, 204)  # who has the form can send it still; nothing comes of it
    for method in ("GET", "POST", "DELETE"):
        assert ask(method, path, {} if method == "POST" else None, headers=JSON).status == 410, method


def test_by_its_id_for_nobody_else_and_nowhere_else(ask, form_begun, zope):
    told, path = form_begun
    assert by_form(told) in (200, 201, 204)
    admin, nobody = WebClient(zope.port, "with", ("admin", zope.password)), WebClient(zope.port, "with")
    id = path.rpartition("/")[2]
    for method in ("GET", "POST", "DELETE"):
        body = {} if method == "POST" else None
        assert ask(method, path, body, client=admin, headers=JSON).status == 404
        assert ask(method, path, body, client=nobody, headers=JSON).status == 401
        assert ask(method, f"@blob-upload/{id}", body, client=admin, headers=JSON).status == 404
        assert ask(method, f"files/@blob-upload/{'0' * 32}", body, headers=JSON).status == 404
        assert ask(method, f"files/@blob-upload/{id.upper()}", body, headers=JSON).status == 404
        end = "/complete" if method == "POST" else ""
        assert ask(method, f"{COMPANION}/multipart/{id}{end}?key={id}", body).status == 404
    assert ask("GET", path).json["items_total"] == 1


def test_no_other_upload_is_known_by_its_id(ask, begun):
    """A client that was given the token has to have it."""
    _path, key = begun
    for method in ("GET", "POST", "DELETE"):
        path = f"files/@blob-upload/{key.removeprefix('?key=')}"
        assert ask(method, path, {} if method == "POST" else None, headers=JSON).status == 404


@pytest.mark.parametrize(
    ("more", "status", "says"),
    [
        ({"size": "null"}, 400, "uppy.setFileMeta(file.id, { size: file.size })"),
        ({"@type": "undefined"}, 400, "uppy.setMeta({ '@type': 'File' })"),
        ({"size": "-1"}, 400, "metadata.size is no number"),
        ({"size": 0}, 422, "The file is empty."),
        ({"size": 5 * 2**30 + 1}, 400, "5 GiB"),
        ({"sha256": "12"}, 400, "64 hex digits"),
        ({"@type": "Folder"}, 400, "field is no file of this type"),
        ({"replace": "true", "@type": "null"}, 400, "field is no file of this type"),  # a folder has none
    ],
)
def test_one_request_that_uppy_was_not_told_enough_for(ask, more, status, says):
    answer = ask("GET", params(**more), headers=SCRIPT)
    assert answer.status == status and says in answer.json["error"]["message"], answer.body
    assert b"policy" not in answer.body


def unfinished(ask):
    return ask("GET", "files/@blob-upload").json["unfinished"]["count"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
        {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"},
        {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate"},
        {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "no-cors"},
        {"Referer": "https://evil.example.com/"},
        {"Origin": "https://evil.example.com"},
        {"Origin": "null"},
    ],
    ids=lambda headers: "-".join(headers.values()) or "nothing",
)
@pytest.mark.parametrize("way", ["Basic", "cookie"])
def test_no_page_begins_one_by_an_address(ask, zope, way, headers):
    """A link, a picture or a frame, of another site or in a page of this one: by either login."""
    basic = WebClient(zope.port, "with", ("editor", zope.password))
    client, own = (basic, {}) if way == "Basic" else (WebClient(zope.port, "with"), {"Cookie": cookies(zope)})
    before = unfinished(ask)
    answer = ask("GET", params(), client=client, headers={**own, **headers})
    assert answer.status == 403 and b"policy" not in answer.body
    assert unfinished(ask) == before
    same = ask("GET", params(), client=client, headers={**own, **SCRIPT})
    assert same.status == 200 and unfinished(ask) == before + 1
    path = f"files/@blob-upload/{same.json['fields']['key'].rpartition('/')[2]}"
    assert ask("DELETE", path, headers=JSON).status == 204


def cookies(zope):
    """Of the editor who has logged in."""
    form = urlencode({"__ac_name": "editor", "__ac_password": zope.password, "buttons.login": "Log in"}).encode()
    declared = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = WebClient(zope.port, "with").request("POST", "login", form, declared)
    set_ = [line.partition(";")[0] for line in answer.headers.get_all("Set-Cookie", ())]
    assert any(line.startswith("__ac=") for line in set_)
    return "; ".join(set_)


def test_a_picture_in_a_page_of_the_site_begins_nothing(editing, ask, form_begun):
    """As somebody may write it into content: the browser sends the cookie, and says that no script asks."""
    page, _sent = editing
    before, address = unfinished(ask), f"/with/++api++/{params()}"
    with page.expect_response(lambda response: "/params" in response.url) as told:
        page.evaluate("(address) => { new Image().src = address }", address)
    assert told.value.status == 403 and unfinished(ask) == before
    assert page.evaluate("async (address) => (await fetch(address)).status", address) == 200
    assert unfinished(ask) == before + 1


def test_urls_one_by_one_or_several(ask, begun):
    path, key = begun
    assert ask("GET", path + key).json == []
    one = ask("GET", f"{path}/2{key}").json
    both = ask("GET", f"{path}/batch{key}&partNumbers=1,2").json["presignedUrls"]
    assert list(both) == ["1", "2"] and "partNumber=2" in one["url"]
    for number in ("0", "3", "-1", "x", "1e0", "%D9%A2"):
        assert ask("GET", f"{path}/{number}{key}").status == 400
    assert ask("GET", f"{path}/batch{key}").status == 400


def test_another_key_another_user_another_place(ask, begun, zope):
    path, key = begun
    admin = WebClient(zope.port, "with", ("admin", zope.password))
    other = path.replace("files/", "", 1)
    for method, end in (("GET", ""), ("GET", "/1"), ("POST", "/complete"), ("DELETE", "")):
        body = {} if method == "POST" else None
        assert ask(method, f"{path}{end}", body).status == 404
        assert ask(method, f"{path}{end}?key={'0' * 32}", body).status == 404
        assert ask(method, f"{path}{end}{key}", body, client=admin).status == 404
        assert ask(method, f"{path}{end}{key}", body, client=WebClient(zope.port, "with")).status == 401
        assert ask(method, f"{other}{end}{key}", body, client=admin).status == 404
    assert ask("GET", path + key).status == 200


FOREIGN_PAGES = [headers for headers in FOREIGN if "Content_Type" not in headers]


@pytest.mark.parametrize("headers", FOREIGN_PAGES, ids=lambda headers: "-".join(map(str, *headers.items())))
def test_a_foreign_page_is_refused(ask, begun, headers):
    path, key = begun
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    for method, end in (("GET", ""), ("GET", "/1"), ("POST", "/complete"), ("DELETE", "")):
        answer = ask(method, f"{path}{end}{key}", {} if method == "POST" else None, headers=headers)
        assert answer.status == 403, (method, answer.body)
    assert ask("POST", f"{COMPANION}/multipart", FILE, headers=headers).status == 403
    assert ask("GET", params(), headers={**SCRIPT, **headers}).status == 403
    assert ask("GET", path + key).status == 200


@pytest.mark.parametrize(
    "declared", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
def test_what_a_form_can_send_is_refused(ask, begun, declared):
    path, key = begun
    for address, body in ((f"{COMPANION}/multipart", FILE), (f"{path}/complete{key}", {"parts": []})):
        assert ask("POST", address, body, headers={"Content-Type": declared}).status in (400, 415)
    assert ask("GET", path + key).status == 200


def test_ended_by_uppy(ask, begun):
    path, key = begun
    assert ask("DELETE", path + key).json == {}
    for method, end in (("GET", ""), ("GET", "/1"), ("POST", "/complete")):
        assert ask(method, f"{path}{end}{key}", {} if method == "POST" else None).status == 410


def test_completed_before_everything_has_come(ask, begun):
    path, key = begun
    answer = ask("POST", f"{path}/complete{key}", {"parts": [{"PartNumber": 1, "ETag": "x"}]})
    assert answer.status == 400 and answer.json["error"]["incomplete"] is True


@pytest.mark.parametrize(
    "path", ["", "/s3", "/s3/sts", "/s3/multipart/a/b/c", "/s4/multipart", "/s3/multipart/x/y/z/z"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT", "PATCH"])
def test_other_addresses(ask, method, path):
    answer = ask(method, f"files/@blob-upload/companion{path}", {} if method in ("POST", "PUT", "PATCH") else None)
    assert answer.status in (404, 405), answer.body
