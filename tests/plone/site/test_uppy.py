"""Stock Uppy in headless Chromium uploads to a site, as the manual has it: the bytes go to the store, not to Zope."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import payloads
import pytest
from command_line import s3blobs
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
    page, sent = editing
    files = [payloads.noise(1, f"single-{number}.bin") for number in range(2)]
    told = send(page, tmp_path, *files, example="uploaderOfSmallFiles")
    assert told["failure"] == []
    for file, location in zip(files, told["locations"], strict=True):
        check(editor, location, file)
    assert sent.to_store() == [("PUT", len(file.data)) for file in files]


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


def test_one_request_is_refused_with_the_option_to_set(ask):
    answer = ask("GET", f"{COMPANION}/params?filename=a.bin&type=video/mp4&metadata[size]=10&metadata[@type]=File")
    assert answer.status == 400 and "shouldUseMultipart: true" in answer.json["error"]["message"]
    assert b"X-Amz" not in answer.body


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
    assert ask("GET", f"{COMPANION}/params?filename=a&type=b", headers=headers).status == 403
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
