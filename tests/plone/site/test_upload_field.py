"""The file fields of add and edit forms: sent as a browser sends them, with files that went straight to the bucket."""

from __future__ import annotations

import hashlib
import math
import secrets
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from direct_upload import begin, upload
from payloads import Payload, noise, pdf, png
from servers import faults
from test_upload_completion import drop_staged, jpeg, make_site
from upload_forms import Form, errors_of

from collective.s3blobstorage.directupload.interfaces import Swept
from collective.s3blobstorage.directupload.sweeping import LATE, sweep

pytestmark = pytest.mark.one_release

ZCML = """
  <browser:page name="ready" for="*" class="field_inside.MakeReady" permission="zope2.ViewManagementScreens" />
  <browser:page name="roles" for="*" class="completion_inside.Roles" permission="zope2.ViewManagementScreens" />
  <browser:page name="revert" for="*" class="field_inside.Rolled" permission="zope2.ViewManagementScreens" />
  <browser:page name="version" for="*" class="field_inside.Version" permission="zope2.ViewManagementScreens" />
  <browser:page name="lock" for="*" class="field_inside.Lock" permission="zope2.ViewManagementScreens" />
  <browser:page name="expired" for="*" class="field_inside.Expired" permission="zope2.ViewManagementScreens" />
  <browser:page name="waiting" for="*" class="field_inside.Waiting" permission="zope2.ViewManagementScreens" />
  <browser:page name="plain-form" for="*" class="field_inside.PlainForm" permission="zope2.View" />
  <include package="plone.behavior" file="meta.zcml" xmlns="http://namespaces.zope.org/zope" />
  <plone:behavior xmlns:plone="http://namespaces.plone.org/plone" title="Slides" provides="field_inside.ISlides" />
  <adapter xmlns="http://namespaces.zope.org/zope" factory="field_inside.ThrowingAddView" name="Talk"
      for="Products.CMFCore.interfaces.IFolderish zope.publisher.interfaces.browser.IDefaultBrowserLayer
           plone.dexterity.interfaces.IDexterityFTI"
      provides="zope.publisher.interfaces.browser.IBrowserPage" />
  <class xmlns="http://namespaces.zope.org/zope" class="field_inside.ThrowingAddView">
    <require permission="cmf.AddPortalContent" interface="zope.publisher.interfaces.browser.IBrowserPage" />
  </class>
  <subscriber factory="field_inside.Policy" />
  <subscriber handler="field_inside.added" />
"""
FILE, IMAGE = "form.widgets.file", "form.widgets.image"
LEAD = "form.widgets.ILeadImageBehavior.image"
RECORDING, SLIDES, PORTRAIT = (
    "form.widgets.recording", "form.widgets.ISlides.slides", "form.widgets.ISlides.portrait"
)  # fmt: skip


@pytest.fixture(scope="module")
def site(s3_server, tmp_path_factory):
    yield from make_site(s3_server, tmp_path_factory.mktemp("fields"), zcml=ZCML)


@pytest.fixture
def folder(site) -> str:
    site.between.forgive()
    drop_staged(site)
    for left in site.client.list_multipart_uploads(Bucket=site.bucket).get("Uploads", ()):
        site.client.abort_multipart_upload(Bucket=site.bucket, Key=left["Key"], UploadId=left["UploadId"])
    return site.folder()


def add_form(site, folder, portal_type="File", client=None) -> Form:
    return Form.at(client or site.editor, f"{folder}/++add++{portal_type}")


def downloaded(site, path, name="file") -> bytes:
    answer = site.editor.get(f"{path}/@@download/{name}")
    assert answer.status == 200
    return answer.body


def sent(site, folder, payload, **more) -> str:
    """The token of what was uploaded for content that is added in the folder."""
    return upload(site.editor, folder, payload, **more)["id"]


def talk_form(site, folder, payload, speaker="Somebody") -> Form:
    """An add form of a talk, with its recording uploaded."""
    form = add_form(site, folder, "Talk")
    form.choose_upload(RECORDING, sent(site, folder, payload, **{"@type": "Talk"}))
    form.values |= {"form.widgets.IDublinCore.title": "A talk", "form.widgets.speaker": speaker}
    return form


def settled(blobs, left: int) -> bool:
    """So many objects are left: deletions are in the background."""
    return any(blobs() == (left, 0) or time.sleep(0.1) for _ in range(100))


def back(form: Form) -> str:
    """Send it until it is saved: after an outage the store is asked again each second."""
    for _ in range(60):
        answer = form.send()
        if answer.status == 302:
            return form.client.path_of(answer.headers["Location"]).removesuffix("/view")
        time.sleep(0.5)
    raise AssertionError(errors_of(answer))


def copies(site) -> int:
    counts = site.between.counts("blobs/")
    return counts["CopyObject"] + counts["UploadPartCopy"]


@pytest.fixture
def blobs(site, folder):
    """``blobs()``: how many objects came since the test began, and went."""
    before = set(site.keys("blobs/"))

    def told() -> tuple[int, int]:
        now = set(site.keys("blobs/"))
        return len(now - before), len(before - now)

    return told


def test_a_file_is_added(site, folder, blobs):
    payload = noise(1, "film.bin")
    form = add_form(site, folder)
    told = form.element(FILE)
    assert told["kind"] == "field" and not told["replaces"] and told["chosen"] is None
    assert told["type"] == {"name": "File", "title": "File", "field": "file", "image": False, "mode": "direct"}
    assert told["place"] == f"http://localhost:{site.zope.port}/with/++api++/{folder}"
    assert told["required"] and told["accept"] == []
    form.choose_upload(FILE, sent(site, folder, payload, **{"@type": "File"}))
    site.between.reset()
    path = form.saved()
    assert copies(site) == 1
    assert sum(one.bytes_up + one.bytes_down for one in site.between.exchanges) < 200_000  # not the file
    assert downloaded(site, path) == payload.data
    assert blobs() == (1, 0) and site.staged() == (set(), 0)
    told = site.editor.api("GET", path, expect=200)["file"]
    assert (told["filename"], told["size"]) == ("film.bin", len(payload.data))


def test_without_a_script_it_is_the_form_of_plone(site, folder, blobs):
    """Also inside the element: the file goes with the form, and Plone's choices are there."""
    payload, other = noise(0, "a.bin"), noise(1, "b.bin")
    form = add_form(site, folder)
    form.choose_file(FILE, payload)
    path = form.saved()
    assert downloaded(site, path) == payload.data
    form = Form.at(site.editor, f"{path}/edit")
    assert form.element(FILE)["replaces"] and form.values[f"{FILE}.action"] == "nochange"
    assert "a.bin" in form.page.text_content()
    form.choose_file(FILE, other)
    form.saved()
    assert downloaded(site, path) == other.data
    assert site.editor.api("GET", path, expect=200)["file"]["filename"] == "b.bin"
    form = Form.at(site.editor, f"{path}/edit")
    form.values["form.widgets.title"] = "Kept"
    form.saved()
    assert downloaded(site, path) == other.data and blobs() == (2, 0)


def test_a_form_that_is_shown_again_has_its_file(site, folder, blobs):
    """Nothing is copied for it, and nothing sent anew."""
    payload, kept = noise(1, "talk.bin"), site.admin.get("waiting").body
    form = talk_form(site, folder, payload, speaker="")
    token = form.values[f"{RECORDING}.upload"]
    for _ in range(2):
        site.between.reset()
        form = form.shown_again()
        assert "Required" in form.errors
        assert copies(site) == 0 and blobs() == (0, 0)
        assert sum(one.bytes_up + one.bytes_down for one in site.between.exchanges) < 200_000
        assert form.element(RECORDING)["chosen"] == {"upload": token, "name": "talk.bin", "size": len(payload.data)}
        assert form.values[f"{RECORDING}.action"] == "direct" and form.values[f"{RECORDING}.upload"] == token
        assert "Save the uploaded file talk.bin (1.0 MB)" in " ".join(form.page.text_content().split())
        assert form.values["form.widgets.IDublinCore.title"] == "A talk"
    assert site.admin.get("waiting").body == kept  # of forms that are shown again, in the database
    form.values["form.widgets.speaker"] = "Somebody"
    path = form.saved()
    assert downloaded(site, path, "recording") == payload.data
    assert blobs() == (1, 0) and site.staged() == (set(), 0)


def test_an_invariant_looks_at_it(site, folder, blobs):
    form = talk_form(site, folder, noise(0, "long.bin"), speaker="long").shown_again()
    assert "A long recording of a long speaker." in form.errors
    form.values["form.widgets.speaker"] = "short"
    form.saved()
    assert blobs() == (1, 0)


def test_two_files_one_of_a_behaviour(site, folder, blobs):
    """Also in a fieldset, and with a picture that is turned, as Plone does: then its bytes are others."""
    recording, slides = noise(1, "talk.bin"), pdf("slides.pdf")
    form = talk_form(site, folder, recording)
    assert form.element(SLIDES)["type"]["field"] == "slides" and not form.element(SLIDES)["required"]
    assert form.element(PORTRAIT)["accept"] == ["image/*"] and form.element(PORTRAIT)["type"]["image"]
    form.choose_upload(SLIDES, sent(site, folder, slides, field="slides", **{"@type": "Talk"}))
    form.choose_upload(PORTRAIT, sent(site, folder, jpeg(6), field="portrait", **{"@type": "Talk"}))
    path = form.saved()
    assert downloaded(site, path, "recording") == recording.data
    assert downloaded(site, path, "slides") == slides.data
    told = site.editor.api("GET", path, expect=200)["portrait"]
    assert (told["width"], told["height"]) == (400, 600)
    assert site.staged() == (set(), 0)


@pytest.mark.parametrize(
    "slides, error",
    [
        (noise(1, "slides.bin"), "The slides are larger than 300 KB."),
        (Payload("slides.txt", "text/plain", b"forbidden" * 9), "The slides say what is forbidden."),
    ],
)
def test_a_constraint_asks_for_the_size_and_reads_it(site, folder, blobs, slides, error):
    form = talk_form(site, folder, noise(0, "talk.bin"))
    form.choose_upload(SLIDES, sent(site, folder, slides, field="slides", **{"@type": "Talk"}))
    form = form.shown_again()
    assert error in form.errors and blobs() == (0, 0)
    form.values |= {f"{SLIDES}.action": "nochange", f"{SLIDES}.upload": ""}
    path = form.saved()
    assert site.editor.api("GET", path, expect=200)["slides"] is None
    assert blobs() == (1, 0)


def test_pictures(site, folder, blobs):
    """Of an image, and of a news item whose field is a behaviour's; Plone's preview of the one that is there."""
    for portal_type, name in (("Image", IMAGE), ("News Item", LEAD)):
        payload = png(f"{portal_type[0]}.png")
        form = add_form(site, folder, portal_type.replace(" ", "%20"))
        assert form.element(name)["type"]["image"]
        title = form.page.xpath("//input[contains(@name, 'title') and @type='text']/@name")[0]
        form.values[title] = portal_type
        form.choose_upload(name, sent(site, folder, payload, field="image", **{"@type": portal_type}))
        path = form.saved()
        assert downloaded(site, path, "image") == payload.data
        form = Form.at(site.editor, f"{path}/edit")
        element = form.page.xpath("//*[@data-s3blobs-uploader]")[0]
        assert element.xpath(".//img[contains(@src, '@@images')]")
        assert bool(element.xpath(".//input[@value='remove']")) == (portal_type != "Image")  # which requires one
        other = png("other.png", 700, 500)
        form.choose_upload(name, sent(site, path, other, field="image", replace=True))
        form.saved()
        assert downloaded(site, path, "image") == other.data


@pytest.mark.parametrize("way", ["direct", "normal"])
def test_a_file_is_replaced_and_its_history_kept(site, folder, blobs, way):
    first, second = noise(0, "first.bin"), noise(1, "second.bin")
    path = add(site, folder, first)
    form = Form.at(site.editor, f"{path}/edit")
    assert form.element(FILE)["replaces"]
    if way == "direct":
        form.choose_upload(FILE, sent(site, path, second, replace=True))
    else:
        form.choose_file(FILE, second)
    form.values["form.widgets.title"] = "Second"
    form.saved()
    assert downloaded(site, path) == second.data
    told = site.editor.api("GET", path, expect=200)
    assert (told["title"], told["file"]["filename"]) == ("Second", "second.bin")
    assert site.admin.get(f"{path}/@@version?version=0").body == first.data
    assert site.admin.get(f"{path}/@@version?version=1").body == second.data
    site.inside(f"{path}/@@revert", version="0")
    assert downloaded(site, path) == first.data
    assert site.admin.get(f"{path}/@@version?version=1").body == second.data
    assert blobs() == (2, 0) and site.staged() == (set(), 0)


def test_a_file_is_removed(site, folder):
    form = talk_form(site, folder, noise(0, "talk.bin"))
    form.choose_upload(SLIDES, sent(site, folder, pdf(), field="slides", **{"@type": "Talk"}))
    path = form.saved()
    form = Form.at(site.editor, f"{path}/edit")
    form.values[f"{SLIDES}.action"] = "remove"
    form.saved()
    assert site.editor.api("GET", path, expect=200)["slides"] is None


def add(site, folder, payload, portal_type="File") -> str:
    form = add_form(site, folder, portal_type)
    form.choose_upload(FILE, sent(site, folder, payload, **{"@type": portal_type}))
    return form.saved()


def foreign(site, folder):
    return upload(site.other, folder, noise(0, "a.bin"), **{"@type": "File"})["id"]


def of_another_field(site, folder):
    return sent(site, folder, noise(0, "a.bin"), field="slides", **{"@type": "Talk"})


def of_another_place(site, folder):
    return sent(site, site.folder(), noise(0, "a.bin"), **{"@type": "File"})


def cancelled(site, folder):
    begun = upload(site.editor, folder, noise(0, "a.bin"), **{"@type": "File"})
    site.editor.api("DELETE", site.editor.path_of(begun["@id"]), expect=204)
    return begun["id"]


def expired(site, folder):
    token = sent(site, folder, noise(0, "a.bin"), **{"@type": "File"})
    return site.admin.get(f"expired?token={token}").body.decode()


def incomplete(site, folder):
    return begin(site.editor, folder, noise(0, "a.bin"), method="multipart", **{"@type": "File"})["id"]


def vanished(site, folder):
    token = sent(site, folder, noise(0, "a.bin"), **{"@type": "File"})
    drop_staged(site)
    return token


def other_bytes(site, folder):
    """A page that calls itself a picture."""
    page = Payload("a.jpg", "image/jpeg", b"<!DOCTYPE html><html><script>alert(1)</script></html>" * 9)
    return sent(site, folder, page, **{"@type": "File"})


REFUSED = {
    "no token": (lambda site, folder: "x" * 90, "There is no such upload here."),
    "nothing": (lambda site, folder: "", "There is no such upload here."),
    "another user's": (foreign, "There is no such upload here."),
    "another field": (of_another_field, "for another place or field"),
    "another place": (of_another_place, "There is no such upload here."),
    "cancelled": (cancelled, "This upload was cancelled, or is over."),
    "expired": (expired, "The time for this upload is over."),
    "incomplete": (incomplete, "The file has not arrived as a whole."),
    "vanished": (vanished, "The file has not arrived as a whole."),
    "other bytes": (other_bytes, "image/jpeg"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_words(site, folder, blobs, case):
    token_of, words = REFUSED[case]
    form = add_form(site, folder)
    form.values["form.widgets.title"] = "Kept"
    form.choose_upload(FILE, token_of(site, folder))
    form = form.shown_again()
    assert words in form.errors, form.errors
    assert form.element(FILE)["chosen"] is None and f"{FILE}.upload" not in form.values
    assert form.values["form.widgets.title"] == "Kept"
    assert blobs() == (0, 0) and site.names(folder) == []
    payload = noise(0, "good.bin")
    form.choose_upload(FILE, sent(site, folder, payload, **{"@type": "File"}))
    assert downloaded(site, form.saved()) == payload.data


def test_what_is_for_the_container_is_not_for_its_own_file(site, folder):
    """The edit form of a container that has a file too asks for the same place."""
    path = add(site, folder, noise(0, "a.bin"))
    form = add_form(site, folder)
    form.choose_upload(FILE, sent(site, path, noise(0, "b.bin"), replace=True))
    assert "There is no such upload here." in form.shown_again().errors


def test_a_policy_refuses_the_bytes(site, folder, blobs):
    form = add_form(site, folder)
    form.choose_upload(FILE, sent(site, folder, noise(0, "a.bin"), **{"@type": "File"}))
    token = form.values[f"{FILE}.upload"]
    form = form.shown_again("refuse")
    assert "There is a virus in it." in form.errors and form.element(FILE)["chosen"] is None
    assert site.staged() == (set(), 0) and blobs() == (0, 0)  # it is good for nothing any more
    form.choose_upload(FILE, token)
    assert "This upload was cancelled, or is over." in form.shown_again().errors


def test_direct_upload_was_switched_off_meanwhile(site, folder):
    form = add_form(site, folder)
    form.choose_upload(FILE, sent(site, folder, noise(0, "a.bin"), **{"@type": "File"}))
    site.allow(False)
    try:
        form = form.shown_again()
        assert "Files are not uploaded directly" in form.errors
        assert form.element(FILE)["type"]["mode"] == "normal"
    finally:
        site.allow(True)


def test_locked_by_somebody_else(site, folder, blobs):
    first, second = noise(0, "a.bin"), noise(0, "b.bin")
    path = talk_form(site, folder, first).saved()
    form = Form.at(site.editor, f"{path}/edit")
    form.choose_upload(RECORDING, sent(site, path, second, replace=True))
    site.inside(f"{path}/@@lock", off="1")
    site.inside(f"{path}/@@lock")
    form = form.shown_again()
    assert "This content is locked by somebody else." in form.errors
    assert downloaded(site, path, "recording") == first.data
    site.inside(f"{path}/@@lock", off="1")
    assert form.element(RECORDING)["chosen"]["name"] == "b.bin"
    form.saved()
    assert downloaded(site, path, "recording") == second.data and blobs() == (2, 0)


def test_permission_lost_meanwhile(site, folder, blobs):
    """To add: Plone asks for that itself, before the form does. To write this field of content."""
    form = talk_form(site, folder, noise(0, "talk.bin"))
    site.inside("files/@@roles", roles="Reader")
    site.inside(f"{folder}/@@roles", roles="Reader")
    try:
        answer = form.send()
    finally:
        site.inside("files/@@roles", roles="Contributor Editor Reader")
    assert answer.status in (302, 401) and "a-talk" not in (answer.headers["Location"] or "")
    assert site.names(folder) == [] and blobs() == (0, 0)


def test_the_store_is_away_when_it_is_saved(site, folder, blobs):
    """At each of its requests: the form says so, has its file and its texts, and saves it when it is sent again."""
    payload = noise(0, "a.bin")
    form = talk_form(site, folder, payload)
    site.between.fail(faults.answer(503), times=math.inf)
    form = form.shown_again()
    assert "Nothing is lost: save once more." in form.errors
    site.between.forgive()
    site.between.fail(faults.answer(503), method="PUT", times=math.inf)  # the copy alone
    form = form.shown_again()
    assert "Nothing is lost: save once more." in form.errors
    site.between.forgive()
    assert site.names(folder) == [] and blobs() == (0, 0)
    assert form.element(RECORDING)["chosen"]["name"] == "a.bin" and form.values["form.widgets.speaker"] == "Somebody"
    path = back(form)
    assert downloaded(site, path, "recording") == payload.data
    assert blobs() == (1, 0) and site.staged() == (set(), 0)


def test_the_store_is_away_when_a_file_is_replaced(site, folder, blobs):
    """Nothing of the form is saved then: not the title either, which was set before."""
    first, second = noise(0, "a.bin"), noise(0, "b.bin")
    path = add(site, folder, first)
    form = Form.at(site.editor, f"{path}/edit")
    form.values["form.widgets.title"] = "New"
    form.choose_upload(FILE, sent(site, path, second, replace=True))
    site.between.fail(faults.answer(503), method="PUT", times=math.inf)
    form = form.shown_again()
    site.between.forgive()
    assert "Nothing is lost: save once more." in form.errors
    assert site.editor.api("GET", path, expect=200)["title"] == "a.bin" and blobs() == (1, 0)
    back(form)
    assert site.editor.api("GET", path, expect=200)["title"] == "New" and downloaded(site, path) == second.data


def test_content_that_came_to_nothing_leaves_nothing(site, folder, blobs):
    """A form that makes content and then does not add it: Zope commits, and no blob is in it."""
    payload = noise(0, "talk.bin")
    form = talk_form(site, folder, payload)
    site.between.reset()
    form = form.shown_again("thrown-away")
    assert "not today" in form.errors and copies(site) == 1
    assert site.names(folder) == [] and settled(blobs, 0)
    assert downloaded(site, form.saved(), "recording") == payload.data
    assert blobs() == (1, 0)


def test_a_form_that_sets_it_by_hand_fails_and_stores_nothing(site, folder, blobs):
    """It never has an empty file in its place."""
    form = talk_form(site, folder, noise(0, "talk.bin"))
    assert form.send("by-hand").status == 500
    assert site.names(folder) == [] and blobs() == (0, 0)
    form.saved()


def test_a_conflict_is_done_over(site, folder, blobs):
    payload = noise(0, "talk.bin")
    form = talk_form(site, folder, payload)
    site.between.reset()
    path = form.saved(f"conflict:{secrets.token_hex(8)}")
    assert copies(site) == 2
    assert downloaded(site, path, "recording") == payload.data and len(site.names(folder)) == 1
    assert settled(blobs, 1) and site.staged() == (set(), 0)


def test_it_is_read_before_the_commit_and_behind_savepoints(site, folder, blobs):
    payload = noise(0, "a.bin")
    form = add_form(site, folder)
    form.choose_upload(FILE, sent(site, folder, payload, **{"@type": "File"}))
    path = form.saved("read")
    assert site.editor.api("GET", path, expect=200)["description"] == hashlib.sha256(payload.data).hexdigest()
    assert downloaded(site, path) == payload.data and blobs() == (1, 0)


def test_a_form_that_is_sent_twice_makes_one_content(site, folder, blobs):
    form = add_form(site, folder)
    form.choose_upload(FILE, sent(site, folder, noise(0, "a.bin"), **{"@type": "File"}))
    form.saved()
    again = form.shown_again()
    assert "its file is saved already, as “a.bin”" in again.errors
    assert len(site.names(folder)) == 1 and blobs() == (1, 0)


def test_two_at_once_make_one_content(site, folder, blobs):
    form = add_form(site, folder)
    form.choose_upload(FILE, sent(site, folder, noise(1, "a.bin"), **{"@type": "File"}))
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: form.send(), range(2)))
    assert sorted(answer.status for answer in answers) == [200, 302]
    assert len(site.names(folder)) == 1 and blobs() == (1, 0)


def test_an_edit_form_that_is_sent_twice(site, folder, blobs):
    path, second = add(site, folder, noise(0, "a.bin")), noise(0, "b.bin")
    form = Form.at(site.editor, f"{path}/edit")
    form.choose_upload(FILE, sent(site, path, second, replace=True))
    form.saved()
    form.values["form.widgets.title"] = "Twice"
    form.saved()
    assert downloaded(site, path) == second.data and blobs() == (2, 0)
    assert site.editor.api("GET", path, expect=200)["title"] == "Twice"


def test_a_cancelled_form_leaves_the_upload(site, folder, blobs):
    form = add_form(site, folder)
    form.choose_upload(FILE, sent(site, folder, noise(0, "a.bin"), **{"@type": "File"}))
    assert form.send(button="cancel").status == 302
    assert site.names(folder) == [] and blobs() == (0, 0) and len(site.staged()[0]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("step", ["added", "committed"])
def test_killed(site, folder, step):
    payload = noise(0, "talk.bin")
    form = talk_form(site, folder, payload)
    with pytest.raises(OSError):
        form.send(f"kill-{step}")
    site.zope.stop()
    site.zope.start()
    assert len(site.names(folder)) == (step == "committed")
    if step == "committed":
        assert "saved already" in form.shown_again().errors
    else:
        form.saved()
    assert downloaded(site, f"{folder}/a-talk", "recording") == payload.data and len(site.names(folder)) == 1
    left = Swept(objects=1, size=len(payload.data)) if step == "committed" else Swept()
    assert sweep(site.store, -LATE - 60.0) == left  # as the sweeper finds it in a day and an hour


def test_forms_that_are_none_of_content_have_the_field_of_plone(site, folder):
    form = Form.at(site.editor, f"{folder}/@@plain-form")
    assert form.element("form.widgets.file") is None
    payload = noise(0, "a.bin")
    form.choose_file("form.widgets.file", payload)
    assert f"got {len(payload.data)}" in form.send(button="send").body.decode()
    form.files.clear()
    form.choose_upload("form.widgets.file", sent(site, folder, payload, **{"@type": "File"}))
    assert "takes no file that was uploaded directly" in errors_of(form.send(button="send"))


def test_types_without_the_uploader_have_the_field_of_plone(site, folder, blobs):
    record = "collective.s3blobstorage.uploader_portal_types"
    site.admin.api("PATCH", "@registry", {record: ["Image"]}, expect=204)
    try:
        form = add_form(site, folder)
        assert form.element(FILE) is None and add_form(site, folder, "Image").element(IMAGE)
        payload = noise(0, "a.bin")
        form.choose_file(FILE, payload)
        assert downloaded(site, form.saved()) == payload.data
    finally:
        site.admin.api("PATCH", "@registry", {record: []}, expect=204)


def test_a_form_that_is_shown_again_keeps_no_file_that_is_there(site, folder):
    """Plone itself would write the whole file that the content has to the database."""
    kept = site.admin.get("waiting").body
    path = talk_form(site, folder, noise(1, "talk.bin")).saved()
    form = Form.at(site.editor, f"{path}/edit")
    form.values["form.widgets.speaker"] = ""
    form = form.shown_again()
    assert "Required" in form.errors and f"{RECORDING}.file_upload_id" not in form.values
    assert site.admin.get("waiting").body == kept
    form.values["form.widgets.speaker"] = "Somebody"
    form.saved()


def test_names_of_files_are_text(site, folder):
    payload = Payload('a"><b>.bin', "application/octet-stream", noise(0).data)
    form = talk_form(site, folder, payload, speaker="")
    answer = form.send()
    assert b"<b>.bin" not in answer.body
    assert Form.of(site.editor, form.path, answer).element(RECORDING)["chosen"]["name"] == payload.filename


def test_at_the_root_of_the_site(site):
    payload = noise(0, "a.bin")
    client = site.admin
    form = Form.at(client, "++add++File")
    assert form.element(FILE)["place"] == f"http://localhost:{site.zope.port}/with/++api++"
    form.choose_upload(FILE, upload(client, "", payload, **{"@type": "File"})["id"])
    path = form.saved()
    assert site.admin.get(f"{path}/@@download/file").body == payload.data
