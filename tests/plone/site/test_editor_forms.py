"""An editor uploads in the forms that add and edit content, in headless Chromium."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import pytest
from editor_browser import DESKTOP, NARROW, strict_policy
from editor_pages import Uploader
from editor_site import MB, file_of
from panel_browser import violations, width_beyond
from payloads import png
from servers import faults

pytestmark = [pytest.mark.chromium, pytest.mark.one_release]

ENABLED = "collective.s3blobstorage.upload_enabled"


@dataclass(frozen=True)
class Kind:
    """A type of content with a file: its field, and the inputs of that and of the title."""

    name: str
    field: str
    title: str

    @property
    def input(self):
        return f"form.widgets.{self.field}"

    @property
    def within(self):
        return f"#formfield-{self.input.replace('.', '-')} .s3blobs-uploader"

    def file(self, path, size):
        if self.field != "image":
            return file_of(path.with_suffix(".bin"), size)
        photo = png(width=900, height=600).data
        return file_of(path.with_suffix(".png"), len(photo), photo)


FILE = Kind("File", "file", "form.widgets.title")
IMAGE = Kind("Image", "image", "form.widgets.title")
FILM = Kind("film", "recording", "form.widgets.IDublinCore.title")
KINDS = pytest.mark.parametrize("kind", [FILE, IMAGE, FILM], ids=lambda kind: kind.name)


@pytest.fixture(autouse=True)
def custom_type(editor_site):
    return editor_site.custom_type()


def wait_until(page, condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, page.locator("#content").inner_text()
        page.wait_for_timeout(50)


def save(page):
    """Saves, once the form lets; gives the content's path in the site."""
    button = page.locator("[name='form.buttons.save']")
    wait_until(page, button.is_enabled)
    button.click()
    page.wait_for_url(lambda url: "++add++" not in url and "/edit" not in url)
    return urlsplit(page.url).path.removeprefix("/with/").removesuffix("/view").rstrip("/")


@pytest.mark.parametrize("mode", ["direct", "normal"])
@KINDS
def test_added_and_edited(editing, editor_site, folder, tmp_path, kind, mode):
    """The same clicks either way; in mode direct no byte of the file goes through Zope."""
    editor_site.set_records({ENABLED: mode == "direct"})
    first, second = kind.file(tmp_path / "first", 3 * MB), kind.file(tmp_path / "second", 3 * MB + 1)
    page = editing.page(f"{folder}/++add++{kind.name}")
    page.fill(f"[name='{kind.title}']", "Of the editor")
    editor_site.front.reset()
    Uploader(page, kind.within).choose(first)
    path = save(page)
    editor_site.holds(path, first, kind.field)
    told = editor_site.editor.api("GET", path, expect=200)
    assert (told["@type"], told["title"], told[kind.field]["filename"]) == (kind.name, "Of the editor", first.path.name)
    page.goto(f"{path}/edit")
    Uploader(page, kind.within).choose(second)
    assert save(page) == path
    editor_site.holds(path, second, kind.field)
    through_zope = editor_site.front.to_zope()
    assert (through_zope < 100_000) is (mode == "direct") and editor_site.sent_to_store() == (
        first.size + second.size if mode == "direct" else 0
    )
    if kind is FILE:  # which keeps versions in this site
        editor_site.editor.api("PATCH", f"{path}/@history", {"version": 0}, expect=200)
        editor_site.holds(path, first)


@KINDS
def test_without_javascript(browse, editor_site, folder, tmp_path, kind):
    browsing = browse(java_script_enabled=False)
    browsing.login()
    page = browsing.page(f"{folder}/++add++{kind.name}")
    first, second = kind.file(tmp_path / "first", 300_000), kind.file(tmp_path / "second", 300_001)
    page.fill(f"[name='{kind.title}']", "Plain")
    page.set_input_files(f"[name='{kind.input}']", first.path)
    path = save(page)
    editor_site.holds(path, first, kind.field)
    page.goto(f"{path}/edit")
    page.check(f"[name='{kind.input}.action'][value=replace]")
    page.set_input_files(f"[name='{kind.input}']", second.path)
    assert save(page) == path
    editor_site.holds(path, second, kind.field)


def test_a_form_with_errors_keeps_the_upload(editing, editor_site, folder, tmp_path):
    """What was sent is not sent again when the site shows the form again, for what no browser finds wrong."""
    film = file_of(tmp_path / "film.bin", 3 * MB)
    page = editing.page(f"{folder}/++add++File")
    page.fill(f"[name='{FILE.title}']", "Kept")
    uploader = Uploader(page)
    uploader.choose(film)
    button = page.locator("[name='form.buttons.save']")
    uploader.wait_until(button.is_enabled)
    dates = "([name, value]) => { document.querySelector(`[name='form.widgets.IPublication.${name}']`).value = value }"
    page.evaluate(dates, ["effective", "2021-01-01T10:00"])
    page.evaluate(dates, ["expires", "2020-01-01T10:00"])
    button.click()
    page.locator(".s3blobs-ready", has_text="film.bin, 3 MB, is uploaded").wait_for()
    assert "There were some errors." in page.locator("#content").inner_text()
    assert page.input_value(f"[name='{FILE.title}']") == "Kept"
    page.evaluate(dates, ["expires", "2035-01-01T10:00"])
    path = save(page)
    editor_site.holds(path, film)
    assert editor_site.sent_to_store() == film.size


def test_the_form_waits_for_the_upload(editing, editor_site, folder, tmp_path):
    """Also when the network is lost; the file taken off, it can be saved as it was."""
    editor_site.proxy.fail(faults.trickle(MB, "request"), method="PUT", times=1000)
    page = editing.page(f"{folder}/++add++File")
    film = file_of(tmp_path / "film.bin", 12 * MB)
    uploader = Uploader(page)
    uploader.choose(film)
    button = page.locator("[name='form.buttons.save']")
    uploader.wait_until(lambda: not button.is_enabled())
    editor_site.proxy.down()
    page.wait_for_timeout(2000)
    assert not button.is_enabled()
    editor_site.proxy.forgive()
    editor_site.proxy.up()
    path = save(page)
    editor_site.holds(path, film)


POSTER = replace(FILM, field="poster")


def problem(page, text):
    page.locator(".s3blobs-problems li", has_text=text).wait_for()


@pytest.mark.parametrize("mode", ["direct", "normal"])
def test_two_files_in_one_form(editing, editor_site, folder, tmp_path, mode):
    """It is sent once. One of them is removed afterwards; the other stays as it is."""
    editor_site.set_records({ENABLED: mode == "direct"})
    film, photo = file_of(tmp_path / "film.bin", 3 * MB), IMAGE.file(tmp_path / "photo", 0)
    page = editing.page(f"{folder}/++add++film")
    page.fill(f"[name='{FILM.title}']", "Both")
    Uploader(page, FILM.within).choose(film)
    Uploader(page, POSTER.within).choose(photo)
    editor_site.front.reset()
    path = save(page)
    editor_site.holds(path, film, FILM.field)
    editor_site.holds(path, photo, POSTER.field)
    sent = [
        size for method, where, size in editor_site.front.bodies if method == "POST" and where.endswith("++add++film")
    ]
    assert len(sent) == 1 and (sent[0] > film.size + photo.size) is (mode == "normal")
    page.goto(f"{path}/edit")
    assert page.locator(f"#formfield-{POSTER.input.replace('.', '-')} img").first.is_visible()  # Plone's preview
    uploader = Uploader(page, FILM.within)
    uploader.choose(file_of(tmp_path / "other.bin", MB))
    page.check(f"[name='{FILM.input}.action'][value=nochange]")
    assert uploader.root.locator(".uppy-Dashboard-Item").count() == 0
    page.check(f"[name='{POSTER.input}.action'][value=remove]")
    assert save(page) == path
    editor_site.holds(path, film, FILM.field)
    assert editor_site.editor.api("GET", path, expect=200)[POSTER.field] is None


def test_two_files_that_are_too_large_together(editing, editor_site, folder, tmp_path):
    editor_site.set_records({ENABLED: False})
    editing.context.add_init_script("""new MutationObserver(() => {
        for (const one of document.querySelectorAll('[data-s3blobs-uploader]')) {
            const told = { ...JSON.parse(one.dataset.s3blobsUploader), 'normal-maximum-size': 3500000 }
            if (one.dataset.s3blobsUploader !== JSON.stringify(told)) one.dataset.s3blobsUploader = JSON.stringify(told)
        }
    }).observe(document, { childList: true, subtree: true })""")
    page = editing.page(f"{folder}/++add++film")
    page.fill(f"[name='{FILM.title}']", "Both")
    film, photo = file_of(tmp_path / "film.bin", 3 * MB), file_of(tmp_path / "photo.png", MB, png().data)
    Uploader(page, FILM.within).choose(film)
    Uploader(page, POSTER.within).choose(photo)
    editor_site.front.reset()
    page.click("[name='form.buttons.save']")
    problem(page, "The files of this form have 4 MB together; this site takes up to 3.3 MB.")
    assert editor_site.front.to_zope() < 100_000


def test_what_can_happen_on_the_way_through_zope(editing, editor_site, folder, tmp_path):
    """No network, and then no session: nothing of the form is lost."""
    editor_site.set_records({ENABLED: False})
    film = file_of(tmp_path / "film.bin", 3 * MB)
    page = editing.page(f"{folder}/++add++File")
    page.fill(f"[name='{FILE.title}']", "Kept")
    Uploader(page).choose(film)
    editing.context.set_offline(True)
    page.click("[name='form.buttons.save']")
    problem(page, "The connection is lost. Nothing of the form is lost")
    editing.context.set_offline(False)
    editing.logout()
    page.click("[name='form.buttons.save']")
    problem(page, "You are logged out. Nothing of the form is lost")
    editing.login()
    path = save(page)
    editor_site.holds(path, film)
    assert editor_site.editor.api("GET", path, expect=200)["title"] == "Kept"


def test_what_somebody_else_has_locked(editing, editor_site, folder, tmp_path):
    """While it is edited: said by the site, and the file goes when the lock is gone."""
    photo, path = IMAGE.file(tmp_path / "photo", 0), editor_site.editor.add(folder, "News Item", "locked")
    page = editing.page(f"{path}/edit")
    uploader = Uploader(page)
    editor_site.manager.api("DELETE", f"{path}/@lock", {"force": True}, expect=200)
    editor_site.manager.api("POST", f"{path}/@lock", {}, expect=200)
    uploader.choose(photo)
    problem(page, "This content is locked by somebody else.")
    editor_site.manager.api("DELETE", f"{path}/@lock", {"force": True}, expect=200)
    uploader.root.get_by_role("button", name="Retry photo.png").click()
    assert save(page) == path
    editor_site.holds(path, photo, "image")


def test_a_file_that_is_too_large(editing, editor_site, folder, tmp_path):
    editor_site.set_records({"collective.s3blobstorage.upload_maximum_size": 2})
    uploader = Uploader(editing.page(f"{folder}/++add++File"))
    uploader.choose(file_of(tmp_path / "large.bin", 3 * MB))
    (told,) = uploader.problems()
    assert "The file is 3 MB; this site takes up to 2 MB." in told and editor_site.sent_to_store() == 0


@pytest.mark.parametrize("width", [DESKTOP, NARROW], ids=["wide", "narrow"])
def test_axe_finds_nothing_and_a_strict_policy_neither(browse, editor_site, folder, tmp_path, width):
    editor_site.front.policy = strict_policy(editor_site.proxy.endpoint_url)
    browsing = browse(width=width)
    browsing.login()
    page = browsing.page(f"{folder}/++add++Image")
    uploader = Uploader(page)
    assert violations(page, ".s3blobs-uploader") == []
    uploader.choose(IMAGE.file(tmp_path / "photo", 0))
    uploader.wait_until(page.locator("[name='form.buttons.save']").is_enabled)
    assert violations(page, ".s3blobs-uploader") == [] and width_beyond(page) <= 0
    path = save(page)
    page.goto(f"{path}/edit")
    Uploader(page)
    assert violations(page, ".s3blobs-uploader") == [] and width_beyond(page) <= 0
    # Plone's own radio buttons disable its input by inline scripts; what they do, the script does too.
    ours = [told for told in browsing.refused_of_ours() if not re.search(r"onclick=|\.disabled=", told["element"])]
    assert ours == [] and browsing.refused
