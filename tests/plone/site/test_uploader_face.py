"""What the uploader shows and asks, in headless Chromium: titles, types, names that are taken, a form that waits."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from command_line import s3blobs
from panel_browser import cookies_of, theme, violations, width_beyond
from payloads import png
from web_client import WebClient

pytestmark = [pytest.mark.chromium, pytest.mark.one_release]

ENABLED = "collective.s3blobstorage.upload_enabled"
RESOURCES = "++resource++collective.s3blobstorage.uploader"
DASHBOARD = ".uppy-Dashboard--isInnerWrapVisible"
MB = 2**20
# A form of Plone as it is without our widget: the element of the contract is put around Plone's own markup.
AROUND = """settings => {
    const own = document.querySelector('[data-s3blobs-uploader]')
    const input = document.querySelector(`input[type=file][name="${settings.input}"]`)
    const element = own ?? document.createElement('div')
    if (!own) { input.parentNode.before(element); element.append(input.parentNode) }
    element.dataset.s3blobsUploader = JSON.stringify(settings)
}"""
# Before the script sees it. A page that the test answered itself would be of no network, and Chromium lets such a page
# ask nothing of 127.0.0.1, where the store is.
CHANGES = """changed => new MutationObserver((_all, observer) => {
    const element = document.querySelector('[data-s3blobs-uploader]')
    if (!element) return
    observer.disconnect()
    element.dataset.s3blobsUploader = JSON.stringify({ ...JSON.parse(element.dataset.s3blobsUploader), ...changed })
}).observe(document, { childList: true, subtree: true })"""
SENT = """() => [...new FormData(document.querySelector('[name="form.widgets.title"]').form)]
    .filter(([name]) => name.startsWith('form.widgets.file') || name === 'files[]')
    .map(([name, value]) => [name, value instanceof File ? value.name : value])"""


@pytest.fixture(scope="module")
def direct(zope):
    """Direct upload is on, and the bucket knows the pages of this site."""
    origin = f"http://localhost:{zope.port}"
    done = s3blobs("--config", zope.home / "etc" / "zope.conf", "cors", "--origin", origin, "--yes")
    assert done.returncode == 0, done.stderr
    manager = WebClient(zope.port, "with", ("admin", zope.password))
    manager.api("PATCH", "@registry", {ENABLED: True}, expect=204)
    yield
    manager.api("PATCH", "@registry", {ENABLED: False}, expect=204)


@pytest.fixture(scope="module")
def login(chromium, zope):
    return cookies_of(chromium, f"http://localhost:{zope.port}", "with", "editor", zope.password)


@pytest.fixture
def folder(editor):
    return editor.add("files", "Folder", f"face-{uuid.uuid4().hex[:10]}")


class Face:
    """The editor's browser. ``changed``: settings of the element that are others than the site says."""

    def __init__(self, page: Any, folder: str, login: list[Any]) -> None:
        self.page, self.folder = page, folder
        page.context.add_cookies(login)

    def open(self, **changed: Any) -> None:
        self.page.add_init_script(f"({CHANGES})({json.dumps(changed)})")
        self.page.goto(f"/with/{self.folder}/@@upload-files")
        self.page.wait_for_selector(DASHBOARD)

    def open_form(self, path: str, mode: str, **changed: Any) -> None:
        """The form at that path, below the folder, with the uploader in its field ``file``."""
        self.open()
        settings = json.loads(self.page.get_attribute("[data-s3blobs-uploader]", "data-s3blobs-uploader"))
        kind = {"name": "File", "title": "File", "field": "file", "image": False, "mode": mode}
        field = {"kind": "field", "type": kind, "replaces": False, "input": "form.widgets.file", "accept": []}
        settings = settings | field | {"required": True, "chosen": None} | changed
        self.page.route(f"**/{RESOURCES}/uploader.js*", lambda route: route.abort())
        self.page.goto(f"/with/{self.folder}/{path}")
        self.page.unroute(f"**/{RESOURCES}/uploader.js*")
        self.page.evaluate(AROUND, settings)
        self.page.add_style_tag(url=f"/with/{RESOURCES}/uploader.css")
        self.page.add_script_tag(url=f"/with/{RESOURCES}/uploader.js?again", type="module")
        self.page.wait_for_selector(DASHBOARD, state="attached")

    def choose(self, *files: tuple[str, str, bytes]) -> None:
        chosen = [{"name": name, "mimeType": kind, "buffer": data} for name, kind, data in files]
        add_more = self.page.locator(".uppy-DashboardContent-addMore")
        if add_more.is_visible():  # the inputs are there only where files are added
            add_more.click()
        self.page.set_input_files(".uppy-Dashboard-input:not([webkitdirectory])", chosen)

    def send(self) -> None:
        self.page.click(".uppy-StatusBar-actionBtn--upload")

    def title_of_card(self, name: str) -> None:
        self.page.get_by_role("button", name=f"Edit file {name}").click()

    def uploaded(self, count: int) -> list[str]:
        links = self.page.locator(".s3blobs-uploaded li > a")
        links.nth(count - 1).wait_for()
        return links.all_inner_texts()

    def problem(self) -> str:
        return self.page.locator(".s3blobs-problems li").first.inner_text()

    def status(self, text: str) -> None:
        """Waits until that is said."""
        self.page.locator("[role=status].s3blobs-status", has_text=text).wait_for()

    def save(self) -> None:
        self.page.click("[name='form.buttons.save']")


@pytest.fixture
def face(page, direct, folder, login):
    return Face(page, folder, login)


class Held:
    """The store, as the page finds it: what is sent there waits, as long as it is held."""

    def __init__(self, page: Any, store: str) -> None:
        self._holding, self._waiting = False, []
        page.route(f"{store}/**", self._asked)

    def _asked(self, route: Any) -> None:
        if self._holding:
            self._waiting.append(route)
        else:
            route.continue_()

    def hold(self) -> None:
        self._holding = True

    def let_go(self) -> None:
        self._holding = False
        for route in self._waiting:
            route.continue_()


@pytest.fixture
def held(page, s3_server):
    return Held(page, s3_server.endpoint_url)


FILM, NOTES = ("film.mp4", "video/mp4", b"film" * 1000), ("notes.txt", "text/plain", b"notes" * 1000)
PHOTO = ("photo.png", "image/png", png().data)


def items_of(editor, folder):
    """(type, title) by id."""
    items = editor.api("GET", f"{folder}?fullobjects=1", expect=200)["items"]
    return {item["id"]: (item["@type"], item["title"]) for item in items}


# The page


def test_titles_and_types(face, editor):
    """Before: in the card of each file. A picture becomes an Image, unless somebody says otherwise."""
    face.open()
    face.choose(FILM, PHOTO, ("second.png", "image/png", PHOTO[2]))
    face.title_of_card("photo.png")
    assert face.page.locator("#uppy-Dashboard-FileCard-input-type option").all_inner_texts() == ["File", "Image"]
    face.page.select_option("#uppy-Dashboard-FileCard-input-type", label="File")
    face.page.fill("#uppy-Dashboard-FileCard-input-title", "A <b>photo</b>")
    face.page.get_by_role("button", name="Save changes").click()
    face.title_of_card("film.mp4")
    assert face.page.locator("#uppy-Dashboard-FileCard-input-type").count() == 0  # no picture: nothing else takes it
    face.page.locator(".uppy-Dashboard-FileCard .uppy-DashboardContent-back").click()
    face.send()
    assert sorted(face.uploaded(3)) == ["A <b>photo</b>", "film.mp4", "second.png"]
    made = sorted(items_of(editor, face.folder).values())
    assert made == [("File", "A <b>photo</b>"), ("File", "film.mp4"), ("Image", "second.png")]


def test_one_type_for_all(face, editor):
    """Those that it takes: also what is chosen afterwards."""
    face.open()
    face.choose(PHOTO)
    face.page.get_by_label("Type of all files").select_option(label="File")
    face.choose(("second.png", "image/png", PHOTO[2]))
    face.page.get_by_label("Type of all files").select_option(label="Image")
    face.choose(FILM)
    face.send()
    face.uploaded(3)
    assert sorted(kind for kind, _title in items_of(editor, face.folder).values()) == ["File", "Image", "Image"]


def test_a_title_is_changed_afterwards(face, editor):
    face.open()
    face.choose(FILM)
    face.send()
    face.uploaded(1)
    face.page.get_by_role("textbox", name="Title of film.mp4").fill("Harvest")
    face.page.get_by_role("button", name="Save the title of film.mp4").click()
    face.page.get_by_text("The title is saved.").wait_for()
    assert items_of(editor, face.folder) == {"film.mp4": ("File", "Harvest")} and face.uploaded(1) == ["Harvest"]
    face.page.route("**/film.mp4", lambda route: route.fulfill(status=403, json={"message": "It is locked."}))
    face.page.get_by_role("button", name="Save the title of film.mp4").click()
    face.page.get_by_text("The title is not saved: It is locked.").wait_for()


def test_names_that_are_taken(face, editor):
    """One question for all of them; nothing is replaced by itself, and Escape uploads none of them."""
    face.open()
    face.choose(FILM, NOTES)
    face.send()
    face.uploaded(2)
    face.page.get_by_role("button", name="Upload more").click()
    face.choose(FILM, NOTES, PHOTO)
    face.send()
    question = face.page.get_by_role("dialog", name="Some files are here already")
    question.wait_for()
    assert question.get_by_role("listitem").count() == 2
    first, second = question.get_by_role("combobox", name="What to do with").all()
    assert [first.input_value(), second.input_value()] == ["keep-both", "keep-both"]
    question.get_by_label("For all").select_option("leave-out")
    assert [first.input_value(), second.input_value()] == ["leave-out", "leave-out"]
    question.get_by_label("What to do with film.mp4").select_option("keep-both")
    assert violations(face.page, ".s3blobs-dialog") == []
    question.get_by_role("button", name="Go on").click()
    assert len(face.uploaded(4)) == 4
    assert sorted(items_of(editor, face.folder)) == ["film-1.mp4", "film.mp4", "notes.txt", "photo.png"]
    face.page.get_by_role("button", name="Upload more").click()
    face.choose(NOTES)
    face.send()
    question.wait_for()
    face.page.keyboard.press("Escape")
    face.status("notes.txt is taken off.")
    assert sorted(items_of(editor, face.folder)) == ["film-1.mp4", "film.mp4", "notes.txt", "photo.png"]


def test_what_is_refused_before_it_is_sent(face):
    face.open(**{"maximum-size": 2 * MB, "mime-types": ["video/*", "image/*"]})
    assert face.page.locator(".s3blobs-note").all_inner_texts() == [
        "Up to 2 MB for each file.",
        "Only these types: video/*, image/*.",
    ]
    wanted = {
        ("large.mp4", "video/mp4", b"x" * 3 * MB): "The file is 3 MB; this site takes up to 2 MB.",
        NOTES: "The file is of the type text/plain; this site takes video/*, image/*.",
        ("nothing.mp4", "video/mp4", b""): "The file is empty.",
    }
    for file, text in wanted.items():
        face.choose(file)
        assert text in face.problem() and file[0] in face.problem()
        face.page.get_by_role("button", name=f"Dismiss the message about {file[0]}").click()
    assert face.page.locator(".uppy-Dashboard-Item").count() == 0


def test_folders_where_none_may_be_added(face, editor):
    face.open(folders=None)
    assert "You may add no folders here" in face.page.inner_text(".s3blobs-note >> nth=-1")


def test_leaving_the_page_asks_while_something_is_sent(face, held):
    face.open()
    asked = []

    def stays(dialog):
        asked.append(dialog.type)
        dialog.dismiss()

    face.page.on("dialog", stays)
    held.hold()
    face.choose(FILM)
    face.send()
    face.page.wait_for_selector(".uppy-StatusBar.is-uploading")
    face.page.evaluate("setTimeout(() => location.assign('/with'), 0)")
    face.page.wait_for_timeout(1000)
    assert asked == ["beforeunload"] and "@@upload-files" in face.page.url
    held.let_go()
    face.uploaded(1)
    face.page.goto("/with")
    assert asked == ["beforeunload"]


def test_what_the_site_does_not_take_is_no_matter_for_a_retry(face):
    """The site says it in its own words. The file is taken off with its message."""
    face.open()
    face.choose(("holiday.jpg", "image/jpeg", b"<!doctype html><script>alert(1)</script>" * 50), FILM)
    face.send()
    face.uploaded(1)
    assert "holiday.jpg" in face.problem() and "looks like text/html" in face.problem()
    face.page.get_by_role("button", name="Dismiss the message about holiday.jpg").click()
    assert face.page.locator(".uppy-Dashboard-Item").count() == 1
    assert face.page.locator(".s3blobs-problems li").count() == 0


@pytest.mark.parametrize("look", ["dark", "arabic"])
def test_each_state_is_readable(face, held, look):
    face.page.set_viewport_size({"width": 360, "height": 740})
    face.open(**({"language": "ar", "rtl": True} if look == "arabic" else {}))
    if look == "dark":
        theme(face.page, "dark")

    def check(state):
        face.page.wait_for_timeout(400)  # the Dashboard fades: axe would see its middle
        assert (state, violations(face.page, ".s3blobs-uploader")) == (state, [])
        assert (state, width_beyond(face.page)) == (state, 0)

    check("empty")
    face.choose(FILM, PHOTO, ("nothing.txt", "text/plain", b""))
    check("chosen")
    face.page.locator(".uppy-Dashboard-Item-action--edit").first.click()
    check("card")
    face.page.locator(".uppy-Dashboard-FileCard-actionsBtn").first.click()
    held.hold()
    face.send()
    face.page.wait_for_selector(".uppy-StatusBar.is-uploading")
    check("sending")
    face.page.locator("[data-cy=togglePauseResume]").click()
    check("paused")
    held.let_go()
    face.page.locator("[data-cy=togglePauseResume]").click()
    face.uploaded(2)
    check("done")


def test_uppy_speaks_the_language_of_the_user(face):
    face.open(language="de")
    assert "Dateien" in face.page.inner_text(".uppy-Dashboard-AddFiles-title")
    face.choose(("large.mp4", "video/mp4", b"x" * 1_600_000))
    face.page.get_by_text("Eine Datei ausgewählt").wait_for()


# The field of a form: direct


def test_a_form_waits_for_its_upload(face, held, editor):
    held.hold()
    face.open_form("++add++File", "direct")
    assert not face.page.is_visible("input[name='form.widgets.file']")
    face.choose(FILM)
    save = face.page.locator("[name='form.buttons.save']")
    waits = "The file is being uploaded. The form can be saved when it is there."
    face.status(waits)
    assert save.is_disabled() and save.get_attribute("title") == waits
    assert face.page.is_enabled("[name='form.buttons.cancel']")
    face.page.fill(
        "[name='form.widgets.title']", "Typed meanwhile"
    )  # Plone's validation enables the button, for a moment
    face.page.wait_for_timeout(800)
    assert save.is_disabled()
    face.page.evaluate("document.querySelector('[name=\"form.widgets.title\"]').form.requestSubmit()")
    face.page.wait_for_timeout(500)
    assert "++add++File" in face.page.url and items_of(editor, face.folder) == {}
    held.let_go()
    face.status("The file is uploaded. The form can be saved.")
    assert save.is_enabled() and save.get_attribute("title") is None
    sent = dict(face.page.evaluate(SENT))
    assert sorted(sent) == ["form.widgets.file.action", "form.widgets.file.upload"]
    assert sent["form.widgets.file.action"] == "direct"
    face.page.get_by_role("button", name="Remove file").click()
    face.page.wait_for_selector(".uppy-Dashboard-browse")
    assert dict(face.page.evaluate(SENT)) == {"form.widgets.file": ""}


def test_a_form_is_not_sent_without_the_file_that_failed(face, editor):
    face.open_form("++add++File", "direct", **{"maximum-size": None})
    face.page.route("**/@blob-upload", lambda route: route.fulfill(status=403, json={"message": "no"}))
    face.choose(FILM)
    assert "You may not upload here any more." in face.problem()
    save = face.page.locator("[name='form.buttons.save']")
    assert save.is_disabled() and "Choose “Retry”, or take it off" in save.get_attribute("title")
    assert violations(face.page, ".s3blobs-uploader") == []
    face.page.unroute("**/@blob-upload")
    face.page.get_by_role("button", name="Retry film.mp4").click()
    face.status("The form can be saved.")
    assert save.is_enabled()


def test_a_form_that_is_shown_again_has_its_upload(face):
    chosen = {"upload": "TOKEN", "name": "film.mp4", "size": 2 * MB}
    face.open_form("++add++File", "direct", chosen=chosen)
    text = face.page.inner_text(".s3blobs-ready")
    assert "film.mp4, 2 MB, is uploaded" in text and not face.page.is_visible(".uppy-Dashboard-browse")
    assert dict(face.page.evaluate(SENT)) == {"form.widgets.file.upload": "TOKEN", "form.widgets.file.action": "direct"}
    face.page.get_by_role("button", name="Take film.mp4 off").click()
    assert face.page.is_visible(".uppy-Dashboard-browse")
    assert dict(face.page.evaluate(SENT)) == {"form.widgets.file": ""}


# The field of a form: normal


def test_what_zope_does_not_take_in_one_request_is_not_sent(face):
    face.open_form("++add++File", "normal", **{"normal-maximum-size": 2 * MB})
    face.choose(("large.mp4", "video/mp4", bytes(3 * MB)))
    assert "The file is 3 MB; this site takes up to 2 MB." in face.problem()
    assert face.page.evaluate(SENT) == [["form.widgets.file", ""]]


def test_a_form_sends_its_file(face, editor):
    """The message of the site is there on the next page, and the file is what was chosen."""
    face.open_form("++add++File", "normal")
    face.choose(FILM)
    face.page.fill("[name='form.widgets.title']", "Über den Film")
    assert face.page.evaluate(SENT) == [["form.widgets.file", "film.mp4"]]
    face.save()
    face.page.wait_for_url("**/film.mp4/view")
    assert "Item created" in face.page.inner_text("#global_statusmessage")
    assert items_of(editor, face.folder) == {"film.mp4": ("File", "Über den Film")}
    assert editor.get(f"{face.folder}/film.mp4/@@download/file").body == FILM[2]


def test_the_file_of_content_is_replaced_or_kept(face, editor):
    face.open_form("++add++File", "normal")
    face.choose(FILM)
    face.save()
    face.page.wait_for_url("**/film.mp4/view")
    face.open_form("film.mp4/edit", "normal", replaces=True)
    action = "input[name='form.widgets.file.action']:checked"
    assert face.page.input_value(action) == "nochange"
    face.choose(NOTES)
    assert face.page.input_value(action) == "replace"
    face.page.check("input[name='form.widgets.file.action'][value=nochange]")  # takes the new one off
    face.page.wait_for_selector(".uppy-Dashboard-browse")
    assert face.page.evaluate(SENT) == [["form.widgets.file.action", "nochange"]]
    face.choose(NOTES)
    face.page.get_by_role("button", name="Remove file").click()
    assert face.page.input_value(action) == "nochange"
    assert face.page.evaluate(SENT) == [["form.widgets.file.action", "nochange"]]
    face.choose(NOTES)
    face.save()
    face.page.wait_for_url("**/film.mp4/view")
    assert editor.get(f"{face.folder}/film.mp4/@@download/file").body == NOTES[2]


def test_what_the_site_refuses_in_a_form(face, editor):
    """Said where the file is; nothing that was typed is lost, and the file is not sent again where the site has it."""
    face.open_form("++add++File", "normal")
    face.choose(FILM)
    face.page.fill("[name='form.widgets.title']", "Kept")
    dates = {"effective": "2021-01-01T10:00", "expires": "2020-01-01T10:00"}
    for name, value in dates.items():
        script = (
            "([name, value]) => { document.querySelector(`[name='form.widgets.IPublication.${name}']`).value = value }"
        )
        face.page.evaluate(script, [name, value])
    face.save()
    face.page.locator(".s3blobs-problems li").wait_for()
    assert "The form is not saved yet" in face.problem()
    assert "Expiration date must be after publishing date." in face.problem()
    assert face.page.input_value("[name='form.widgets.title']") == "Kept" and items_of(editor, face.folder) == {}
    assert "form.widgets.file.file_upload_id" in dict(face.page.evaluate(SENT))
    face.page.evaluate(script, ["expires", "2035-01-01T10:00"])
    face.save()
    face.page.wait_for_url("**/film.mp4/view")
    assert items_of(editor, face.folder) == {"film.mp4": ("File", "Kept")}
    assert editor.get(f"{face.folder}/film.mp4/@@download/file").body == FILM[2]


def test_what_can_happen_to_a_form_on_its_way(face, editor, login):
    """Each is said, and the form is as it was: it can be saved in the end."""
    face.open_form("++add++File", "normal")
    face.choose(FILM)
    face.page.fill("[name='form.widgets.title']", "Kept")
    address = "**/++add++File"

    def fails(says, **answer):
        how = (lambda route: route.fulfill(**answer)) if answer else (lambda route: route.abort())
        face.page.route(address, how)
        face.save()
        face.page.locator(".s3blobs-problems li", has_text=says).wait_for()
        face.page.unroute(address)
        assert face.page.is_enabled("[name='form.buttons.save']")

    fails("The connection is lost. Nothing of the form is lost")
    fails("The web server does not take a file of 3.9 kB this way.", status=413, body="")
    fails("The site could not save the form (500).", status=500, body="<p>no</p>", content_type="text/html")
    fails("The connection is lost.", status=503, body="")
    face.page.context.clear_cookies()
    face.save()
    face.page.locator(".s3blobs-problems li", has_text="You are logged out.").wait_for()
    assert face.page.get_by_role("link", name="Log in, in another window").get_attribute("target") == "_blank"
    assert violations(face.page, ".s3blobs-uploader") == []
    face.page.context.add_cookies(login)
    face.save()
    face.page.wait_for_url("**/film.mp4/view")
    assert items_of(editor, face.folder) == {"film.mp4": ("File", "Kept")}


def test_a_script_that_does_not_load_leaves_the_form(face, editor, page):
    page.route(f"**/{RESOURCES}/**", lambda route: route.abort())
    page.goto(f"/with/{face.folder}/@@upload-files")
    page.set_input_files("input[type=file][name=file]", {"name": FILM[0], "mimeType": FILM[1], "buffer": FILM[2]})
    page.get_by_role("button", name="Upload", exact=True).click()
    page.wait_for_load_state()
    assert items_of(editor, face.folder) == {"film.mp4": ("File", "film.mp4")}
