"""The machine room of the uploader in headless Chromium, on a page without a face: what it sends, and what it says."""

from __future__ import annotations

import hashlib
import json
import os
import time
from urllib.parse import urlsplit

import pytest
from editor_site import MB, Chosen, file_of
from frontend_build import bundle, install
from servers import faults

pytestmark = [pytest.mark.chromium, pytest.mark.one_release]

SCRIPT = """\
import Uppy from '@uppy/core'
import { Remembered } from './src/remembered.js'
import { Service } from './src/service.js'
import { BlobUpload } from './src/upload-plugin.js'

let sending = 0
window.most = 0 // requests to the store at the same time
const { send } = XMLHttpRequest.prototype
XMLHttpRequest.prototype.send = function (body) {
  window.most = Math.max(window.most, ++sending)
  this.addEventListener('readystatechange', () => { if (this.readyState === 4) sending -= 1 })
  return send.call(this, body)
}

window.mount = (settings, waiting) => {
  const uppy = new Uppy({ allowMultipleUploadBatches: true })
  const remembered = new Remembered(settings)
  const told = (window.told = { events: [], failed: {}, bodies: {}, progress: {}, results: 0 })
  uppy.use(BlobUpload, { settings, remembered, waiting })
  for (const event of ['resumed', 'completing', 'waiting']) {
    uppy.on(`blob-upload-${event}`, (first, more) => told.events.push([event, first?.name ?? first, more ?? null]))
  }
  uppy.on('upload-progress', (file, { bytesUploaded }) => { told.progress[file.name] = bytesUploaded })
  uppy.on('upload-success', (file, { body }) => { told.bodies[file.name] = body; delete told.failed[file.name] })
  uppy.on('upload-error', (file, { kind, message, status }) => { told.failed[file.name] = { kind, message, status } })
  uppy.on('complete', () => { told.results += 1 })
  const choose = (meta) => {
    for (const data of document.querySelector('#chosen').files) {
      uppy.setFileMeta(uppy.addFile({ name: data.name, type: data.type, data }), meta)
    }
  }
  Object.assign(window, { uppy, remembered, choose, service: new Service(settings) })
}
"""
PAGE = b"<!doctype html><title>Upload</title><input type=file multiple id=chosen><script src=tested.js></script>"
ENABLED = "collective.s3blobstorage.upload_enabled"
MAXIMUM_SIZE = "collective.s3blobstorage.upload_maximum_size"
PART = 16 * MB
QUICK = {"first": 0.2, "longest": 0.5, "stalled": 20}
TYPES = {
    "direct": {"name": "File", "title": "File", "field": "file", "image": False, "mode": "direct"},
    "image": {"name": "Image", "title": "Image", "field": "image", "image": True, "mode": "direct"},
    "normal": {"name": "File", "title": "File", "field": "file", "image": False, "mode": "normal"},
}


@pytest.fixture(scope="module")
def frontend(tmp_path_factory):
    return install(tmp_path_factory.mktemp("frontend"))


@pytest.fixture(scope="module")
def front(running_editor_site, frontend):
    front = running_editor_site.front
    front.pages["/tested.js"] = ("text/javascript", bundle(frontend, SCRIPT))
    front.pages["/tested"] = ("text/html", PAGE)
    return front


class Tab:
    """A page of the editor with the script of the uploader, which sends to a folder of its own."""

    def __init__(self, context, site, folder):
        self.context, self.site, self.folder = context, site, folder
        self.settings = {}
        self.waiting = QUICK
        self.page = context.new_page()
        self.before = 0
        self.before = self.unfinished()

    def login(self):
        page = self.context.new_page()
        page.goto("/with/login")
        page.fill("[name=__ac_name]", "editor")
        page.fill("[name=__ac_password]", self.site.zope.password)
        page.click("[name='buttons.login']")
        page.wait_for_url(lambda url: "/login" not in url)
        page.close()

    def open(self, **settings):
        """Load the page, also anew. Its settings are those of the folder's page, with types of which each is known."""
        if not self.settings:
            self.page.goto(f"/with/{self.folder}/@@upload-files")
            told = self.page.get_attribute("[data-s3blobs-uploader]", "data-s3blobs-uploader")
            self.settings = json.loads(told) | {"types": list(TYPES.values()), "words": {"lost": "lost: ${size}"}}
        self.settings |= settings
        self.page.goto("/tested")
        self.run("([settings, waiting]) => mount(settings, waiting)", [self.settings, self.waiting])
        return self

    def choose(self, *files, type="direct", **meta):
        self.page.set_input_files("#chosen", [file.path for file in files])
        self.run("meta => choose(meta)", {"type": TYPES[type], **meta})

    def start(self):
        self.run("() => { uppy.upload() }")

    def intercept(self, url, happens):
        """With each POST to such an address that happens instead."""
        self.page.route(url, lambda route: happens(route) if route.request.method == "POST" else route.continue_())

    def run(self, script, value=None):
        return self.page.evaluate(script, value)

    def until(self, condition, seconds=60):
        self.page.wait_for_function(condition, timeout=seconds * 1000)

    def over(self, times=1):
        """Wait until an upload of Uppy has ended so many times; what was told."""
        self.until(f"() => told.results >= {times}")
        return self.told

    @property
    def told(self):
        return self.run("told")

    def path(self, name):
        return urlsplit(self.told["bodies"][name]["@id"]).path.removeprefix("/with/")

    def holds(self, file, field="file"):
        assert self.site.found(self.path(file.path.name), field) == (file.size, file.sha256)

    def unfinished(self):
        """Uploads of this test that the site waits for."""
        told = self.site.editor.api("GET", f"{self.folder}/@blob-upload", expect=200)
        return told["unfinished"]["count"] - self.before

    def until_finished(self):
        deadline = time.monotonic() + 20
        while self.unfinished():
            assert time.monotonic() < deadline
            self.page.wait_for_timeout(100)


@pytest.fixture
def tab(chromium, front, editor_site):
    context = chromium.new_context(base_url=front.origin)
    context.set_default_timeout(60_000)
    errors = []
    context.on("weberror", lambda error: errors.append(str(error.error)))
    folder = editor_site.editor.add("files", "Folder", f"machine-{front.port}-{id(context)}")
    tab = Tab(context, editor_site, folder)
    tab.login()
    yield tab
    context.close()
    assert errors == []


@pytest.fixture
def film(tmp_path):
    """Five parts: more than go at once."""
    return file_of(tmp_path / "film.mp4", 4 * PART + MB)


def parts(site):
    return sorted(site.parts_that_came())


def none_twice(site):
    """Fails where a part came twice. One that arrived while its answer was lost, the proxy has not seen arrive."""
    came = parts(site)
    assert len(came) == len(set(came)), came


def slowed(site, rate=8 * MB):
    """The store takes its time, so that a test can do something meanwhile."""
    site.proxy.fail(faults.trickle(rate, "request"), method="PUT")


def settled(tab):
    """The parts that have come, when none has for two seconds: what was sent may still be on its way."""
    before = None
    while (came := parts(tab.site)) != before:
        before = came
        tab.page.wait_for_timeout(2000)
    return came


def half_way(tab, name="film.mp4", size=20 * MB):
    tab.until(f"() => told.progress['{name}'] > {size}")


def test_several_files_three_at_once_with_titles(tab, tmp_path, editor_site):
    files = [file_of(tmp_path / f"file-{number}.bin", MB * (number + 1)) for number in range(4)]
    picture = file_of(tmp_path / "picture.bin", MB)
    tab.open().choose(*files, title="A title")
    tab.choose(picture)
    tab.start()
    told = tab.over()
    assert told["failed"] == {}
    for file in [*files, picture]:
        tab.holds(file)
    assert told["bodies"]["file-0.bin"]["title"] == "A title"
    assert editor_site.editor.api("GET", tab.path("picture.bin"), expect=200)["title"] == "picture.bin"
    assert len(parts(editor_site)) == 5 and tab.run("most") <= 3  # each a single part
    assert tab.run("() => remembered.all()") == [] and tab.unfinished() == 0


def test_parts_go_four_at_once(tab, film, editor_site):
    slowed(editor_site)
    tab.open().choose(film)
    tab.start()
    assert tab.over()["failed"] == {}
    tab.holds(film)
    assert parts(editor_site) == [1, 2, 3, 4, 5] and tab.run("most") == 4
    assert editor_site.front.to_zope() < 20_000


def test_paused_and_resumed(tab, film, editor_site):
    slowed(editor_site)
    tab.open().choose(film)
    tab.start()
    half_way(tab)
    assert tab.run("() => uppy.getState().capabilities.resumableUploads") is True
    tab.run("() => uppy.pauseAll()")
    came = settled(tab)  # all of it would be there by now
    assert len(came) < 5 and tab.told["failed"] == tab.told["bodies"] == {}
    tab.run("() => uppy.resumeAll()")
    assert tab.over()["failed"] == {}
    tab.holds(film)
    none_twice(editor_site)


def test_a_paused_file_lets_others_go(tab, film, tmp_path, editor_site):
    small = [file_of(tmp_path / f"small-{number}.bin", MB) for number in range(4)]
    slowed(editor_site)
    tab.open().choose(film)
    tab.start()
    half_way(tab, size=MB)
    tab.run("() => uppy.pauseResume(uppy.getFiles()[0].id)")
    editor_site.proxy.forgive()
    tab.choose(*small)
    tab.start()
    tab.until("() => Object.keys(told.bodies).length === 4")
    assert "film.mp4" not in tab.told["bodies"]
    tab.run("() => uppy.pauseResume(uppy.getFiles()[0].id)")
    assert tab.over(2)["failed"] == {}
    tab.holds(film)


def test_cancelled(tab, film, editor_site):
    slowed(editor_site)
    tab.open().choose(film)
    tab.start()
    half_way(tab)
    assert tab.unfinished() == 1
    tab.run("() => uppy.removeFile(uppy.getFiles()[0].id)")
    tab.until_finished()
    assert tab.run("() => remembered.all()") == [] and tab.told["bodies"] == {}


def test_the_network_is_lost_and_comes_back(tab, film, editor_site):
    slowed(editor_site)
    tab.open().choose(film)
    tab.start()
    half_way(tab)
    editor_site.proxy.down()
    tab.until("() => told.events.some(([event, waits]) => event === 'waiting' && waits)")
    tab.page.wait_for_timeout(2000)
    editor_site.proxy.up()
    told = tab.over()
    assert told["failed"] == {} and told["events"][-2:] == [["waiting", False, None], ["completing", "film.mp4", None]]
    tab.holds(film)
    assert len(parts(editor_site)) <= 5 + 4  # twice at most what was on its way


def test_paused_while_it_waits_for_the_network(tab, film, editor_site):
    slowed(editor_site)
    tab.open().choose(film)
    tab.start()
    half_way(tab)
    editor_site.proxy.down()
    tab.until("() => told.events.some(([event, waits]) => event === 'waiting' && waits)")
    tab.run("() => uppy.pauseAll()")
    tab.until("() => told.events.at(-1)[1] === false")  # nobody waits any more
    editor_site.proxy.forgive()
    editor_site.proxy.up()
    tab.run("() => uppy.resumeAll()")
    assert tab.over()["failed"] == {}
    tab.holds(film)


def test_others_did_something_meanwhile(tab, tmp_path):
    """As where other bytes came while the file was looked at: it is completed again, and not for ever."""
    small = file_of(tmp_path / "small.bin", MB)
    conflicts = []

    def conflict(route):
        conflicts.append(True)
        route.fulfill(status=409, json={"error": {"type": "Conflict", "message": "the file was changed"}})

    tab.open().choose(small)
    tab.intercept("**/@blob-upload/*", conflict)
    tab.start()
    assert tab.over()["failed"]["small.bin"] == {"kind": "conflict", "message": "failed", "status": 409}
    assert len(conflicts) == 3
    tab.page.unroute("**/@blob-upload/*")
    tab.run("() => { uppy.retryAll() }")
    assert tab.over(2)["failed"] == {}
    tab.holds(small)


def test_a_network_that_says_nothing_any_more(tab, film, editor_site):
    """No error comes: only that nothing moves says so."""
    slowed(editor_site)
    tab.waiting = QUICK | {"stalled": 2}
    tab.open().choose(film)
    tab.start()
    half_way(tab)
    editor_site.proxy.black_hole()
    tab.until("() => told.events.some(([event, waits]) => event === 'waiting' && waits)")
    editor_site.proxy.forgive()
    editor_site.proxy.up()
    assert tab.over()["failed"] == {}
    tab.holds(film)


def test_patience_has_an_end_and_retry_goes_on(tab, film, editor_site):
    slowed(editor_site)
    tab.waiting = QUICK | {"patience": 2}
    tab.open().choose(film)
    tab.start()
    half_way(tab)
    editor_site.proxy.down()
    told = tab.over()
    assert told["failed"] == {"film.mp4": {"kind": "lost", "message": "lost: 65 MB", "status": 0}}
    editor_site.proxy.up()
    tab.run("() => { uppy.retryAll() }")
    assert tab.over(2)["failed"] == {}
    tab.holds(film)
    none_twice(editor_site)


def test_the_page_is_loaded_anew_and_the_file_chosen_again(tab, film, editor_site):
    slowed(editor_site)
    tab.open().choose(film)
    tab.start()
    tab.until("() => told.progress['film.mp4'] > 0")
    tab.until("async () => (await service.sent(remembered.all()[0].token)) > 0")
    tab.open()
    settled(tab)
    (entry,) = tab.run("() => remembered.all()")
    sent = tab.run("() => service.sent(remembered.all()[0].token)")
    assert entry["name"] == "film.mp4" and entry["size"] == film.size and 0 < sent < film.size
    editor_site.proxy.forgive()
    tab.choose(film)
    tab.start()
    told = tab.over()
    assert told["failed"] == {} and told["events"][0] == ["resumed", "film.mp4", sent]
    tab.holds(film)
    none_twice(editor_site)
    assert tab.run("() => remembered.all()") == []


def test_another_file_or_another_end_does_not_go_on(tab, film, tmp_path, editor_site):
    slowed(editor_site)
    tab.open().choose(film)
    tab.start()
    half_way(tab, size=MB)
    tab.open()
    editor_site.proxy.forgive()
    other = file_of(tmp_path / "other" / "film.mp4", film.size)
    tab.choose(other)
    tab.start()
    told = tab.over()
    assert told["failed"] == {} and [event for event, *_ in told["events"]] == ["completing"]
    tab.holds(other)
    assert len(tab.run("() => remembered.all()")) == 1 == tab.unfinished()
    # Another user of this browser knows nothing of it.
    tab.open(user="somebody-else")
    assert tab.run("() => remembered.all()") == []


@pytest.mark.parametrize("part", [0, 2, 4])
def test_a_file_of_the_same_name_size_and_time_does_not_go_on(tab, film, tmp_path, editor_site, part):
    """As of two cameras, or a container of one size whose time is kept: parts of both would be neither."""
    slowed(editor_site)
    tab.open().choose(film)
    tab.start()
    half_way(tab, size=MB)
    tab.open()
    editor_site.proxy.forgive()
    data = bytearray(film.path.read_bytes())
    data[part * PART : part * PART + MB] = os.urandom(MB)
    other = Chosen(tmp_path / "other" / "film.mp4", film.size, hashlib.sha256(data).hexdigest())
    other.path.parent.mkdir()
    other.path.write_bytes(data)
    times = film.path.stat()
    os.utime(other.path, ns=(times.st_atime_ns, times.st_mtime_ns))
    tab.choose(other)
    tab.start()
    told = tab.over()
    assert told["failed"] == {} and [event for event, *_ in told["events"]] == ["completing"]
    tab.holds(other)


def test_what_became_of_it_while_the_page_was_closed(tab, tmp_path, editor_site):
    """The completion was done, its answer never came: not a second one."""
    small = file_of(tmp_path / "small.bin", MB)
    tab.open().choose(small)
    tab.intercept("**/@blob-upload/*", lambda route: (route.fetch(), route.abort()))
    tab.start()
    tab.until("() => told.events.some(([event]) => event === 'waiting')")
    tab.page.unroute("**/@blob-upload/*")
    tab.open().choose(small)
    tab.start()
    assert tab.over()["failed"] == {}
    tab.holds(small)
    assert len(editor_site.editor.api("GET", tab.folder, expect=200)["items"]) == 1


def test_ended_elsewhere(tab, film, editor_site):
    slowed(editor_site)
    tab.open().choose(film)
    tab.start()
    half_way(tab)
    tab.run("() => uppy.pauseAll()")
    tab.run("() => service.cancel(remembered.all()[0].token)")
    editor_site.proxy.forgive()
    tab.run("() => uppy.resumeAll()")
    assert tab.over()["failed"]["film.mp4"]["kind"] == "ended"
    tab.run("() => { uppy.retryAll() }")
    assert tab.over(2)["failed"] == {}
    tab.holds(film)


def test_logged_out_and_in_again(tab, film, editor_site):
    slowed(editor_site)
    tab.open().choose(film)
    tab.start()
    half_way(tab)
    tab.context.clear_cookies()
    editor_site.proxy.forgive()
    failed = tab.over()["failed"]["film.mp4"]
    assert (failed["kind"], failed["message"], failed["status"]) == ("logged-out", "logged-out", 401)
    tab.login()
    tab.run("() => { uppy.retryAll() }")
    assert tab.over(2)["failed"] == {}
    tab.holds(film)
    none_twice(editor_site)


def test_signed_requests_that_are_good_no_more(tab, film, editor_site):
    """The store refuses the first ones by their signatures, as those that have expired."""
    wrong = []

    def begun(route):
        answer = route.fetch()
        told = answer.json()
        for request in told["requests"]:
            request["url"] = request["url"].replace("X-Amz-Signature=", "X-Amz-Signature=0")
            wrong.append(request["part"])
        route.fulfill(response=answer, json=told)

    tab.intercept("**/@blob-upload", begun)
    tab.open().choose(film)
    tab.start()
    told = tab.over()
    assert told["failed"] == {} and wrong == [1, 2, 3, 4, 5]
    tab.holds(film)
    assert parts(editor_site) == [1, 2, 3, 4, 5]


FORBIDDEN = "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError') } })"
FULL = "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError') }"


@pytest.mark.parametrize("storage", [FORBIDDEN, FULL], ids=["forbidden", "full"])
def test_a_browser_that_remembers_nothing(tab, tmp_path, storage):
    small = file_of(tmp_path / "small.bin", MB)
    tab.page.add_init_script(storage)
    tab.open().choose(small)
    tab.start()
    assert tab.over()["failed"] == {}
    tab.holds(small)
    assert tab.run("() => remembered.all()") == []


@pytest.mark.parametrize(
    "setting, value, usual, failure",
    [
        (ENABLED, False, True, ("off", 409, "not uploaded directly")),
        (MAXIMUM_SIZE, 1, 0, ("too-large", 422, "this site takes up to 1.0 MB")),
    ],
)
def test_a_retry_completes_without_sending_again(tab, tmp_path, editor_site, setting, value, usual, failure):
    """What the site's settings refuse for a while, as against what is refused by its bytes."""
    before, after = file_of(tmp_path / "before.bin", MB), file_of(tmp_path / "after.bin", 2 * MB)
    tab.open().choose(before)
    tab.start()
    tab.over()
    path = tab.path("before.bin")
    editor_site.proxy.reset()
    tab.run("() => uppy.clear()")
    place = f"{editor_site.front.origin}/with/++api++/{path}"
    slowed(editor_site, MB)  # time for the setting to change meanwhile
    tab.choose(after, replaces={"place": place, "field": "file"})
    tab.start()
    tab.until("() => told.progress['after.bin'] > 0")
    editor_site.manager.api("PATCH", "@registry", {setting: value}, expect=204)
    failed = tab.over(2)["failed"]["after.bin"]
    editor_site.manager.api("PATCH", "@registry", {setting: usual}, expect=204)
    assert (failed["kind"], failed["status"]) == failure[:2] and failure[2] in failed["message"]
    tab.run("() => { uppy.retryAll() }")
    assert tab.over(3)["failed"] == {}
    assert tab.path("after.bin") == path
    tab.holds(after)
    assert parts(editor_site) == [1]


def test_what_the_site_does_not_take(tab, tmp_path, editor_site):
    """In the site's words, as they are; and what it refuses in the end by its bytes is sent anew."""
    page = file_of(tmp_path / "page.png", MB, b"<!doctype html><html><body>")
    empty = file_of(tmp_path / "empty.bin", 0)
    elsewhere = file_of(tmp_path / "elsewhere.bin", MB)
    tab.open().choose(empty)
    tab.choose(page, type="image")
    tab.choose(elsewhere, folder=f"{editor_site.front.origin}/with/++api++")
    tab.start()
    failed = tab.over()["failed"]
    assert failed["empty.bin"] == {"kind": "empty", "message": "The file is empty.", "status": 422}
    assert failed["elsewhere.bin"] == {"kind": "forbidden", "message": "You may not upload here.", "status": 403}
    assert failed["page.png"]["kind"] == "type" and failed["page.png"]["status"] == 422
    assert parts(editor_site) == [1] and tab.run("() => remembered.all()") == []
    tab.run("() => { uppy.retryAll() }")
    tab.over(2)
    assert parts(editor_site) == [1, 1]


def test_of_a_form_the_token(tab, tmp_path, editor_site):
    small = file_of(tmp_path / "small.bin", MB)
    tab.open(kind="field", type=TYPES["direct"], replaces=False).choose(small)
    tab.start()
    told = tab.over()
    assert told["failed"] == {} and list(told["bodies"]["small.bin"]) == ["token"]
    assert editor_site.editor.api("GET", tab.folder, expect=200)["items"] == [] and tab.unfinished() == 1
    # The page is loaded anew before the form was sent: nothing is sent twice.
    tab.open().choose(small)
    tab.start()
    again = tab.over()
    assert again["bodies"] == told["bodies"] and parts(editor_site) == [1]
    tab.run("() => uppy.removeFile(uppy.getFiles()[0].id)")  # taken off again
    tab.until_finished()


def test_the_normal_way(tab, tmp_path, editor_site):
    files = [file_of(tmp_path / f"file-{number}.bin", MB * (number + 1)) for number in range(4)]
    tab.open().choose(*files[:3], type="normal", title="A title")
    tab.choose(files[3], type="normal")
    tab.start()
    told = tab.over()
    assert told["failed"] == {} and told["bodies"]["file-0.bin"]["title"] == "A title"
    assert tab.run("() => uppy.getState().capabilities.resumableUploads") is False
    assert {file.path.name: told["progress"][file.path.name] for file in files} == {
        file.path.name: file.size for file in files
    }
    for file in files:
        tab.holds(file)
    assert editor_site.sent_to_store() == 0 and tab.run("most") == 3
    # Into another folder, and in place of what is there.
    inner = editor_site.editor.add(tab.folder, "Folder", "inner")
    api = f"{editor_site.front.origin}/with/++api++"
    tab.run("() => uppy.clear()")
    tab.choose(files[1], type="normal", folder=f"{api}/{inner}")
    tab.choose(files[2], type="normal", replaces={"place": f"{api}/{tab.path('file-0.bin')}", "field": "file"})
    before = tab.path("file-0.bin")
    tab.start()
    assert tab.over(2)["failed"] == {}
    assert tab.path("file-1.bin").startswith(f"{inner}/") and tab.path("file-2.bin") == before
    tab.holds(files[1])
    tab.holds(files[2])


def test_what_the_normal_way_fails_with(tab, tmp_path):
    small, empty = file_of(tmp_path / "small.bin", MB), file_of(tmp_path / "empty.bin", 0)
    tab.open().choose(small, type="normal")
    tab.intercept("**/@@upload-file", lambda route: route.abort())
    tab.start()
    assert tab.over()["failed"]["small.bin"] == {"kind": "lost", "message": "lost-again", "status": 0}
    tab.page.unroute("**/@@upload-file")
    tab.intercept("**/@@upload-file", lambda route: route.fulfill(status=413, body="<html>nginx</html>"))
    tab.run("() => { uppy.retryAll() }")
    assert tab.over(2)["failed"]["small.bin"] == {"kind": "too-large", "message": "large-for-server", "status": 413}
    tab.page.unroute("**/@@upload-file")
    tab.context.clear_cookies()
    tab.run("() => { uppy.retryAll() }")
    assert tab.over(3)["failed"]["small.bin"] == {"kind": "logged-out", "message": "logged-out", "status": 401}
    tab.login()
    tab.choose(empty, type="normal")
    tab.start()
    assert tab.over(4)["failed"] == {"empty.bin": {"kind": "empty", "message": "The file is empty.", "status": 422}}
    tab.holds(small)


def test_zope_may_take_its_time(tab, tmp_path, editor_site, monkeypatch):
    """Once all is sent nothing moves until Zope has written it: that is no lost connection, and not sent again."""
    small = file_of(tmp_path / "small.bin", 20_000)

    def slow(path):
        if path.endswith("@@upload-file"):
            time.sleep(3)
        return path

    monkeypatch.setattr(editor_site.front, "_rewrite", slow)
    tab.waiting = QUICK | {"stalled": 1}
    tab.open().choose(small, type="normal")
    tab.start()
    assert tab.over()["failed"] == {}
    tab.holds(small)
