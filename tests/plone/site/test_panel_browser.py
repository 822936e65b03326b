"""A site's manager with a browser: “Settings” and “Try it”, on a desktop and on a phone, light and dark."""

from __future__ import annotations

import base64

import pytest
from panel_browser import DESKTOP, PHONE, cookies_of, theme, violations, width_beyond
from web_client import WebClient

pytestmark = pytest.mark.chromium

PAGES = ("settings", "try?item=files/clip")


@pytest.fixture(scope="module")
def manager(zope):
    return WebClient(zope.port, "with", ("admin", zope.password))


@pytest.fixture(scope="module", autouse=True)
def clip(manager):
    data = base64.b64encode(b"x" * 5000).decode()
    file = {"data": data, "encoding": "base64", "filename": "clip.mp4", "content-type": "video/mp4"}
    manager.add("files", "File", "clip", file=file)
    yield
    manager.api("DELETE", "files/clip", expect=204)


@pytest.fixture(scope="module")
def cookies(chromium, zope):
    return cookies_of(chromium, f"http://localhost:{zope.port}", "with", "admin", zope.password)


@pytest.fixture
def panel(page, cookies):
    page.context.add_cookies(cookies)
    return page


def test_from_site_setup_to_a_saved_setting(panel, manager):
    panel.goto("/with/@@overview-controlpanel")
    entry = panel.locator("#content a:visible", has_text="Blob storage")
    assert entry.get_attribute("href").endswith("/with/@@s3blobstorage-controlpanel")
    panel.goto("/with/@@s3blobstorage-settings")
    assert panel.get_by_label("As Plone does it").is_checked()
    assert panel.get_by_label("Through the web server").is_disabled()
    panel.get_by_label("Straight from the bucket").check()
    panel.get_by_label("Smallest file, in bytes").fill("1000")
    panel.locator("#s3b-delivery-types-is").locator("..").get_by_label("File", exact=True).check()
    panel.get_by_role("button", name="Save").click()
    panel.get_by_text("The settings are saved.").wait_for()
    try:
        assert panel.get_by_label("Straight from the bucket").is_checked()
        panel.get_by_role("link", name="Try it", exact=True).click()
        panel.get_by_label("Address of a page").fill("/files/clip")
        panel.get_by_role("button", name="Tell me").click()
        answer = panel.locator(".card", has_text="clip.mp4")
        assert "Straight from the bucket: So it is set for this site." in " ".join(answer.inner_text().split())
    finally:
        records = {"mode": "stream", "minimum_size": 0, "portal_types": []}
        told = {f"collective.s3blobstorage.delivery_{name}": value for name, value in records.items()}
        manager.api("PATCH", "@registry", told, expect=204)


def test_a_mistake_is_said_where_it_is(panel):
    panel.goto("/with/@@s3blobstorage-settings")
    field = panel.get_by_label("Expiry", exact=True)
    field.fill("5")
    panel.get_by_role("button", name="Save").click()
    assert field.get_attribute("aria-invalid") == "true"
    described = panel.locator(f"#{field.get_attribute('aria-describedby')}")
    assert "At least 60." in described.inner_text()
    assert field.input_value() == "5"
    assert violations(panel) == []


@pytest.mark.parametrize("name", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("path", PAGES)
def test_every_page_fits_and_can_be_read(panel, path, viewport, name):
    panel.set_viewport_size(viewport)
    panel.goto(f"/with/@@s3blobstorage-{path}")
    theme(panel, name)
    assert width_beyond(panel) == 0
    assert violations(panel) == []


def test_axe_would_find_something(panel):
    panel.goto("/with/@@s3blobstorage-settings")
    panel.evaluate("document.querySelector('label[for=s3b-delivery-mime-types]').remove()")
    panel.evaluate("document.querySelector('#content h1').style.color = '#eee'")
    found = " ".join(violations(panel))
    assert "label: <textarea" in found and "color-contrast: <h1" in found


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs_inline(panel, zope):
    """As a site with a strict Content Security Policy would have it: for what is ours."""
    asked = []
    panel.on("request", lambda request: asked.append(request.url))
    for path in PAGES:
        panel.goto(f"/with/@@s3blobstorage-{path}")
        inline = panel.locator("#content-core [style], #content-core script, #content-core [onclick]")
        assert inline.count() == 0
    assert {url.split("/")[2] for url in asked if not url.startswith("data:")} == {f"localhost:{zope.port}"}
    ours = {url.rpartition("/")[2] for url in asked if "++resource++collective.s3blobstorage" in url}
    assert ours == {"s3blobstorage.css", "s3blobstorage.js"}


def test_other_pages_load_nothing_of_ours(panel):
    asked = []
    panel.on("request", lambda request: asked.append(request.url))
    for path in ("@@overview-controlpanel", "@@site-controlpanel", "files"):
        panel.goto(f"/with/{path}")
    assert asked and not [url for url in asked if "s3blobstorage" in url]


@pytest.mark.chromium
@pytest.mark.parametrize(
    ("about", "heads"),
    [
        ("Types of content", ["Type", "Files", "Size", "Of it only in the history"]),
        ("The largest files", ["Content", "Type", "Stored", "Size"]),
        ("Growth by month", ["Month", "Files", "Size", "Of it only in the history", "In all"]),
    ],
)
def test_a_report_of_what_takes_the_room(panel, tmp_path, about, heads):
    panel.goto("/with/@@s3blobstorage-jobs")
    card = panel.get_by_role("region", name="What takes the room")
    card.get_by_label("About").select_option(label=about)
    card.get_by_role("button", name="Start").click()
    panel.get_by_role("heading", name=about).wait_for()
    assert panel.locator("table th[scope=col]").all_inner_texts() == heads
    assert panel.locator("table tbody tr").count() >= 1
    panel.screenshot(path=str(tmp_path / "report.png"), full_page=True)


def test_in_german(panel, manager):
    """A site in German: the language is the site's, and every text of the page is in it."""
    manager.api("PATCH", "@registry", {"plone.available_languages": ["en", "de"]}, expect=204)
    manager.api("PATCH", "@registry", {"plone.default_language": "de"}, expect=204)
    try:
        panel.goto("/with/@@s3blobstorage-settings")
        assert panel.get_by_role("heading", name="Blob-Speicher").is_visible()
        assert panel.get_by_label("Direkt aus dem Bucket").is_enabled()
        assert panel.get_by_role("button", name="Speichern").is_visible()
    finally:
        manager.api("PATCH", "@registry", {"plone.default_language": "en"}, expect=204)
        manager.api("PATCH", "@registry", {"plone.available_languages": ["en"]}, expect=204)
