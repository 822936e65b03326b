"""Pictures of the uploader for the manual, as docs/development.md says; each is of a state that an editor comes to."""

from __future__ import annotations

import io
import secrets
from pathlib import Path

import pytest
from editor_browser import NARROW
from editor_pages import Uploader
from editor_site import MB, file_of
from panel_browser import IMAGES, picture
from PIL import Image
from servers import faults

pytestmark = [pytest.mark.chromium, pytest.mark.one_release]

PART = 16 * MB


@pytest.fixture
def images(tmp_path) -> Path:
    return Path(IMAGES or tmp_path)


@pytest.fixture
def folder(editor_site) -> str:
    """One with a title that people give."""
    return editor_site.editor.api(
        "POST", "files", {"@type": "Folder", "id": f"harvest-{secrets.token_hex(4)}", "title": "Harvest"}, expect=201
    )["@id"].partition("/with/")[2]


@pytest.fixture
def photo(tmp_path):
    """A landscape of two colours, as a camera names it."""
    sky, meadow = (120, 170, 220), (90, 140, 70)
    image = Image.new("RGB", (1200, 800), sky)
    for row in range(800):
        shade = row // 16
        colour = tuple(part + shade - 25 for part in (meadow if row > 500 else sky))
        image.paste(colour, (0, row, 1200, row + 1))
    data = io.BytesIO()
    image.save(data, "JPEG")
    return file_of(tmp_path / "orchard.jpg", data.tell(), data.getvalue())


def opened(browse, folder, **options) -> Uploader:
    browsing = browse(**options)
    browsing.login()
    return Uploader(browsing.page(f"{folder}/@@upload-files"))


def send_slowly(uploader, site, tmp_path, photo) -> None:
    """Three files, of which the film stops for the picture after some of its parts."""
    film = file_of(tmp_path / "film.mp4", 6 * PART)
    site.proxy.fail(faults.trickle(2 * MB, "request"), method="PUT", nth=1, times=1000)
    uploader.choose(film, photo, file_of(tmp_path / "minutes.pdf", 3 * MB, b"%PDF-1.4\n"))
    uploader.send()
    uploader.wait_until(lambda: uploader.root.locator(".uppy-Dashboard-Item.is-complete").count() == 2)
    uploader.wait_for_percent(30)


def test_pictures_of_the_page(browse, editor_site, folder, tmp_path, photo, images):
    uploader = opened(browse, folder)
    picture(uploader.page, images / "upload-empty.png")
    send_slowly(uploader, editor_site, tmp_path, photo)
    picture(uploader.page, images / "upload-sending.png")
    editor_site.proxy.forgive()
    uploader.uploaded(3)
    picture(uploader.page, images / "upload-done.png")


def test_pictures_of_what_is_not_taken(browse, editor_site, folder, tmp_path, photo, images):
    editor_site.set_records({"collective.s3blobstorage.upload_maximum_size": 20})
    uploader = opened(browse, folder)
    uploader.choose(photo, file_of(tmp_path / "film.mp4", 33 * MB), file_of(tmp_path / "empty.txt", 0))
    uploader.wait_until(lambda: len(uploader.problems()) == 2)
    picture(uploader.page, images / "upload-refused.png")


def test_pictures_on_a_phone(browse, editor_site, folder, tmp_path, photo, images):
    uploader = opened(browse, folder, width=NARROW)
    send_slowly(uploader, editor_site, tmp_path, photo)
    picture(uploader.page, images / "upload-phone.png")


def test_pictures_from_right_to_left(browse, editor_site, folder, tmp_path, photo, images):
    editor_site.speak("he")
    uploader = opened(browse, folder, language="he")
    send_slowly(uploader, editor_site, tmp_path, photo)
    picture(uploader.page, images / "upload-right-to-left.png")


def test_pictures_of_forms(browse, editor_site, folder, tmp_path, photo, images):
    browsing = browse()
    browsing.login()
    form = Uploader(browsing.page(f"{folder}/++add++File"))
    form.choose(file_of(tmp_path / "film.mp4", 2 * PART))
    form.page.fill("[name='form.widgets.title']", "The harvest of 2026")
    form.page.get_by_text("The file is uploaded. The form can be saved.").wait_for()
    picture(form.page, images / "upload-form.png")
    image = Uploader(browsing.page(f"{folder}/++add++Image"))
    image.choose(photo)
    image.page.get_by_text("The file is uploaded. The form can be saved.").wait_for()
    image.page.click("[name='form.buttons.save']")
    image.page.wait_for_url("**/orchard.jpg/view")
    edit = Uploader(browsing.page(f"{folder}/orchard.jpg/edit"))
    picture(edit.page, images / "upload-image.png")
