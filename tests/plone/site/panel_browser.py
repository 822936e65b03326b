"""The control panel in a browser: who is logged in, how the page looks, and what axe-core says of it."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.sync_playwright import Axe

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
