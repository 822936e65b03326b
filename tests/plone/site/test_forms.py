"""An editor with a browser: Plone's own add forms in headless Chromium, and what a visitor then sees."""

from __future__ import annotations

import payloads
import pytest

pytestmark = pytest.mark.chromium


@pytest.fixture
def logged_in(page, zope):
    """The page of somebody who came through Plone's login form."""
    page.goto("/with/login")
    page.fill("[name=__ac_name]", "editor")
    page.fill("[name=__ac_password]", zope.password)
    page.click("[name='buttons.login']")
    page.wait_for_url(lambda url: "/login" not in url)
    return page


@pytest.fixture
def submit_add_form(logged_in, tmp_path):
    """Fill an add form of ``files`` with a file from the disk and save it; gives the item's path in the site."""

    def submit(portal_type: str, title: str | None, selector: str, payload: payloads.Payload) -> str:
        file = tmp_path / payload.filename
        file.write_bytes(payload.data)
        logged_in.goto(f"/with/files/++add++{portal_type}")
        if title is not None:
            logged_in.fill("[name$='title']", title)
        logged_in.set_input_files(selector, file)
        logged_in.click("[name='form.buttons.save']")
        logged_in.wait_for_url(lambda url: "++add++" not in url)
        assert logged_in.locator(".portalMessage.statusmessage-error, .alert-danger").count() == 0
        return logged_in.url.partition("/with/")[2].removesuffix("/view").rstrip("/")

    return submit


@pytest.fixture(scope="module")
def uploaded() -> dict[str, payloads.Payload]:
    """What the forms have brought in, by the path of its download; the last test reads all of it again."""
    return {}


def check(client, path: str, payload: payloads.Payload) -> None:
    answer = client.get(path)
    assert answer.status == 200
    assert payloads.fingerprint(answer.body) == payload.fingerprint


@pytest.mark.parametrize("kind", ["pdf", "large"])
def test_file(submit_add_form, logged_in, editor, site_bucket, uploaded, tier, tmp_path, kind):
    payload = payloads.pdf("form.pdf") if kind == "pdf" else payloads.noise(tier["site_file_mb"], "form.bin")
    keys = site_bucket.keys()
    path = submit_add_form("File", None, "input[type=file]", payload)
    assert site_bucket.fingerprints(besides=keys)[payload.fingerprint] == 1  # beside thumbnails of the page's portlets
    uploaded[f"{path}/@@download/file"] = payload
    check(editor, f"{path}/@@download/file", payload)
    # What the browser itself saves when the editor follows the item's link.
    with logged_in.expect_download() as download:
        logged_in.evaluate("url => { window.location = url }", f"/with/{path}/@@download/file")
    saved = tmp_path / "saved"
    download.value.save_as(saved)
    assert download.value.suggested_filename == payload.filename
    assert payloads.fingerprint(saved.read_bytes()) == payload.fingerprint


@pytest.mark.parametrize(
    "portal_type, selector", [("Image", "input[type=file]"), ("News Item", "input[type=file][name*=ILeadImage]")]
)
def test_picture_is_shown_to_the_editor(
    submit_add_form, logged_in, editor, site_bucket, uploaded, tmp_path, portal_type, selector
):
    payload = payloads.png(f"{portal_type.lower().replace(' ', '-')}.png")
    keys = site_bucket.keys()
    path = submit_add_form(portal_type, f"{portal_type} of a form", selector, payload)
    assert site_bucket.fingerprints(besides=keys)[payload.fingerprint] == 1
    uploaded[f"{path}/@@images/image"] = payload
    check(editor, f"{path}/@@download/image", payload)
    # The pictures of the page (the item's own, thumbnails in portlets) as the browser decoded them: one that did not
    # arrive whole has no width.
    logged_in.goto(f"/with/{path}/view", wait_until="networkidle")
    widths = [
        picture.evaluate("image => image.complete && image.naturalWidth")
        for picture in logged_in.locator("img[src*='@@images']").all()
    ]
    assert min(widths) > 0
    assert max(widths) >= 400  # at least Plone's preview scale
    logged_in.screenshot(path=tmp_path / "picture.png")


def test_all_of_it_after_a_restart_with_an_empty_cache(zope, editor, uploaded):
    if not uploaded:
        pytest.skip("reads what the tests above have uploaded: run the module as a whole")
    zope.restart_with_empty_cache()
    for path, payload in uploaded.items():
        check(editor, path, payload)
