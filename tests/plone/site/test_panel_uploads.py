"""Direct upload in “Settings” and in ``@controlpanels/s3blobstorage``: switched on, bounded, or why it cannot be."""

from __future__ import annotations

import math
import secrets
import uuid

import pytest
from panel_browser import DESKTOP, PHONE, cookies_of, theme, violations, width_beyond
from panel_forms import Panel, text_of
from rings import client_side, section_of, variables_of
from servers import faults
from servers.proxy import Proxy
from web_client import WebClient
from zope_instance import SECTION, ZopeInstance

pytestmark = pytest.mark.one_release

PREFIX = "collective.s3blobstorage."
DELIVERY = {
    "delivery_mode": "stream",
    "delivery_minimum_size": "0",
    "delivery_mime_types": "",
    "delivery_expiry": "300",
    "delivery_media_expiry": "3600",
}
FIELDS = {
    "action": "save",
    **DELIVERY,
    "upload_enabled": "on",
    "upload_maximum_size": "500",
    "upload_user_count": "5",
    "upload_user_size": "2000",
    "upload_site_size": "9000",
    "upload_portal_types:list": ["File"],
    "upload_mime_types": "Video/*\r\nimage/jpeg",
    "uploader_portal_types:list": ["Image"],
}
UNTOUCHED = {
    "upload_enabled": False,
    "upload_maximum_size": 0,
    "upload_portal_types": [],
    "upload_mime_types": [],
    "upload_user_count": 50,
    "upload_user_size": 102400,
    "upload_site_size": 1048576,
    "uploader_enabled": True,
    "uploader_portal_types": [],
}
SENT = {
    "upload_enabled": True,
    "upload_maximum_size": 500,
    "upload_portal_types": ["File"],
    "upload_mime_types": ["video/*", "image/jpeg"],
    "upload_user_count": 5,
    "upload_user_size": 2000,
    "upload_site_size": 9000,
    "uploader_enabled": False,
    "uploader_portal_types": ["Image"],
}
ORIGIN = "is not in zope.conf: add it to direct-upload-origins"


@pytest.fixture(scope="module")
def instance(s3_server, tmp_path_factory):
    """zope.conf takes files up to 1 GB and a half, from another address than the tests'."""
    home, cache = tmp_path_factory.mktemp("uploads"), tmp_path_factory.mktemp("uploads-cache")
    section = SECTION.format(bucket=f"panel-{uuid.uuid4().hex[:20]}", server=s3_server, cache_dir=cache, home=home)
    keys = "direct-upload-max-size 1536MB\n    direct-upload-origins https://www.example.org\n    owner tests"
    section = section.replace("owner tests", keys)
    made = ZopeInstance(home, cache, section, password=secrets.token_urlsafe(12), environment={"SITES": "with"})
    made.make()
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def manager(instance):
    return WebClient(instance.port, "with", ("admin", instance.password))


@pytest.fixture(scope="module")
def panel(manager):
    return Panel(manager)


@pytest.fixture
def records(manager):
    """Reads the records of direct upload; afterwards they are as they were."""

    def read():
        return {name: manager.api("GET", f"@registry/{PREFIX}{name}", expect=200) for name in UNTOUCHED}

    yield read
    manager.api("PATCH", "@registry", {PREFIX + name: value for name, value in UNTOUCHED.items()}, expect=204)


def test_what_is_sent_is_saved_and_shown(panel, records):
    assert records() == UNTOUCHED
    assert panel.post("settings", FIELDS).status == 303
    assert records() == SENT
    shown = " ".join(panel.get("settings").body.decode().split())
    assert 'id="s3b-upload-enabled" checked="checked"' in shown
    assert "video/*\nimage/jpeg</textarea>" in panel.get("settings").body.decode()
    assert panel.post("settings", {name: FIELDS[name] for name in FIELDS if name != "upload_enabled"}).status == 303
    assert records() == SENT | {"upload_enabled": False}
    assert panel.post("settings", FIELDS | {"uploader_enabled": "on"}).status == 303
    assert records() == SENT | {"uploader_enabled": True}


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("upload_maximum_size", "1537", "zope.conf allows 1536 at most (direct-upload-max-size)."),
        ("upload_maximum_size", "-1", "At least 0."),
        ("upload_user_count", "0", "At least 1."),
        ("upload_user_size", "much", "Write a whole number."),
        ("upload_site_size", "", "Write a whole number."),
        ("upload_portal_types:list", ["Nothing"], "This site has no content type Nothing."),
        ("upload_mime_types", "video", "video is no MIME type"),
        ("uploader_portal_types:list", ["Nothing"], "This site has no content type Nothing."),
    ],
)
def test_a_mistake_saves_nothing_and_is_told(panel, records, field, value, says):
    answer = panel.post("settings", FIELDS | {field: value})
    assert answer.status == 200 and says in text_of(answer)
    assert records() == UNTOUCHED
    assert 'id="s3b-upload-enabled" checked="checked"' in " ".join(answer.body.decode().split())


@pytest.mark.parametrize("part", ["upload", "uploader"])
def test_types_that_have_no_file_are_not_offered(panel, part):
    shown = panel.get("settings").body.decode()
    boxes = [line for line in shown.split("<input") if f'name="{part}_portal_types:list"' in line]
    assert {line.split('value="')[1].split('"')[0] for line in boxes} >= {"File", "Image"}
    assert not any('value="Folder"' in line for line in boxes)


def test_an_address_that_the_bucket_does_not_know_is_told(panel):
    assert ORIGIN in text_of(panel.get("settings"))


def test_what_zope_conf_came_to_forbid_is_told(panel, records, manager):
    manager.api("PATCH", "@registry", {PREFIX + "upload_maximum_size": 4000}, expect=204)
    said = text_of(panel.get("settings"))
    assert "4000 is saved, but zope.conf allows 1536 at most (direct-upload-max-size)." in said


def test_programs_read_and_change_it(manager, records):
    told = manager.api("GET", "@controlpanels/s3blobstorage", expect=200)
    assert {name: told["data"][name] for name in UNTOUCHED} == UNTOUCHED
    [part] = [each for each in told["schema"]["fieldsets"] if each["id"] == "upload"]
    assert part["fields"] == [name for name in UNTOUCHED if name.startswith("upload_")]
    assert part["title"] == "Direct upload"
    [part] = [each for each in told["schema"]["fieldsets"] if each["id"] == "uploader"]
    assert part["fields"] == ["uploader_enabled", "uploader_portal_types"] and part["title"] == "Uploading"
    manager.api("PATCH", "@controlpanels/s3blobstorage", SENT, expect=204)
    assert records() == SENT


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("upload_maximum_size", 1537, "direct-upload-max-size"),
        ("upload_maximum_size", -1, ""),
        ("upload_user_count", 0, ""),
        ("upload_enabled", "yes", ""),
        ("upload_mime_types", [1], ""),
        ("uploader_enabled", "yes", ""),
        ("uploader_portal_types", [1], ""),
    ],
)
def test_what_a_program_may_not_set(manager, records, field, value, says):
    told = manager.api("PATCH", "@controlpanels/s3blobstorage", SENT | {field: value}, expect=400)
    assert field in told["message"] and says in told["message"]
    assert records() == UNTOUCHED


@pytest.fixture(scope="module")
def cookies(chromium, instance):
    return cookies_of(chromium, f"http://localhost:{instance.port}", "with", "admin", instance.password)


@pytest.mark.chromium
@pytest.mark.parametrize("name", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_form_in_a_browser(chromium, cookies, instance, records, viewport, name):
    context = chromium.new_context(viewport=viewport, base_url=f"http://localhost:{instance.port}")
    context.add_cookies(cookies)
    page = context.new_page()
    page.goto("/with/@@s3blobstorage-settings")
    theme(page, name)
    page.get_by_label("Send files straight to the bucket").check()
    page.get_by_label("Largest file, in MB").fill("2000")
    page.get_by_role("button", name="Save").click()
    field = page.get_by_label("Largest file, in MB")
    described = page.locator(f"#{field.get_attribute('aria-describedby')}")
    assert field.get_attribute("aria-invalid") == "true" and "direct-upload-max-size" in described.inner_text()
    assert page.get_by_label("Send files straight to the bucket").is_checked()
    theme(page, name)
    assert width_beyond(page) == 0
    assert violations(page) == []
    field.fill("1000")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("The settings are saved.").wait_for()
    context.close()
    assert records() == UNTOUCHED | {"upload_enabled": True, "upload_maximum_size": 1000}


@pytest.mark.chromium
def test_the_uploader_is_on_and_can_be_switched_off_in_a_browser(chromium, cookies, instance, records):
    context = chromium.new_context(viewport=DESKTOP, base_url=f"http://localhost:{instance.port}")
    context.add_cookies(cookies)
    page = context.new_page()
    page.goto("/with/@@s3blobstorage-settings")
    box = page.get_by_label("Show the uploader on pages and forms")
    assert box.is_checked()
    box.uncheck()
    page.get_by_role("button", name="Save").click()
    page.get_by_text("The settings are saved.").wait_for()
    assert not box.is_checked()
    context.close()
    assert records() == UNTOUCHED | {"uploader_enabled": False}


class TestTheStoreCannot:
    """zope.conf allows it, blobs are encrypted here, and the store takes nothing that it is to encrypt itself."""

    @pytest.fixture(scope="class", autouse=True)
    def between(self, instance, s3_server):
        ring = client_side(secrets.token_bytes(32))
        before = instance.storage
        instance.stop()
        with Proxy(s3_server.endpoint_url) as between:
            between.fail(faults.answer(403, "AccessDenied"), method="PUT", target="/uploads/", times=math.inf)
            storage = before.replace(s3_server.endpoint_url, between.endpoint_url)
            instance.storage = storage.replace("owner tests", f"owner tests\n{section_of(ring)}")
            instance.environment |= variables_of(ring)
            instance.configure()
            instance.start()
            yield between
            instance.stop()
        instance.storage = before
        instance.configure()
        instance.start()

    def test_it_is_told_and_can_be_switched_on_all_the_same(self, panel, records):
        why = "Files cannot be sent to the bucket now: the object store refuses an object in its staging area"
        assert why in text_of(panel.get("settings")) and "direct-upload-staging none" in text_of(panel.get("settings"))
        assert panel.post("settings", FIELDS).status == 303
        assert records()["upload_enabled"] is True

    def test_it_goes_when_the_store_takes_it(self, panel, between):
        between.forgive()
        assert "Files cannot be sent" not in text_of(panel.get("settings"))


class TestForbidden:
    """The last tests of this module: zope.conf says direct-upload off from here on, though the site has it on."""

    @pytest.fixture(scope="class", autouse=True)
    def forbidden(self, instance, manager):
        manager.api("PATCH", "@registry", {PREFIX + "upload_enabled": True}, expect=204)
        instance.stop()
        instance.storage = instance.storage.replace("owner tests", "direct-upload off\n    owner tests")
        instance.configure()
        instance.start()

    def test_it_is_shown_disabled_with_the_key(self, panel):
        answer = panel.get("settings")
        assert "Cannot be switched on: zope.conf forbids it: set direct-upload on." in text_of(answer)
        assert ORIGIN not in text_of(answer)
        part = answer.body.decode().split('id="s3b-upload"')[1].split("</form>")[0]
        controls = [line.split(">")[0] for line in part.replace("<textarea", "<input").split("<input")[1:]]
        assert len(controls) > 6 and all('disabled="disabled"' in line for line in controls)
        assert not any("checked" in line for line in controls)

    def test_the_rest_is_saved_and_it_is_left_as_it_is(self, panel, manager):
        sent = {"action": "save", **DELIVERY, "delivery_minimum_size": "7", "uploader_portal_types:list": ["File"]}
        assert panel.post("settings", sent).status == 303
        assert manager.api("GET", f"@registry/{PREFIX}uploader_enabled", expect=200) is False
        assert manager.api("GET", f"@registry/{PREFIX}uploader_portal_types", expect=200) == ["File"]
        assert manager.api("GET", f"@registry/{PREFIX}delivery_minimum_size", expect=200) == 7
        assert manager.api("GET", f"@registry/{PREFIX}upload_enabled", expect=200) is True
        assert manager.api("GET", f"@registry/{PREFIX}upload_user_count", expect=200) == 50

    def test_a_program_cannot_switch_it_on(self, manager):
        told = manager.api("PATCH", "@controlpanels/s3blobstorage", {"upload_enabled": True}, expect=400)
        assert "direct-upload on" in told["message"]
        manager.api("PATCH", "@controlpanels/s3blobstorage", {"upload_enabled": False}, expect=204)
