"""A Zope process with two Plone sites on ``<s3blobstorage>``, its bucket, its users and a browser."""

from __future__ import annotations

import os
import secrets
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from editor_browser import Browsing
from editor_site import EditorSite
from fixtures_servers import s3_client
from payloads import fingerprint
from rest_sites import RestSites
from web_client import WebClient
from zope_instance import SECTION, ZopeInstance

CHROMIUM = "/usr/bin/chromium"
# No sandbox, since CI runs as root; the rest keeps it from calling home, which fails on a machine without a network.
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass(frozen=True)
class Bucket:
    """The bucket of the site, seen past the package under test."""

    name: str
    client: Any

    def keys(self) -> dict[str, int]:
        """Every key under the prefix's ``blobs/`` with its size in bytes."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix="plone/site/blobs/")
        return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", ())}

    def fingerprints(self, besides: dict[str, int] | None = None) -> Counter[tuple[int, str]]:
        """Size and SHA-256 of every blob's object, by its bytes; not of the keys in ``besides``."""
        found: Counter[tuple[int, str]] = Counter()
        for key, size in self.keys().items():
            if key in (besides or {}):
                continue
            seen = fingerprint(self.client.get_object(Bucket=self.name, Key=key)["Body"].read())
            assert seen[0] == size
            found[seen] += 1
        return found


@pytest.fixture(scope="session")
def site_bucket(s3_server) -> Iterator[Bucket]:
    client = s3_client(s3_server)
    yield Bucket(f"site-{uuid.uuid4().hex[:20]}", client)
    client.close()


@pytest.fixture(scope="session")
def zope(s3_server, site_bucket, tmp_path_factory) -> Iterator[ZopeInstance]:
    """The running instance; makes the bucket by itself (``create-bucket on``)."""
    home, cache_dir = tmp_path_factory.mktemp("instance"), tmp_path_factory.mktemp("cache")
    section = SECTION.format(bucket=site_bucket.name, server=s3_server, cache_dir=cache_dir, home=home)
    instance = ZopeInstance(home, cache_dir, section, password=secrets.token_urlsafe(12))
    instance.make()
    instance.start()
    yield instance
    instance.stop()


@pytest.fixture(scope="session")
def admin(zope) -> WebClient:
    """The Manager of the application root."""
    return WebClient(zope.port, "", ("admin", zope.password))


@pytest.fixture(scope="session")
def editor(zope) -> WebClient:
    """Who may add and edit in ``files`` of the site with the add-on."""
    return WebClient(zope.port, "with", ("editor", zope.password))


@pytest.fixture(scope="session")
def sites(s3_server, tmp_path_factory) -> Iterator[RestSites]:
    """Another instance: sites of several databases, with a user for each role."""
    made = RestSites(tmp_path_factory.mktemp("rest"), s3_server, f"rest-{uuid.uuid4().hex[:20]}")
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless Chromium. For a module, not the session: playwright occupies the thread's event loop meanwhile."""
    if not os.access(CHROMIUM, os.X_OK):
        pytest.skip(f"no {CHROMIUM}: Debian's package chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, zope) -> Iterator[Any]:
    """A page of a browser with no cookies, 1280 by 900 pixels."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, base_url=f"http://localhost:{zope.port}")
    context.set_default_timeout(60_000)
    yield context.new_page()
    context.close()


@pytest.fixture(scope="session")
def running_editor_site(s3_server, tmp_path_factory) -> Iterator[EditorSite]:
    with EditorSite(tmp_path_factory.mktemp("editor"), tmp_path_factory.mktemp("editor-cache"), s3_server) as site:
        yield site


@pytest.fixture
def editor_site(running_editor_site) -> Iterator[EditorSite]:
    """A site with direct upload, a front and a proxy before the store; without faults and counts before each test."""
    running_editor_site.as_it_was()
    yield running_editor_site
    running_editor_site.as_it_was()


@pytest.fixture
def browse(chromium, editor_site) -> Iterator[Any]:
    """Makes contexts of a browser; at the end no script of the pages may have failed."""
    made = []

    def browse(**options):
        made.append(Browsing(chromium, editor_site, **options))
        return made[-1]

    browse.made = made
    yield browse
    errors = [error for browsing in made for error in browsing.errors]
    for browsing in made:
        browsing.close()
    assert errors == []


@pytest.fixture
def folder(editor_site) -> str:
    """An empty one of the editor; its path in the site."""
    return editor_site.new_folder()


@pytest.fixture
def editing(browse) -> Browsing:
    """A browser of the editor, who is logged in."""
    browsing = browse()
    browsing.login()
    return browsing
