"""``@blob-legal-hold`` and the behaviour, over HTTP, on a site whose bucket has Object Lock."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from fixtures_servers import s3_client
from servers import faults
from servers.proxy import Proxy
from web_client import WebClient, json_file
from zope_instance import MAKE_SECONDS, SECTION, ZopeInstance

pytestmark = pytest.mark.one_release

SCRIPT = Path(__file__).with_name("enable_legal_hold.py")


class Held:
    """The instance, its store behind a proxy, and its bucket past everything under test."""

    def __init__(self, instance, proxy, client, bucket):
        self.zope, self.proxy, self.client, self.bucket = instance, proxy, client, bucket
        self.manager = self.as_user("admin")

    def as_user(self, name):
        return WebClient(self.zope.port, "with", None if name is None else (name, self.zope.password))

    def held(self):
        """The bytes of all objects below blobs/ that are held, also of those that are hidden."""
        pages = self.client.get_paginator("list_object_versions").paginate(
            Bucket=self.bucket, Prefix="plone/site/blobs/"
        )
        found = set()
        for version in (one for page in pages for one in page.get("Versions", ())):
            named = {"Bucket": self.bucket, "Key": version["Key"], "VersionId": version["VersionId"]}
            told = self.client.head_object(**named)
            if told.get("ObjectLockLegalHoldStatus") == "ON":
                found.add(self.client.get_object(**named)["Body"].read())
        return found

    def add(self, name, data, **fields):
        self.manager.add("files", "File", name, file=json_file(data, f"{name}.bin", "application/x-test"), **fields)
        return f"files/{name}"

    def told(self, path, user="admin"):
        return self.as_user(user).api("GET", f"{path}/@blob-legal-hold", expect=200)


@pytest.fixture(scope="module")
def site(s3_server, tmp_path_factory):
    home, cache_dir = tmp_path_factory.mktemp("held"), tmp_path_factory.mktemp("held-cache")
    bucket = f"held-{uuid.uuid4().hex[:20]}"
    client = s3_client(s3_server)
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    with Proxy(s3_server.endpoint_url) as proxy:
        section = SECTION.format(bucket=bucket, server=s3_server, cache_dir=cache_dir, home=home)
        section = section.replace(s3_server.endpoint_url, proxy.endpoint_url)
        instance = ZopeInstance(
            home, cache_dir, section, password=secrets.token_urlsafe(12), environment={"SITES": "with"}
        )
        instance.make()
        subprocess.run(
            [sys.executable, "-m", "Zope2.utilities.zconsole", "run", home / "etc" / "zope.conf", SCRIPT,
             instance.password],
            env=instance._environment(), check=True, capture_output=True, timeout=MAKE_SECONDS,
        )  # fmt: skip
        instance.start()
        yield Held(instance, proxy, client, bucket)
        instance.stop()
    client.close()


def test_an_item_is_held_and_released(site):
    path = site.add("rest", b"by rest")
    assert site.told(path) == {
        "@id": f"{site.manager.url}/{path}/@blob-legal-hold",
        "hold": False,
        "behavior": False,
        "items": [{"field": "file", "hold": False, "where": "bucket"}],
    }
    told = site.manager.api("POST", f"{path}/@blob-legal-hold", {"hold": True}, expect=200)
    assert told["hold"] is True and site.told(path)["hold"] is True
    assert b"by rest" in site.held()
    site.manager.api("POST", f"{path}/@blob-legal-hold", {"hold": False}, expect=200)
    assert b"by rest" not in site.held()


def test_what_has_no_file_is_not_held(site):
    site.manager.api("POST", "files", {"@type": "Document", "id": "page", "title": "Page"}, expect=201)
    assert site.told("files/page") | {"@id": ""} == {"@id": "", "hold": False, "behavior": None, "items": []}


@pytest.mark.parametrize("user", [None, "editor", "boss"])
def test_who_may_not(site, user):
    path = "files/rest" if site.manager.get("files/rest").status == 200 else site.add("rest", b"by rest")
    client = site.as_user(user)
    client.api("GET", f"{path}/@blob-legal-hold", expect=401)
    client.api("POST", f"{path}/@blob-legal-hold", {"hold": True}, expect=401)


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Content-Type": "text/plain"}, b'{"hold": true}', 415),
        ({"Content-Type": "application/json", "Origin": "https://evil.example.org"}, b'{"hold": true}', 403),
        ({"Content-Type": "application/json", "Sec-Fetch-Site": "cross-site"}, b'{"hold": true}', 403),
        ({"Content-Type": "application/json"}, b'{"hold": "yes"}', 400),
        ({"Content-Type": "application/json"}, b"{}", 400),
        ({"Content-Type": "application/json"}, b"[", 400),
    ],
)
def test_what_is_no_such_request(site, headers, body, status):
    if site.manager.get("files/foreign").status != 200:
        site.add("foreign", b"foreign")
    headers = {"Accept": "application/json", **headers}
    answer = site.manager.request("POST", "files/foreign/@blob-legal-hold", body, headers)
    assert answer.status == status, answer.body
    assert b"foreign" not in site.held()


def test_what_is_saved_with_the_field_is_held(site):
    path = site.add("field", b"one", legal_hold=True)
    assert b"one" in site.held()
    assert (site.told(path)["behavior"], site.told(path)["hold"]) == (True, True)
    # Replaced by somebody who may not change the field: both are held, the one that is hidden later too.
    editor = site.as_user("editor")
    editor.api("PATCH", path, {"file": json_file(b"two", "two.bin", "application/x-test")}, expect=204)
    assert {b"one", b"two"} <= site.held()
    # Deleting is possible, and nothing is lost.
    site.manager.api("DELETE", path, expect=204)
    assert {b"one", b"two"} <= site.held()


def test_only_who_may_operate_sets_the_field_and_taking_it_away_releases_nothing(site):
    path = site.add("tick", b"tick")
    site.as_user("editor").request(
        "PATCH", path, json.dumps({"legal_hold": True}).encode(), {"Content-Type": "application/json"}
    )
    assert site.told(path)["behavior"] is False and b"tick" not in site.held()
    site.manager.api("PATCH", path, {"legal_hold": True}, expect=204)
    assert b"tick" in site.held()
    site.manager.api("PATCH", path, {"legal_hold": False}, expect=204)
    assert b"tick" in site.held() and site.told(path)["behavior"] is False


def test_a_commit_that_fails_holds_nothing(site):
    """The store takes the bytes no more: the item is not added, and no hold is asked for."""
    site.proxy.reset()
    site.proxy.fail(faults.answer(403, "AccessDenied"), method="PUT", target="/blobs/", times=100)
    body = {"@type": "File", "id": "never", "title": "Never", "legal_hold": True}
    body["file"] = json_file(b"never", "never.bin", "application/x-test")
    site.manager.api("POST", "files", body, expect=500)
    site.proxy.forgive()
    assert not [exchange for exchange in site.proxy.exchanges if "legal-hold" in exchange.line]
    assert site.manager.get("files/never").status == 404


def test_a_store_that_fails_then_leaves_the_item_and_the_log_says_so(site):
    site.proxy.fail(faults.answer(403, "AccessDenied"), method="PUT", target="legal-hold")
    path = site.add("failed", b"failed", legal_hold=True)
    site.proxy.forgive()
    assert b"failed" not in site.held()
    told = site.told(path)
    assert (told["behavior"], told["hold"]) == (True, False)
    log = site.zope.log.read_text()
    assert f"/with/{path} was saved with a legal hold, and its blob" in log
    site.manager.api("PATCH", path, {"title": "again"}, expect=204)
    assert b"failed" in site.held()
