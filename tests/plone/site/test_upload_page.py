"""The page "Upload files" over HTTP, as a browser without JavaScript has it; and what it sends files to."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlencode

import payloads
import pytest
from panel_forms import text_of
from web_client import WebClient, json_file

from collective.s3blobstorage.services.blob_upload.folders import MOST_PATHS
from collective.s3blobstorage.uploading.existing import LOOKS_INTO

pytestmark = pytest.mark.one_release

PREFIX = "collective.s3blobstorage."
MB = 2**20
FOREIGN = [{"Origin": "https://evil.example.com"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
BOUNDARY = "a-boundary-of-the-tests"


class Page(HTMLParser):
    """What of the page matters: the settings of the element, the plain form's fields, and what the head loads."""

    def __init__(self, answer):
        super().__init__()
        self.settings, self.inputs, self.options, self.loads, self.inline = None, {}, [], [], []
        self.action, self._within = None, None
        self.feed(answer.body.decode())

    def handle_starttag(self, tag, given):
        attributes = dict(given)
        if "data-s3blobs-uploader" in attributes:
            self.settings = json.loads(attributes["data-s3blobs-uploader"])
        if self.settings is None:
            if tag in ("script", "link") and "s3blobstorage.uploader" in str(given):
                self.loads.append(attributes)
            return
        if tag == "form" and self.action is None:
            self.action, self.form = attributes["action"], attributes
        elif tag in ("input", "select") and attributes.get("name"):
            self.inputs.setdefault(attributes["name"], attributes)
        elif tag == "option":
            self.options.append(attributes["value"])


def page_of(client, folder="files"):
    answer = client.get(f"{folder}/@@upload-files")
    assert answer.status == 200, (answer.status, answer.body[-3000:])
    return Page(answer)


def multipart(fields, files):
    """A body as browsers make it. ``files``: payloads."""
    parts = [(f'form-data; name="{name}"', None, str(value).encode()) for name, value in fields.items()]
    for payload in files:
        parts.append((f'form-data; name="file"; filename="{payload.filename}"', payload.content_type, payload.data))
    body = b""
    for disposition, content_type, data in parts:
        head = f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n"
        head += f"Content-Type: {content_type}\r\n" if content_type else ""
        body += head.encode() + b"\r\n" + data + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


def send(client, place, *files, token=None, headers=None, **fields):
    """POST of the plain form; the answer."""
    token = page_of(client).settings["authenticator"] if token is None else token
    body = multipart(fields | ({"_authenticator": token} if token else {}), files)
    sent = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"} | (headers or {})
    return client.request("POST", f"{place}/@@upload-file", body, sent)


def send_json(client, place, *files, headers=None, **more):
    """As the script sends it: status and JSON."""
    answer = send(client, place, *files, headers={"Accept": "application/json"} | (headers or {}), **more)
    return answer.status, answer.json


def shown_after(client, answer):
    """What the page says to which a form was led, with the messages that the answer's cookie has."""
    assert answer.status == 303
    cookies = "; ".join(value.partition(";")[0] for value in answer.headers.get_all("Set-Cookie") or ())
    return text_of(client.get(client.path_of(answer.headers["Location"]), Cookie=cookies))


@pytest.fixture(scope="module")
def manager(zope):
    return WebClient(zope.port, "with", ("admin", zope.password))


@pytest.fixture
def choose(manager):
    """``choose(name=value)`` sets records of the site; afterwards they are as they were."""
    before = {}

    def choose(**records):
        for name in records:
            before.setdefault(name, manager.api("GET", f"@registry/{PREFIX}{name}", expect=200))
        manager.api("PATCH", "@registry", {PREFIX + name: value for name, value in records.items()}, expect=204)

    yield choose
    if before:
        manager.api("PATCH", "@registry", {PREFIX + name: value for name, value in before.items()}, expect=204)


@pytest.fixture
def folder(manager, request):
    """A folder of this test, in which the editor may add."""
    name = re.sub("[^a-z0-9]+", "-", request.node.name.lower())[:60].strip("-")
    path = manager.add("files", "Folder", name)
    yield path
    manager.api("DELETE", path, expect=204)


def check(client, path, payload, field="file"):
    answer = client.get(f"{path}/@@download/{field}")
    assert answer.status == 200 and payloads.fingerprint(answer.body) == payload.fingerprint
    return client.get(path, Accept="application/json").json


# Who sees it


def test_the_page_has_the_element_around_a_plain_form(editor):
    page = page_of(editor)
    settings = page.settings
    assert settings["place"] == f"http://localhost:{editor.port}/with/++api++/files"
    assert settings["send"] == page.action == f"{editor.url}/files/@@upload-file"
    assert {one["name"]: (one["field"], one["image"], one["mode"]) for one in settings["types"]} == {
        "File": ("file", False, "normal"),
        "Image": ("image", True, "normal"),
    }
    assert (settings["kind"], settings["folders"], settings["maximum-size"]) == ("page", "Folder", None)
    assert settings["login"] == f"{editor.url}/login"
    assert (page.form["method"], page.form["enctype"]) == ("post", "multipart/form-data")
    assert "multiple" in page.inputs["file"] and page.inputs["_authenticator"]["value"] == settings["authenticator"]
    assert page.options == ["", "File", "Image"]


def test_script_and_style_are_of_the_site_and_nothing_is_inline(editor):
    body = editor.get("files/@@upload-files").body.decode()
    page = page_of(editor)
    [script] = [one for one in page.loads if "src" in one]
    [style] = [one for one in page.loads if "href" in one]
    place = f"{editor.url}/++resource++collective.s3blobstorage.uploader/"
    assert script["type"] == "module" and script["src"].startswith(f"{place}uploader.js")
    assert style["href"].startswith(f"{place}uploader.css")
    core = body[body.index("data-s3blobs-uploader") :].partition("</form>")[0]
    assert "<script" not in core and "style=" not in core and "onclick" not in core


def test_who_sees_it(zope, editor, manager):
    assert editor.get("files/@@upload-files").status == 200
    assert manager.get("@@upload-files").status == 200
    anonymous = WebClient(zope.port, "with", None)
    answer = anonymous.get("files/@@upload-files")
    assert answer.status == 302 and "login" in answer.headers["Location"]
    assert editor.get("@@upload-files").status == 403  # who may add nothing at the root
    assert editor.get("files/@@upload-files", Accept="application/json").status != 500


def test_a_file_is_no_container_and_a_site_without_the_add_on_has_no_page(zope, editor, folder):
    path = editor.add(folder, "File", "a-file", file=json_file(b"x", "x.txt", "text/plain"))
    assert editor.get(f"{path}/@@upload-files").status == 404
    other = WebClient(zope.port, "without", ("editor", zope.password))
    assert other.get("files/@@upload-files").status == 404
    assert other.request("POST", "files/@@upload-file", b"", {"Content-Type": "text/plain"}).status == 404


def test_the_owner_of_the_site_switches_it_off(editor, manager, choose, folder):
    choose(uploader_portal_types=["Image"])
    assert [one["name"] for one in page_of(editor).settings["types"]] == ["Image"]
    assert "upload-files" in editor.get(folder).body.decode()
    token = page_of(editor).settings["authenticator"]
    choose(uploader_enabled=False)
    assert editor.get("files/@@upload-files").status == 404
    assert "upload-files" not in editor.get(folder).body.decode()
    status, told = send_json(editor, folder, payloads.pdf("no.pdf"), token=token, type="File")
    assert (status, told["error"]["reason"]) == (422, "off")


def test_the_way_there_is_in_the_toolbar_of_folders(zope, editor, manager, folder):
    link = f'href="{editor.url}/{folder}/@@upload-files'
    assert link in editor.get(folder).body.decode()
    page = manager.add(folder, "Document", "front-page")
    assert link in editor.get(page).body.decode()
    assert "upload-files" not in WebClient(zope.port, "with", None).get("files").body.decode()
    assert "upload-files" not in editor.get("").body.decode()
    told = editor.api("GET", f"{folder}/@actions", expect=200)
    [action] = [one for one in told["object"] if one["id"] == "upload_files"]
    assert action["title"] == "Upload files"


@pytest.fixture
def german(manager):
    languages = ("plone.available_languages", "plone.default_language")
    before = {name: manager.api("GET", f"@registry/{name}", expect=200) for name in languages}
    manager.api("PATCH", "@registry", {languages[0]: ["en", "de"]}, expect=204)
    manager.api("PATCH", "@registry", {languages[1]: "de"}, expect=204)
    yield
    for name in reversed(languages):
        manager.api("PATCH", "@registry", {name: before[name]}, expect=204)


def test_the_words_are_in_the_language_of_the_user(editor, folder, german):
    settings = page_of(editor).settings
    assert (settings["language"], settings["rtl"]) == ("de", False)
    assert settings["words"]["too-large"] == "Die Datei hat ${size}; diese Website nimmt bis zu ${limit}."
    assert {one["title"] for one in settings["types"]} == {"Datei", "Bild"}
    empty = payloads.Payload("a.pdf", "application/pdf", b"")
    assert send_json(editor, folder, empty)[1]["error"]["message"] == "Die Datei ist leer."


# The plain form


def test_several_files_at_once(editor, folder):
    pdf, picture, noise = payloads.pdf("one.pdf"), payloads.png("two.png"), payloads.noise(2, "three.bin")
    answer = send(editor, folder, pdf, picture, noise)
    assert answer.headers["Location"] == f"{editor.url}/{folder}/@@upload-files"
    assert "3 files are uploaded." in shown_after(editor, answer)
    told = check(editor, f"{folder}/one.pdf", pdf)
    assert (told["@type"], told["title"], told["file"]["content-type"]) == ("File", "one.pdf", "application/pdf")
    told = check(editor, f"{folder}/two.png", picture, "image")
    assert (told["@type"], told["image"]["filename"]) == ("Image", "two.png")
    assert check(editor, f"{folder}/three.bin", noise)["@type"] == "File"


def test_of_several_those_that_are_refused_are_told_and_leave_nothing(editor, folder, site_bucket):
    before = site_bucket.keys()
    good, empty = payloads.pdf("good.pdf"), payloads.Payload("empty.pdf", "application/pdf", b"")
    page = payloads.Payload("page.png", "image/png", b"<html><script>alert(1)</script>")
    said = shown_after(editor, send(editor, folder, empty, good, page))
    assert "“good.pdf” is uploaded." in said
    assert "“empty.pdf” is not uploaded: The file is empty." in said
    assert "“page.png” is not uploaded: The file is said to be of the type image/png, and looks like text/html." in said
    assert [one["@id"].rpartition("/")[2] for one in editor.api("GET", folder, expect=200)["items"]] == ["good.pdf"]
    assert site_bucket.fingerprints(before) == {good.fingerprint: 1}


def test_without_a_file_the_form_asks_for_one(editor, folder):
    assert "Choose a file." in shown_after(editor, send(editor, folder))
    nothing = payloads.Payload("", "application/octet-stream", b"")
    assert "Choose a file." in shown_after(editor, send(editor, folder, nothing))


def test_the_type_that_was_chosen_counts(editor, folder):
    picture = payloads.png("as-file.png")
    said = shown_after(editor, send(editor, folder, picture, type="File", title="A picture"))
    assert "“A picture” is uploaded." in said
    assert check(editor, f"{folder}/as-file.png", picture)["title"] == "A picture"
    said = shown_after(editor, send(editor, folder, payloads.pdf("no-picture.pdf"), type="Image"))
    assert "“no-picture.pdf” is not uploaded: Only pictures can be uploaded here." in said


# The script


def test_the_script_is_told_what_became_of_the_file(editor, folder):
    payload = payloads.noise(3, "film.bin")
    status, told = send_json(editor, folder, payload, type="File", title="The film")
    path = editor.path_of(told["@id"])
    assert status == 201 and told["@type"] == "File" and told["title"] == "The film" and told["field"] == "file"
    assert check(editor, path, payload)["UID"] == told["UID"]


def test_a_file_is_replaced_and_its_earlier_version_is_kept(editor, folder):
    before, after = payloads.pdf("before.pdf"), payloads.noise(2, "after.bin")
    _status, told = send_json(editor, folder, before, type="File", title="Kept title")
    path = editor.path_of(told["@id"])
    status, again = send_json(editor, path, after, replace="1")
    assert (status, again["@id"], again["UID"], again["title"]) == (200, told["@id"], told["UID"], "Kept title")
    assert check(editor, path, after)["file"]["filename"] == "after.bin"
    versions = editor.api("GET", f"{path}/@history", expect=200)
    assert sorted(one["version"] for one in versions if "version" in one) == [0, 1]
    editor.api("PATCH", f"{path}/@history", {"version": 0}, expect=200)
    check(editor, path, before)
    answer = send(editor, path, after, replace="1")
    assert answer.headers["Location"] == f"{editor.url}/{path}/view"
    check(editor, path, after)


def test_a_large_file_is_not_read_into_memory(zope, editor, folder):
    """What the process takes at most grows by much less than the file has."""
    send_json(editor, folder, payloads.noise(1, "warm.bin"))
    payload = payloads.noise(96, "large.bin")
    with Peak(zope) as peak:
        status, told = send_json(editor, folder, payload)
    assert status == 201, told
    assert len(payload.data) > 96 * MB > 2 * peak.grown
    check(editor, editor.path_of(told["@id"]), payload)


class Peak:
    """By how many bytes the memory of the process has grown at most."""

    def __init__(self, zope):
        self._status = Path(f"/proc/{zope.pid}/status")

    def __enter__(self):
        Path(self._status.parent, "clear_refs").write_text("5")  # the peak is what there is now
        self._before = self._kilobytes("VmRSS")
        return self

    def __exit__(self, *error):
        self.grown = (self._kilobytes("VmHWM") - self._before) * 1024

    def _kilobytes(self, name):
        return int(re.search(rf"{name}:\s+(\d+) kB", self._status.read_text())[1])


# Refusals


@pytest.mark.parametrize(
    ("payload", "fields", "status", "says"),
    [
        (payloads.Payload("empty", "text/plain", b""), {}, 422, "The file is empty."),
        (payloads.pdf("a.pdf"), {"type": "Image"}, 422, "Only pictures can be uploaded here."),
        (payloads.pdf("a.pdf"), {"type": "Document"}, 400, "is no file of this type of content"),
        (payloads.pdf("a.pdf"), {"type": "Nothing"}, 403, "Content of this type cannot be added here."),
        (payloads.pdf("a.pdf"), {"type": "File", "field": "image"}, 400, "is no file of this type of content"),
        (payloads.Payload("a.jpg", "image/jpeg", b"<svg>"), {}, 422, "looks like image/svg+xml"),
        (payloads.Payload("a\u202egpj.exe", "text/plain", b"x"), {}, 422, "characters in it that cannot be seen"),
        (payloads.Payload("x" * 300, "text/plain", b"x"), {}, 422, "The name of the file is too long."),
    ],
)  # fmt: skip
def test_what_is_refused_is_said_in_words(editor, folder, payload, fields, status, says):
    answered, told = send_json(editor, folder, payload, **fields)
    assert (answered, says in told["error"]["message"]) == (status, True), told
    assert editor.api("GET", folder, expect=200)["items_total"] == 0


def test_a_request_with_no_file_or_two_is_no_request_of_the_script(editor, folder):
    for files in ((), (payloads.pdf("a.pdf"), payloads.pdf("b.pdf"))):
        status, told = send_json(editor, folder, *files)
        assert (status, told["error"]["field"]) == (400, "file")
    assert editor.api("GET", folder, expect=200)["items_total"] == 0


def test_who_may_not_add_or_change(zope, editor, manager, folder):
    status, told = send_json(editor, "", payloads.pdf("a.pdf"), type="File")
    assert (status, told["error"]["message"]) == (403, "You may not upload here.")
    path = editor.path_of(send_json(editor, folder, payloads.pdf("a.pdf"))[1]["@id"])
    token = page_of(editor).settings["authenticator"]
    anonymous = WebClient(zope.port, "with", None)
    status, told = send_json(anonymous, "files", payloads.pdf("b.pdf"), token=token)
    assert (status, told["error"]["message"]) == (401, "You are logged out. Log in, then upload the file again.")
    answer = send(anonymous, "files", payloads.pdf("b.pdf"), token=token)
    assert answer.status in (302, 401)
    status, told = send_json(manager, path, payloads.pdf("c.pdf"), replace="1")
    assert (status, told["@id"]) == (200, f"{editor.url}/{path}")


def test_what_is_locked_is_not_replaced(editor, manager, folder):
    """By the field that is named, which is not the type's primary one."""
    path, picture = manager.add(folder, "News Item", "news"), payloads.png()
    asked = {"replace": "1", "field": "image"}
    manager.api("POST", f"{path}/@lock", {}, expect=200)
    status, told = send_json(editor, path, picture, **asked)
    locked = (403, "This content is locked by somebody else.", "locked")
    assert (status, told["error"]["message"], told["error"]["reason"]) == locked
    begins = {"filename": "a.png", "size": 9, "content-type": "image/png", "replace": True, "field": "image"}
    told = editor.api("POST", f"{path}/@blob-upload", begins, expect=403)["error"]
    assert (403, told["message"], told["reason"]) == locked
    manager.api("DELETE", f"{path}/@lock", {"force": True}, expect=200)
    status, told = send_json(editor, path, picture, **asked)
    assert (status, told["field"], told["title"]) == (200, "image", "news")
    check(editor, path, picture, "image")


@pytest.mark.parametrize("foreign", FOREIGN, ids=str)
@pytest.mark.parametrize("script", [True, False], ids=["script", "form"])
def test_a_foreign_page_sends_nothing(editor, folder, foreign, script):
    accept = {"Accept": "application/json"} if script else {}
    assert send(editor, folder, payloads.pdf("a.pdf"), headers=foreign | accept).status == 403
    assert send(editor, folder, payloads.pdf("a.pdf"), token="", headers=accept).status == 403
    assert send(editor, folder, payloads.pdf("a.pdf"), token="0" * 40, headers=accept).status == 403
    assert editor.api("GET", folder, expect=200)["items_total"] == 0


def test_another_users_authenticator_is_none(editor, manager, folder):
    token = page_of(manager).settings["authenticator"]
    status, told = send_json(editor, folder, payloads.pdf("a.pdf"), token=token)
    assert (status, told["error"]["message"]) == (403, "This page is too old. Please load it again.")


def test_only_a_post_uploads(editor, folder):
    answer = editor.get(f"{folder}/@@upload-file")
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")


# Where direct upload is on


def test_what_the_page_tells_of_direct_upload_holds_this_way_too(editor, folder, choose):
    choose(upload_enabled=True, upload_maximum_size=2, upload_mime_types=["application/*"])
    page = page_of(editor, folder)
    assert {one["mode"] for one in page.settings["types"]} == {"direct"}
    assert (page.settings["maximum-size"], page.settings["mime-types"]) == (2 * MB, ["application/*"])
    assert "Up to 2.0 MB for each file." in text_of(editor.get(f"{folder}/@@upload-files"))
    status, told = send_json(editor, folder, payloads.noise(3, "large.bin"))
    assert (status, told["error"]["reason"]) == (422, "too-large")
    assert told["error"]["message"] == "The file is 3.0 MB; this site takes up to 2.0 MB."
    status, told = send_json(editor, folder, payloads.png("a.png"))
    assert (status, told["error"]["reason"]) == (422, "type")
    payload = payloads.noise(1, "fits.bin")
    check(editor, editor.path_of(send_json(editor, folder, payload)[1]["@id"]), payload)
    choose(upload_portal_types=["Image"])  # so that it does not hold for files
    assert "Up to 1.0 GB for each file." in text_of(editor.get(f"{folder}/@@upload-files"))  # form-disk-limit
    assert send_json(editor, folder, payloads.noise(3, "large.bin"))[0] == 201


# What is there already


def existing(client, folder, filename):
    told = client.api("GET", f"{folder}/@blob-upload?{urlencode({'filename': filename})}", expect=200)
    return {client.path_of(one["@id"]).rpartition("/")[2]: one for one in told["existing"]}


def test_what_has_the_name_of_a_file_already(editor, manager, folder):
    payload = payloads.pdf("Report.pdf")
    told = send_json(editor, folder, payload, title="The report")[1]
    again = send_json(editor, folder, payload)[1]
    renamed = editor.path_of(send_json(editor, folder, payload)[1]["@id"])
    editor.api("PATCH", renamed, {"id": "elsewhere", "title": "Elsewhere"}, expect=204)
    found = existing(editor, folder, "Report.pdf")
    assert len(found) == 3 and "elsewhere" in found
    for one in (told, again):
        entry = found[editor.path_of(one["@id"]).rpartition("/")[2]]
        assert entry == {
            "@id": one["@id"],
            "UID": one["UID"],
            "title": one["title"],
            "field": "file",
            "size": len(payload.data),
        }
    assert existing(editor, folder, "other.pdf") == {}
    page = manager.add(folder, "Document", "other.pdf")
    assert existing(editor, folder, "other.pdf") == {}  # it has no file
    manager.api("DELETE", page, expect=204)
    manager.add(folder, "File", "other.pdf", file=json_file(b"x", "another.pdf", "application/pdf"))
    assert list(existing(editor, folder, "other.pdf")) == ["other.pdf"]
    assert list(existing(editor, folder, "Other.PDF")) == ["other.pdf"]  # by the id that Plone would make
    manager.add(folder, "File", "zz-same-name", file=json_file(b"x", "other.pdf", "application/pdf"))
    assert list(existing(editor, folder, "other.pdf")) == ["zz-same-name", "other.pdf"]
    for odd in ("", " ", "a/b", "\0", "x" * 1000):
        assert existing(editor, folder, odd) == {}


def test_what_this_user_may_not_change_or_see_is_not_told(editor, manager, folder):
    send_json(editor, folder, payloads.pdf("mine.pdf"))
    path = manager.add(folder, "File", "hidden.pdf", file=json_file(b"x", "hidden.pdf", "application/pdf"))
    assert list(existing(editor, folder, "hidden.pdf")) == ["hidden.pdf"]
    kept = {"inherit": False, "entries": [{"id": "editor", "type": "user", "roles": {"Reader": True, "Editor": False}}]}
    manager.api("POST", f"{path}/@sharing", kept, expect=204)
    assert existing(editor, folder, "hidden.pdf") == {}
    assert list(existing(manager, folder, "hidden.pdf")) == ["hidden.pdf"]


def test_in_a_large_folder_the_id_counts(editor, manager, folder, zope):
    send_json(editor, folder, payloads.pdf("by-id.pdf"))
    renamed = editor.path_of(send_json(editor, folder, payloads.pdf("by-name.pdf"))[1]["@id"])
    editor.api("PATCH", renamed, {"id": "elsewhere"}, expect=204)
    assert list(existing(editor, folder, "by-name.pdf")) == ["elsewhere"]
    paths = [f"folder-{number}" for number in range(LOOKS_INTO)]
    for at in range(0, LOOKS_INTO, MOST_PATHS):
        make_folders(editor, folder, paths[at : at + MOST_PATHS])
    assert list(existing(editor, folder, "by-id.pdf")) == ["by-id.pdf"]
    assert existing(editor, folder, "by-name.pdf") == {}


# Folders


def make_folders(client, folder, paths, status=200, **headers):
    sent = {"Accept": "application/json", "Content-Type": "application/json"} | headers
    body = json.dumps(paths if isinstance(paths, dict) else {"paths": paths}).encode()
    answer = client.request("POST", f"{folder}/@blob-upload/folders", body, sent)
    assert answer.status == status, answer.body
    return answer.json


def test_folders_are_made_once(editor, folder):
    asked = ["Photos/2024", "Photos", "Photos/2025/Straße", "Photos/2024"]
    told = make_folders(editor, folder, asked)["items"]
    assert [one["path"] for one in told] == asked and told[0] == told[3]
    made = {one["path"]: editor.path_of(one["@id"]) for one in told}
    assert made["Photos/2024"] == f"{folder}/photos/2024" and made["Photos"] == f"{folder}/photos"
    assert editor.get(made["Photos/2025/Straße"], Accept="application/json").json["title"] == "Straße"
    assert make_folders(editor, folder, asked)["items"] == told
    assert make_folders(editor, folder, ["photos/2026"])["items"][0]["@id"].endswith(
        f"{folder}/photos/2026"
    )  # by its id
    assert editor.api("GET", folder, expect=200)["items_total"] == 1
    assert editor.api("GET", made["Photos"], expect=200)["items_total"] == 3
    send_json(editor, made["Photos/2024"], payloads.png("one.png"))
    assert editor.get(f"{made['Photos/2024']}/one.png", Accept="application/json").status == 200


def test_what_is_no_folder_is_not_taken_for_one(editor, manager, folder):
    manager.add(folder, "Document", "album")
    told = make_folders(editor, folder, ["album/1"])["items"]
    assert told[0]["@id"] == f"{editor.url}/{folder}/album-1/1"


@pytest.mark.parametrize(
    ("paths", "status", "says"),
    [
        ([], 400, "paths"), (["a"] * 101, 400, "paths"), ("a", 400, "paths"), ([1], 400, "paths"),
        (["/".join("a" * 21)], 400, "paths"), ({"path": ["a"]}, 400, "path"),
        ([""], 422, "filename"), (["a//b"], 422, "filename"), (["../a"], 422, "filename"), (["a/."], 422, "filename"),
        (["a\\b"], 422, "filename"), (["a\0"], 422, "filename"), (["x" * 256], 422, "filename"),
    ],
)  # fmt: skip
def test_paths_that_are_none(editor, folder, paths, status, says):
    told = make_folders(editor, folder, paths, status)
    assert says in (told["error"].get("field"), told["error"].get("reason"))
    assert editor.api("GET", folder, expect=200)["items_total"] == 0


def test_folders_are_made_by_whoever_may_and_all_or_none(zope, editor, manager, folder):
    told = make_folders(editor, "", ["a"], 422)
    assert told["error"]["reason"] == "folders" and told["error"]["message"] == "You may add no folder “a” here."
    make_folders(WebClient(zope.port, "with", None), "files", ["a"], 401)
    closed = manager.add(folder, "Folder", "closed")
    kept = {"inherit": False, "entries": [{"id": "editor", "type": "user", "roles": {"Reader": True}}]}
    manager.api("POST", f"{closed}/@sharing", kept, expect=204)
    make_folders(editor, folder, ["new/b", "closed/b"], 422)
    assert editor.api("GET", folder, expect=200)["items_total"] == 1
    told = make_folders(editor, folder, ["closed", "new"])["items"]
    assert [editor.path_of(one["@id"]) for one in told] == [closed, f"{folder}/new"]
    file = editor.path_of(send_json(editor, folder, payloads.pdf("a.pdf"))[1]["@id"])
    make_folders(editor, file, ["a"], 404)


@pytest.mark.parametrize("foreign", [*FOREIGN, {"Content-Type": "text/plain"}], ids=str)
def test_a_foreign_page_makes_no_folders(editor, folder, foreign):
    make_folders(editor, folder, ["a"], 415 if "Content-Type" in foreign else 403, **foreign)
    assert editor.api("GET", folder, expect=200)["items_total"] == 0
