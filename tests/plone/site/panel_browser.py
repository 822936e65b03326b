"""Our pages in a browser: who is logged in, how a page looks, and what axe-core says of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from PIL import Image

IMAGES = os.environ.get("S3BLOBS_SCREENSHOTS")  # a folder for the manual's pictures; without it they are thrown away
PHONE = {"width": 375, "height": 812}
DESKTOP = {"width": 1280, "height": 900}

# Where our pages are in Plone's. Around it stock Plone has violations of its own; the test that uses this says which.
CONTENT = "#content-core, #content h1, #content .lead, nav.s3b-nav"


def cookies_of(browser: Any, base_url: str, site: str, user: str, password: str) -> list[Any]:
    """Those of somebody who came through Plone's login form."""
    context = browser.new_context(base_url=base_url)
    page = context.new_page()
    page.goto(f"/{site}/login")
    page.fill("[name=__ac_name]", user)
    page.fill("[name=__ac_password]", password)
    page.click("[name='buttons.login']")
    page.wait_for_url(lambda url: "/login" not in url)
    cookies = context.cookies()
    context.close()
    return cookies


def theme(page: Any, name: str) -> None:
    """Bootstrap's own switch, which a dark theme of Plone sets."""
    page.evaluate("name => { document.documentElement.dataset.bsTheme = name }", name)
    page.wait_for_timeout(250)  # links and buttons change their colour in a transition; axe would see its middle


def width_beyond(page: Any) -> int:
    """By how many pixels the page can be scrolled sideways."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def violations(page: Any, within: str = CONTENT) -> list[str]:
    """What axe-core finds in our content: rule, element and what is wrong with it."""
    parts = page.evaluate("within => within.split(', ').filter(part => document.querySelector(part))", within)
    found = Axe().run(page, context={"include": [[part] for part in parts]})
    return [
        f"{rule['id']}: {node['html'][:160]} {node.get('failureSummary', '')}"
        for rule in found.response["violations"]
        for node in rule["nodes"]
    ]


def picture(page: Any, path: Path, *, of: str = "#content", height: int | None = None) -> None:
    """Of what is ours, in as few colours as it has, since it is kept in the repository. ``height``: in pixels."""
    whole = path.with_suffix(".whole.png")
    page.locator(of).first.screenshot(path=whole, animations="disabled")
    with Image.open(whole) as image:
        if height:
            image = image.crop((0, 0, image.width, min(height, image.height)))
        image.convert("RGB").quantize(128).save(path, optimize=True)
        assert image.width >= 250 and image.getextrema() != ((255, 255),) * len(image.getbands())
    whole.unlink()
