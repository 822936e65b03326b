"""An editor in a browser: logged in, in some language and width, with what the policy of the page refused."""

from __future__ import annotations

from typing import Any

from editor_site import EditorSite
from panel_browser import DESKTOP

NARROW = {"width": 360, "height": 740}

__all__ = ["DESKTOP", "NARROW", "Browsing", "strict_policy"]

# Told by the page itself, since the console has other words for it in each release of Chromium.
_LISTEN = """document.addEventListener('securitypolicyviolation', (event) => {
    const element = event.target instanceof Element ? event.target : null
    window.refusedByPolicy({
        directive: event.effectiveDirective, blocked: event.blockedURI, source: event.sourceFile,
        element: element ? element.outerHTML.slice(0, 200) : '',
        inside: Boolean(element && element.closest('[data-s3blobs-uploader], .s3blobs-uploader')) })
})"""


def strict_policy(store: str) -> str:
    """What a site sets that allows nothing inline and nothing of others, but what direct upload and Plone need.

    ``blob:`` and ``data:`` are for pictures only: previews of chosen files, Plone's icons.
    """
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data: blob:;"
        f" connect-src 'self' {store}; form-action 'self'; base-uri 'self'; frame-ancestors 'self'"
    )


class Browsing:
    """A context of its own: no cookies before ``login()``.

    ``refused``: what the Content-Security-Policy of its pages refused. ``errors``: what scripts did not catch.
    """

    def __init__(self, browser: Any, site: EditorSite, *, language: str = "en", width: dict | None = None, **more: Any):
        self.site = site
        self.refused: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self.context = browser.new_context(
            base_url=f"{site.front.origin}/with/", viewport=width or DESKTOP, locale=language, **more
        )
        self.context.set_default_timeout(60_000)
        self.context.expose_binding("refusedByPolicy", lambda _source, told: self.refused.append(told))
        self.context.add_init_script(_LISTEN)

    def login(self, user: str = "editor") -> None:
        """By Plone's form, as people do."""
        page = self.page("login")
        page.fill("[name=__ac_name]", user)
        page.fill("[name=__ac_password]", self.site.zope.password)
        page.click("[name='buttons.login']")
        page.wait_for_url(lambda url: "/login" not in url)
        page.close()

    def logout(self) -> None:
        """As a session that is over: the cookies are gone, and no page is told."""
        self.context.clear_cookies()

    def page(self, path: str) -> Any:
        """A new page at that path of the site."""
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(path)
        return page

    def refused_of_ours(self) -> list[dict[str, Any]]:
        """Without what stock Plone is refused: styles that its scripts put into pages, and one attribute ``style``."""
        ours = "collective.s3blobstorage"
        return [told for told in self.refused if told["inside"] or ours in told["source"] or ours in told["blocked"]]

    def close(self) -> None:
        self.context.close()
