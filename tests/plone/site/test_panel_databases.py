"""The pages over real storages: two databases and several sites in one Zope, each with its own numbers."""

from __future__ import annotations

import time
import uuid
from types import SimpleNamespace

import pytest
from panel_forms import Panel, text_of
from rest_sites import RestSites
from servers.proxy import Proxy

pytestmark = pytest.mark.one_release

FILES = {"main": 3, "second": 4}  # of make_rest_sites.py: sites one and two are in main


@pytest.fixture(scope="module")
def proxy(s3_server):
    """Between Zope and the store; counts what is asked."""
    with Proxy(s3_server.endpoint_url) as between:
        yield between


@pytest.fixture(scope="module")
def sites(s3_server, proxy, tmp_path_factory):
    server = SimpleNamespace(
        endpoint_url=proxy.endpoint_url,
        region=s3_server.region,
        access_key=s3_server.access_key,
        secret_key=s3_server.secret_key,
    )
    made = RestSites(tmp_path_factory.mktemp("databases"), server, f"panels-{uuid.uuid4().hex[:20]}")
    made.instance.zcml = ""  # the package's own storages, not the contract's
    made.start()
    yield made
    made.stop()


@pytest.fixture
def panel(sites):
    return lambda site="one", role="root": Panel(sites.as_user(site, role))


def said(answer):
    assert answer.status == 200, answer.body[:500]
    return text_of(answer).replace("\N{NO-BREAK SPACE}", " ")


def done(panel, answer):
    """The text of the job's page, once it is done."""
    assert answer.status == 303
    address = answer.headers["Location"].partition("?")[2]
    query = dict(pair.split("=") for pair in address.split("&"))
    deadline = time.monotonic() + 60
    while b'"running": true' in panel.get("job-state", **query).body:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    shown = said(panel.get("jobs", **query))
    return shown[shown.index("All jobs") :]


def test_before_anybody_looked_nothing_is_called_good(panel):
    shown = said(panel().get("controlpanel"))
    shown = shown[shown.index("Blob storage Files") :]
    assert "Nothing is wrong, but not everything is known yet." in shown
    assert "Files in the bucket not counted yet" in shown
    assert "Last check ? none yet" in shown


@pytest.mark.parametrize(("site", "database"), [("one", "main"), ("two", "main"), ("second/site", "second")])
def test_each_site_shows_its_own_database(panel, site, database):
    shown = said(panel(site).get("controlpanel"))
    assert f"Folder in the bucket {database} " in shown
    assert f"Belongs to {database}.example.org" in shown
    assert f"Database {database} (FileStorage)" in shown


def test_who_operates_chooses_between_the_databases(panel):
    own = panel().get("controlpanel")
    assert "?database=second" in own.body.decode() and "?database=plain" not in own.body.decode()
    other = panel().get("controlpanel", database="second")
    assert "Belongs to second.example.org" in said(other)
    assert "@@s3blobstorage-jobs?database=second" in other.body.decode()
    assert panel().get("controlpanel", database="plain").status == 404


def test_a_manager_of_one_site_sees_no_names_and_no_other_database(panel):
    manager = panel("one", "Manager")
    answer = manager.get("controlpanel")
    assert "You see what concerns your site." in said(answer)
    for name in (b"example.org", b"panels-", b"database=second", b"@@s3blobstorage-jobs"):
        assert name not in answer.body
    for page in ("controlpanel", "try", "jobs", "settings"):
        assert manager.get(page, database="second").status in (403, 404)


def test_site_operations_lets_a_sites_manager_operate_that_database_only(panel):
    manager = panel("second/site", "Manager")
    answer = manager.get("controlpanel")
    assert "Belongs to second.example.org" in said(answer) and b"@@s3blobstorage-jobs" in answer.body
    assert b"database=main" not in answer.body
    assert manager.get("jobs", database="main").status == 404


@pytest.mark.parametrize("database", ["main", "second"])
def test_a_count_is_of_the_database_that_was_chosen(panel, database):
    root = panel()
    answer = root.post("controlpanel", {"action": "count", "database": database})
    assert f"Files in the bucket {FILES[database]} (" in done(root, answer)
    deadline = time.monotonic() + 60  # what the bucket keeps is read anew after some seconds
    while f"Files in the bucket {FILES[database]} (" not in (
        shown := said(root.get("controlpanel", database=database))
    ):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert "Counted just now" in shown


def test_a_check_is_kept(panel):
    root = panel()
    assert root.post("controlpanel", {"action": "check"}).status == 303
    shown = said(root.get("controlpanel"))
    assert "Last check ✓ just now" in shown
    assert "conditional writes" in shown


def test_a_trial_goes_its_whole_way(panel):
    shown = said(panel().post("try", {"action": "try"}))
    assert "It works." in shown
    assert "Fetch it by that address, as a visitor’s browser would" in shown


def test_a_plan_that_has_nothing_to_delete_cannot_be_done(panel):
    root = panel()
    answer = root.post("jobs", {"action": "plan", "kind": "gc"})
    shown = done(root, answer)
    assert "Clean up (plan) ✓ done" in shown
    assert f"Needed {FILES['main']} (" in shown
    assert "Do it" not in shown
    job = answer.headers["Location"].rpartition("job=")[2]
    ran = said(root.get("jobs")).count("Clean up")
    assert root.post("jobs", {"action": "do", "job": job}).headers["Location"].endswith("@@s3blobstorage-jobs")
    assert said(root.get("jobs")).count("Clean up") == ran


@pytest.mark.parametrize("page", ["controlpanel", "try", "jobs", "settings"])
def test_a_look_lists_no_blobs_and_writes_nothing(panel, proxy, page):
    root = panel()
    root.get(page)
    proxy.reset()
    assert root.get(page).status == 200
    asked = proxy.exchanges
    assert {each.method for each in asked} <= {"GET", "HEAD"}
    listed = [each.line for each in asked if each.operation.startswith("ListObjects")]
    assert [line for line in listed if "blobs%2F" in line] == []


def test_a_database_without_a_bucket_has_the_lines_to_copy(panel):
    shown = said(panel("plain/site").get("controlpanel"))
    assert "The files of this site are not in a bucket." in shown and "<s3blobstorage>" in shown
