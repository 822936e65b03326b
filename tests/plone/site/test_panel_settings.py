"""“Settings” over HTTP: what is saved, what is refused, and who may."""

from __future__ import annotations

import pytest
from panel_forms import Panel, text_of
from web_client import WebClient

FIELDS = {
    "action": "save",
    "delivery_mode": "redirect",
    "delivery_minimum_size": "1000",
    "delivery_portal_types:list": ["File", "Image"],
    "delivery_mime_types": "video/*\r\napplication/pdf",
    "delivery_expiry": "120",
    "delivery_media_expiry": "600",
    "upload_maximum_size": "0",
    "upload_user_count": "50",
    "upload_user_size": "102400",
    "upload_site_size": "1048576",
    "uploader_enabled": "on",
}
NAMES = (
    "delivery_mode",
    "delivery_minimum_size",
    "delivery_portal_types",
    "delivery_mime_types",
    "delivery_anonymous_only",
    "delivery_expiry",
    "delivery_media_expiry",
)
UNTOUCHED = dict(zip(NAMES, ("stream", 0, [], [], False, 300, 3600), strict=True))


@pytest.fixture
def manager(zope):
    return WebClient(zope.port, "with", ("admin", zope.password))


@pytest.fixture
def panel(manager):
    return Panel(manager)


@pytest.fixture
def records(manager):
    """Reads the site's records; afterwards they are as they were."""

    def read():
        return {name: manager.api("GET", f"@registry/collective.s3blobstorage.{name}", expect=200) for name in NAMES}

    yield read
    for name, value in UNTOUCHED.items():
        manager.api("PATCH", "@registry", {f"collective.s3blobstorage.{name}": value}, expect=204)


def test_what_is_sent_is_saved_and_shown(panel, records):
    assert records() == UNTOUCHED
    answer = panel.post("settings", FIELDS | {"delivery_anonymous_only": "on"})
    assert answer.status == 303
    assert answer.headers["Location"].endswith("/with/@@s3blobstorage-settings")
    assert records() == {
        "delivery_mode": "redirect",
        "delivery_minimum_size": 1000,
        "delivery_portal_types": ["File", "Image"],
        "delivery_mime_types": ["video/*", "application/pdf"],
        "delivery_anonymous_only": True,
        "delivery_expiry": 120,
        "delivery_media_expiry": 600,
    }
    shown = panel.get("settings").body.decode()
    assert 'value="redirect" checked="checked"' in " ".join(shown.split())
    assert "video/*\napplication/pdf</textarea>" in shown


def test_a_mistake_saves_nothing_and_shows_what_was_sent(panel, records):
    answer = panel.post("settings", FIELDS | {"delivery_expiry": "5", "delivery_mime_types": "<b>video"})
    assert answer.status == 200
    said = text_of(answer)
    assert "Nothing was saved" in said and "At least 60." in said and "is no MIME type" in said
    assert b"&lt;b&gt;video" in answer.body and b"<b>video" not in answer.body
    assert b'value="1000"' in answer.body
    assert records() == UNTOUCHED


def test_what_zope_conf_rules_out_is_shown_with_the_reason_and_refused(panel, records):
    assert "zope.conf names no such nginx: set x-accel-location." in text_of(panel.get("settings"))
    answer = panel.post("settings", FIELDS | {"delivery_mode": "x-accel"})
    assert answer.status == 200 and "Nothing was saved" in text_of(answer)
    assert records() == UNTOUCHED


@pytest.mark.parametrize(
    "headers",
    [{}, {"Sec-Fetch-Site": "cross-site", "Origin": "https://elsewhere.example", "Referer": "https://x.example"}],
)
def test_a_foreign_page_changes_nothing(panel, records, headers):
    for token in ("", "0" * 40):
        answer = panel.post("settings", FIELDS, token=token, **headers)
        assert answer.status == 403
    assert records() == UNTOUCHED


def test_what_is_no_action_is_not_found(panel):
    assert panel.post("settings", {"action": "index"}).status == 404


@pytest.mark.parametrize("user", ["editor", None])
def test_others_see_and_change_nothing(zope, panel, records, user):
    other = Panel(WebClient(zope.port, "with", user and (user, zope.password)))
    for answer in (other.get("settings"), other.post("settings", FIELDS, token=panel.token("settings"))):
        assert answer.status in (302, 401, 403)
        assert b"delivery_mode" not in answer.body
    assert records() == UNTOUCHED


def test_a_site_without_the_add_on_has_no_such_page(zope):
    assert Panel(WebClient(zope.port, "without", ("admin", zope.password))).get("settings").status == 404
