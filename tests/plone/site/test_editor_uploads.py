"""An editor uploads, in headless Chromium: the page "Upload files", with what can happen on the way."""

from __future__ import annotations

import re

import pytest
from editor_browser import DESKTOP, NARROW, strict_policy
from editor_pages import Uploader
from editor_site import MB, file_of
from panel_browser import violations, width_beyond
from payloads import png
from servers import faults

from collective.s3blobstorage.directupload.interfaces import Swept

pytestmark = [pytest.mark.chromium, pytest.mark.one_release]

PART = 16 * MB  # what a part has where nobody asks for another size
KILOBYTES = 40_000  # of JSON for an upload of some parts
# Around it stock Plone has violations of its own (panel_browser.py).
OURS = ".s3blobs-uploader, #content h1, #content .lead"


@pytest.fixture
def open_page(editing, editor_site, folder):
    """Opens the page of that folder; what is counted is what is sent from then on."""

    def opened():
        uploader = Uploader(editing.page(f"{folder}/@@upload-files"))
        editor_site.front.reset()
        return uploader

    return opened


@pytest.fixture
def uploader(open_page):
    return open_page()


def names(site, folder):
    return sorted(item["@id"].rpartition("/")[2] for item in site.editor.api("GET", folder, expect=200)["items"])


def film_of_five_parts(site, tmp_path, name="film.mp4"):
    """Of which the fourth and the fifth go slowly."""
    film = file_of(tmp_path / name, 4 * PART + 5 * MB)
    site.proxy.fail(faults.trickle(MB, "request"), method="PUT", nth=4, times=1000)
    return film


def wait_for_three_parts(site, uploader):
    uploader.wait_until(lambda: len(site.parts_that_came()) >= 3)


# Files become content


def test_a_large_file(uploader, editor_site, folder, tmp_path, tier):
    film = file_of(tmp_path / "film.mp4", tier["direct_mb"] * MB + 13)
    uploader.choose(film)
    uploader.send()
    path = uploader.uploaded(1)["film.mp4"]
    editor_site.holds(path, film)
    assert path.startswith(folder) and editor_site.sent_to_store() == film.size
    assert 0 < editor_site.front.to_zope() < KILOBYTES


def test_three_files_at_once(uploader, editor_site, folder, tmp_path):
    """Each of the type that fits."""
    files = [file_of(tmp_path / f"notes-{number}.bin", 300_000 + number) for number in range(2)]
    photo = png("photo.png").data
    picture = file_of(tmp_path / "photo.png", len(photo), photo)
    uploader.choose(*files, picture)
    uploader.send()
    made = uploader.uploaded(3)
    for file in files:
        editor_site.holds(made[file.path.name], file)
    editor_site.holds(made["photo.png"], picture, "image")
    assert editor_site.editor.api("GET", made["photo.png"], expect=200)["@type"] == "Image"


def test_a_dropped_folder(uploader, editor_site, folder, tmp_path):
    files = {
        "album/one.bin": file_of(tmp_path / "album" / "one.bin", 200_001),
        "album/deeper/two.bin": file_of(tmp_path / "album" / "deeper" / "two.bin", 200_002),
        "album/deeper/three.bin": file_of(tmp_path / "album" / "deeper" / "three.bin", 200_003),
    }
    uploader.drop(tmp_path / "album")
    uploader.send()
    uploader.uploaded(3)
    for path, file in files.items():
        editor_site.holds(f"{folder}/{path}", file)
    assert names(editor_site, folder) == ["album"]


def test_mode_normal_looks_the_same(open_page, editor_site, tmp_path):
    """Direct upload is off: the file goes through Zope, and nothing from the browser to the store."""
    editor_site.set_records({"collective.s3blobstorage.upload_enabled": False})
    uploader = open_page()
    files = [file_of(tmp_path / f"normal-{number}.bin", 3 * MB + number) for number in range(2)]
    uploader.choose(*files)
    uploader.send()
    made = uploader.uploaded(2)
    for file in files:
        editor_site.holds(made[file.path.name], file)
    assert editor_site.sent_to_store() == 0
    assert editor_site.front.to_zope() > sum(file.size for file in files)


def test_a_file_takes_the_place_of_one_that_is_there(uploader, open_page, editor_site, folder, tmp_path):
    """Its address stays, and so does the earlier version."""
    before, after = file_of(tmp_path / "a" / "plan.bin", 300_001), file_of(tmp_path / "b" / "plan.bin", 300_002)
    uploader.choose(before)
    uploader.send()
    path = uploader.uploaded(1)["plan.bin"]
    uploader = open_page()
    uploader.choose(after)
    uploader.send()
    dialog = uploader.page.get_by_role("dialog")
    dialog.get_by_role("combobox").last.select_option("replace")
    dialog.get_by_role("button", name="Go on").click()
    assert list(uploader.uploaded(1).values()) == [path] and names(editor_site, folder) == ["plan.bin"]
    editor_site.holds(path, after)
    editor_site.editor.api("PATCH", f"{path}/@history", {"version": 0}, expect=200)
    editor_site.holds(path, before)


def test_how_fast_it_goes_and_how_long_it_takes(uploader, editor_site, tmp_path):
    """The figures fit each other. The Dashboard's own would say minutes, since the first bytes came late."""
    small, film = file_of(tmp_path / "small.bin", 2000), file_of(tmp_path / "film.mp4", 4 * PART)
    editor_site.proxy.fail(faults.trickle(MB, "request"), method="PUT", nth=1, times=1000)
    uploader.choose(small, film)
    uploader.send()
    rate = uploader.root.locator(".s3blobs-rate")
    told = []
    form = r"1 of 2 files uploaded · ([\d.]+) MB of 64 MB · ([\d.]+) MB per second · (\d+) seconds? left"
    uploader.wait_until(lambda: told.append(re.fullmatch(form, rate.inner_text())) or told[-1])
    done, per_second, left = map(float, told[-1].groups())
    assert abs(left - (64 - done) / per_second) < 2
    assert "left" not in uploader.root.locator(".uppy-Dashboard").inner_text()
    editor_site.proxy.forgive()
    uploader.uploaded(2)
    assert rate.inner_text() == ""


# What happens on the way


def test_the_network_is_lost_in_the_middle_and_back(uploader, editor_site, tmp_path):
    """It goes on by itself, and sends no part again that had come."""
    film = film_of_five_parts(editor_site, tmp_path)
    uploader.choose(film)
    uploader.send()
    wait_for_three_parts(editor_site, uploader)
    editor_site.proxy.down()
    uploader.page.wait_for_timeout(4000)
    editor_site.proxy.forgive()
    editor_site.proxy.up()
    editor_site.holds(uploader.uploaded(1)["film.mp4"], film)
    assert sorted(editor_site.parts_that_came()) == [1, 2, 3, 4, 5]


def test_paused_and_resumed(uploader, editor_site, tmp_path):
    film = film_of_five_parts(editor_site, tmp_path)
    uploader.choose(film)
    uploader.send()
    wait_for_three_parts(editor_site, uploader)
    uploader.press("Pause")
    uploader.page.wait_for_timeout(500)
    editor_site.proxy.forgive()
    requests = editor_site.proxy.counts()["UploadPart"]
    uploader.page.wait_for_timeout(2000)
    assert editor_site.proxy.counts()["UploadPart"] == requests and len(editor_site.parts_that_came()) == 3
    uploader.press("Resume")
    editor_site.holds(uploader.uploaded(1)["film.mp4"], film)
    assert sorted(editor_site.parts_that_came()) == [1, 2, 3, 4, 5]


def test_the_page_is_closed_and_the_file_chosen_again(uploader, open_page, editor_site, tmp_path):
    film = film_of_five_parts(editor_site, tmp_path)
    uploader.choose(film)
    uploader.send()
    wait_for_three_parts(editor_site, uploader)
    uploader.page.on("dialog", lambda dialog: dialog.accept())
    uploader.page.close()
    editor_site.proxy.forgive()
    again = open_page()
    (told,) = again.unfinished()
    assert "film.mp4, 48 MB of 69 MB: choose the file again to go on." in told
    again.choose(film)
    again.send()
    editor_site.holds(again.uploaded(1)["film.mp4"], film)
    came = editor_site.parts_that_came()
    assert [came.count(part) for part in (1, 2, 3)] == [1, 1, 1]  # the others were on their way
    assert set(came) == {1, 2, 3, 4, 5}
    assert again.root.locator(".s3blobs-unfinished li").count() == 0


def test_cancelled_nothing_is_left(uploader, editor_site, folder, tmp_path):
    before = editor_site.staged()
    uploader.choose(film_of_five_parts(editor_site, tmp_path))
    uploader.send()
    wait_for_three_parts(editor_site, uploader)
    assert editor_site.staged() != before
    listed = uploader.root.locator(".s3blobs-unfinished li")
    uploader.page.route(  # as a site that takes its time: meanwhile nothing offers what was cancelled
        "**/@blob-upload/*", lambda route: (uploader.page.wait_for_timeout(1000), route.continue_()), times=1
    )
    uploader.press("Cancel")
    uploader.page.wait_for_timeout(700)
    assert listed.count() == 0
    uploader.wait_until(lambda: editor_site.staged() == before)
    assert listed.count() == 0 and names(editor_site, folder) == []
    assert editor_site.editor.api("GET", f"{folder}/@blob-upload", expect=200)["unfinished"]["count"] == 0


def test_an_unfinished_upload_of_earlier_is_cancelled(uploader, open_page, editor_site, tmp_path):
    before = editor_site.staged()
    uploader.choose(film_of_five_parts(editor_site, tmp_path))
    uploader.send()
    wait_for_three_parts(editor_site, uploader)
    uploader.page.close()
    again = open_page()
    again.unfinished()
    again.root.get_by_role("button", name="Cancel the upload of film.mp4").click()
    again.wait_until(lambda: editor_site.staged() == before)
    again.wait_until(lambda: again.root.locator(".s3blobs-unfinished li").count() == 0)


def test_nothing_is_left_after_the_sweep(uploader, open_page, editor_site, folder, tmp_path):
    """Of a cancelled upload, and of one whose page was closed. Chosen again, that one begins anew."""
    film = film_of_five_parts(editor_site, tmp_path)
    uploader.choose(film)
    uploader.send()
    wait_for_three_parts(editor_site, uploader)
    uploader.page.close()
    _objects, unfinished = editor_site.staged()
    again = open_page()
    again.choose(film_of_five_parts(editor_site, tmp_path, "other.mp4"))
    again.send()
    again.wait_until(lambda: len(editor_site.parts_that_came()) >= 6)
    again.press("Cancel")
    again.wait_until(lambda: editor_site.staged()[1] == unfinished)
    editor_site.proxy.forgive()
    assert editor_site.sweep() == Swept(uploads=unfinished) and editor_site.staged() == ([], 0)
    again.choose(film)
    again.send()
    editor_site.holds(again.uploaded(1)["film.mp4"], film)
    assert names(editor_site, folder) == ["film.mp4"] and editor_site.staged() == ([], 0)


def test_the_session_is_over_in_the_middle(editing, uploader, editor_site, tmp_path):
    """The editor logs in, in another tab, and goes on."""
    film = film_of_five_parts(editor_site, tmp_path)
    uploader.choose(film)
    uploader.send()
    wait_for_three_parts(editor_site, uploader)
    editing.logout()
    editor_site.proxy.forgive()
    (told,) = uploader.problems()
    assert "You are logged out. Log in, then choose “Retry”." in told
    with editing.context.expect_page() as opened:
        uploader.root.get_by_role("link", name="Log in, in another window").click()
    tab = opened.value
    tab.fill("[name=__ac_name]", "editor")
    tab.fill("[name=__ac_password]", editor_site.zope.password)
    tab.click("[name='buttons.login']")
    tab.wait_for_url(lambda url: "/login" not in url)
    tab.close()
    uploader.root.get_by_role("button", name="Retry film.mp4").click()
    editor_site.holds(uploader.uploaded(1)["film.mp4"], film)
    assert sorted(editor_site.parts_that_came()) == [1, 2, 3, 4, 5]


# What is not taken


@pytest.mark.parametrize(
    ("records", "name", "says"),
    [
        ({"upload_maximum_size": 2}, "large.bin", "The file is 3 MB; this site takes up to 2 MB."),
        (
            {"upload_mime_types": ["video/*"]},
            "notes.pdf",
            "The file is of the type application/pdf; this site takes video/*.",
        ),
    ],
)  # fmt: skip
def test_what_the_site_does_not_take(open_page, editor_site, folder, tmp_path, records, name, says):
    editor_site.set_records({f"collective.s3blobstorage.{key}": value for key, value in records.items()})
    uploader = open_page()
    uploader.choose(file_of(tmp_path / name, 3 * MB))
    assert [says in told for told in uploader.problems()] == [True]
    assert editor_site.sent_to_store() == 0 and names(editor_site, folder) == []


def test_what_the_site_refuses_when_it_has_come(uploader, editor_site, folder, tmp_path):
    """A page that is called a picture: found out by its first bytes."""
    page = file_of(tmp_path / "holiday.jpg", 100_000, b"<!doctype html><script>alert(1)</script>")
    uploader.choose(page)
    uploader.send()
    (told,) = uploader.problems()
    assert "image/jpeg, and looks like text/html" in told and names(editor_site, folder) == []


# For everybody


def test_without_javascript(browse, editor_site, folder, tmp_path):
    browsing = browse(java_script_enabled=False)
    browsing.login()
    page = browsing.page(f"{folder}/@@upload-files")
    files = [file_of(tmp_path / f"plain-{number}.bin", 400_000 + number) for number in range(2)]
    page.set_input_files("#s3blobs-file", [file.path for file in files])
    page.get_by_role("button", name="Upload", exact=True).click()
    page.get_by_text("2 files are uploaded.").wait_for()
    for file in files:
        editor_site.holds(f"{folder}/{file.path.name}", file)


def states(browse, editor_site, folder, tmp_path, **options):
    """The page in each of its states, one after the other: its name and the page."""
    browsing = browse(**options)
    browsing.login()
    uploader = Uploader(browsing.page(f"{folder}/@@upload-files"))
    yield "empty", uploader
    uploader.choose(film_of_five_parts(editor_site, tmp_path), file_of(tmp_path / "empty.bin", 0))
    uploader.problems()
    yield "chosen", uploader
    uploader.send()
    wait_for_three_parts(editor_site, uploader)
    yield "sending", uploader
    uploader.press("Pause")
    yield "paused", uploader
    browsing.logout()
    uploader.press("Resume")
    editor_site.proxy.forgive()
    uploader.wait_until(lambda: len(uploader.problems()) == 2)
    yield "logged out", uploader
    browsing.login()
    uploader.root.get_by_role("button", name="Retry film.mp4").click()
    uploader.uploaded(1)
    yield "done", uploader
    editor_site.proxy.fail(faults.trickle(MB, "request"), method="PUT", nth=4, times=1000)
    again = Uploader(browsing.page(f"{folder}/@@upload-files"))
    again.choose(file_of(tmp_path / "again" / "film.mp4", 1000))
    again.send()
    again.page.get_by_role("dialog").wait_for()
    yield "asked", again


@pytest.mark.parametrize("width", [DESKTOP, NARROW], ids=["wide", "narrow"])
def test_axe_finds_nothing(browse, editor_site, folder, tmp_path, width):
    seen = []
    for state, uploader in states(browse, editor_site, folder, tmp_path, width=width):
        assert (state, violations(uploader.page, OURS)) == (state, [])
        assert width_beyond(uploader.page) <= 0, state
        seen.append(state)
    assert len(seen) == 7


def test_a_strict_policy_refuses_nothing_of_ours(browse, editor_site, folder, tmp_path):
    editor_site.front.policy = strict_policy(editor_site.proxy.endpoint_url)
    for _state, _uploader in states(browse, editor_site, folder, tmp_path):
        pass
    (browsing,) = browse.made
    assert browsing.refused_of_ours() == []
    assert browsing.refused  # stock Plone's styles: the policy is in force


def test_in_german(browse, editor_site, folder, tmp_path):
    """Texts of the page, of the script, of Uppy and of the site; numbers as Germans write them."""
    editor_site.speak("de")
    editor_site.manager.api("PATCH", "@registry", {"collective.s3blobstorage.upload_maximum_size": 2}, expect=204)
    browsing = browse(language="de")
    browsing.login()
    uploader = Uploader(browsing.page(f"{folder}/@@upload-files"))
    assert uploader.page.locator("h1").inner_text() == "Dateien hochladen"
    assert "Dateien hier ablegen" in uploader.root.locator(".uppy-Dashboard-AddFiles-title").inner_text()
    uploader.choose(file_of(tmp_path / "film.mp4", 3 * MB + MB // 2))
    (told,) = uploader.problems()
    assert "Die Datei hat 3,5 MB; diese Website nimmt bis zu 2 MB." in told
    uploader.root.locator(".s3blobs-problems li button").click()
    uploader.choose(file_of(tmp_path / "holiday.jpg", 100_000, b"<!doctype html><script>alert(1)</script>"))
    uploader.root.get_by_role("button", name="Eine Datei hochladen").click()
    (told,) = uploader.problems()
    assert "Die Datei soll vom Typ image/jpeg sein und sieht wie text/html aus." in told
    uploader.root.locator(".s3blobs-problems li button").click()
    file = file_of(tmp_path / "notes.bin", 100_000)
    uploader.choose(file)
    uploader.root.get_by_role("button", name="Eine Datei hochladen").click()
    editor_site.holds(uploader.uploaded(1)["notes.bin"], file)
    uploader.root.get_by_text("notes.bin ist hochgeladen.").wait_for()
    form = Uploader(browsing.page(f"{folder}/++add++File"))
    form.choose(file_of(tmp_path / "form.bin", 100_000))
    form.root.get_by_text("Die Datei ist hochgeladen. Das Formular kann gespeichert werden.").wait_for()


def test_from_right_to_left(browse, editor_site, folder, tmp_path):
    editor_site.speak("ar")
    browsing = browse(language="ar")
    browsing.login()
    uploader = Uploader(browsing.page(f"{folder}/@@upload-files"))
    assert uploader.root.evaluate("root => getComputedStyle(root).direction") == "rtl"
    assert uploader.root.locator(".uppy-Dashboard").evaluate("box => getComputedStyle(box).direction") == "rtl"
    file = file_of(tmp_path / "file.bin", 100_000)
    uploader.choose(file)
    uploader.send()
    (path,) = uploader.uploaded(1).values()
    editor_site.holds(path, file)
    assert violations(uploader.page, OURS) == [] and width_beyond(uploader.page) <= 0
