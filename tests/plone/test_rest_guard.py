"""Which requests may change something: none that a page of another origin can have a browser send."""

from __future__ import annotations

import pytest

pytest.importorskip("plone.protect")

from plone.protect.interfaces import IDisableCSRFProtection  # noqa: E402
from zope.interface import Interface, implementer  # noqa: E402

from collective.s3blobstorage.services.guard import guard, guard_get_of_script, guard_without_body  # noqa: E402
from collective.s3blobstorage.services.refusal import Refusal  # noqa: E402


@implementer(Interface)
class Request:
    def __init__(self, **headers):
        self._headers = {name.replace("_", "-").lower(): value for name, value in headers.items()}

    def getHeader(self, name):
        return self._headers.get(name.lower())


class Site:
    def __init__(self, url):
        self._url = url

    def absolute_url(self):
        return self._url


SITE = Site("https://www.example.org/plone")
JSON = "application/json"


def let_through(site=SITE, **headers):
    request = Request(**headers)
    try:
        guard(request, site)
    except Refusal as refusal:
        assert not IDisableCSRFProtection.providedBy(request)  # it stays under plone.protect
        return refusal.status
    assert IDisableCSRFProtection.providedBy(request)
    return None


@pytest.mark.parametrize(
    "declared", [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
                 "text/plain; application/json", "application/jsonp", "application/json-patch+json", "text/json"],
)  # fmt: skip
def test_another_type_than_json(declared):
    headers = {} if declared is None else {"Content_Type": declared}
    assert let_through(**headers) == 415
    assert let_through(**headers, Origin="https://www.example.org", Sec_Fetch_Site="same-origin") == 415


@pytest.mark.parametrize("declared", [JSON, "Application/JSON", "application/json; charset=utf-8", " application/json"])
def test_json_of_a_program(declared):
    assert let_through(Content_Type=declared) is None


@pytest.mark.parametrize(
    ("fetch_site", "status"),
    [("cross-site", 403), ("same-site", 403), ("CROSS-SITE", 403), ("unheard-of", 403), ("same-origin", None),
     ("none", None), ("", None)],
)  # fmt: skip
def test_what_a_browser_says_of_the_page(fetch_site, status):
    assert let_through(Content_Type=JSON, Sec_Fetch_Site=fetch_site) == status
    assert let_through(Content_Type=JSON, Sec_Fetch_Site=fetch_site, Origin="https://www.example.org") == status


FOREIGN = [
    "https://evil.example.com", "http://www.example.org", "https://www.example.org:8443", "https://example.org",
    "https://www.example.org.evil.com", "https://evil.com/https://www.example.org", "null", "", "https://",
    "https://www.example.org@evil.com", "https://evil.com@www.example.org", "https://[::1",
    "https://www.example.org:x", "www.example.org",
]  # fmt: skip


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_foreign_origin(origin):
    assert let_through(Content_Type=JSON, Origin=origin) == 403
    assert let_through(Content_Type=JSON, Origin=origin, Sec_Fetch_Site="same-origin") == 403


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://www.example.org", "https://www.example.org"),
        ("https://www.example.org/a/b", "https://WWW.example.org"),
        ("https://www.example.org:443/plone", "https://www.example.org"),
        ("http://localhost:8080/plone", "http://localhost:8080"),
        ("http://www.example.org", "http://www.example.org:80"),
        ("http://[::1]:8080/plone", "http://[::1]:8080"),
    ],
)
def test_the_sites_own_origin_as_the_visitor_sees_it(url, origin):
    assert let_through(Site(url), Content_Type=JSON, Origin=origin) is None


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, None),
        ({"Sec_Fetch_Site": "same-origin", "Origin": "https://www.example.org"}, None),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_a_request_without_a_body(headers, status):
    request = Request(**headers)
    try:
        guard_without_body(request, SITE)
    except Refusal as refusal:
        assert refusal.status == status and not IDisableCSRFProtection.providedBy(request)
    else:
        assert status is None and IDisableCSRFProtection.providedBy(request)


OWN = "https://www.example.org"


@pytest.mark.parametrize(
    ("headers", "lets_through"),
    [
        # As Chromium and Firefox send the fetch of a script; without a mode no browser does.
        ({"Sec_Fetch_Site": "same-origin", "Sec_Fetch_Mode": "cors", "Referer": f"{OWN}/plone/files"}, True),
        ({"Sec_Fetch_Site": "same-origin", "Sec_Fetch_Mode": "same-origin"}, True),
        ({"Sec_Fetch_Site": "same-origin"}, False),
        # A link, a picture or a frame in a page of the site itself; an address that the user typed.
        ({"Sec_Fetch_Site": "same-origin", "Sec_Fetch_Mode": "navigate"}, False),
        ({"Sec_Fetch_Site": "same-origin", "Sec_Fetch_Mode": "no-cors"}, False),
        ({"Sec_Fetch_Site": "none", "Sec_Fetch_Mode": "navigate"}, False),
        ({"Sec_Fetch_Site": "none", "Referer": f"{OWN}/"}, False),
        # Another page, whatever else it says.
        ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "cors"}, False),
        ({"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "cors", "Referer": f"{OWN}/"}, False),
        ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "cors", "Origin": OWN}, False),
        ({"Sec_Fetch_Site": "same-origin", "Sec_Fetch_Mode": "cors", "Origin": "https://evil.example"}, False),
        # A browser that says nothing of that, as over http.
        ({"Referer": f"{OWN}/plone/files?a=b"}, True),
        ({"Origin": OWN}, True),
        ({"Referer": "https://evil.example/"}, False),
        ({"Referer": f"https://evil.example/{OWN}/"}, False),
        ({"Referer": "http://www.example.org/"}, False),
        ({"Referer": ""}, False),
        ({"Origin": "null", "Referer": f"{OWN}/"}, False),
        ({"Origin": "https://evil.example", "Referer": f"{OWN}/"}, False),
        ({}, False),
    ],
    ids=lambda value: "-".join(value.values()) or "nothing" if isinstance(value, dict) else "",
)
def test_a_get_that_changes_something(headers, lets_through):
    request = Request(**headers)
    try:
        guard_get_of_script(request, SITE)
    except Refusal as refusal:
        assert not lets_through and refusal.status == 403 and not IDisableCSRFProtection.providedBy(request)
    else:
        assert lets_through and IDisableCSRFProtection.providedBy(request)
