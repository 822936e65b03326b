"""``@controlpanels/s3blobstorage`` over HTTP: who may read and change it by which verb, and within which bounds."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from rest_examples import exchanges
from rest_sites import FOREIGN, ROLES

pytestmark = pytest.mark.one_release

PANEL = "@controlpanels/s3blobstorage"
USERS = (None, *ROLES, "root")


def panel(sites, site, user, method, body=None, **headers):
    return sites.ask(site, user, method, PANEL, body, **headers)


@pytest.mark.parametrize("user", USERS)
def test_who_reads_and_changes_the_panel(sites, user):
    may = user in ("Site Administrator", "Manager", "root")
    refused = (401, 403, 404)
    answer = panel(sites, "one", user, "GET")
    assert answer.status == 200 if may else answer.status in refused
    answer = panel(sites, "one", user, "PATCH", {"delivery_minimum_size": 10})
    assert answer.status == 204 if may else answer.status in refused
    # Plone's panels are neither added nor deleted, whoever asks.
    assert panel(sites, "one", user, "POST", {}).status in ((404,) if may else refused)
    assert panel(sites, "one", user, "DELETE").status in ((400,) if may else (400, *refused))
    listed = sites.ask("one", user, "GET", "@controlpanels")
    assert (b"s3blobstorage" in listed.body) is may
    if may:
        assert panel(sites, "one", user, "PATCH", {"delivery_minimum_size": 0}).status == 204
    assert panel(sites, "one", "root", "GET").json["data"]["delivery_minimum_size"] == 0


def test_the_security_tab_of_a_site_is_obeyed_by_every_verb(sites):
    """Site Administrators of this one keep Plone's own permission for Site Setup, and are refused ours."""
    assert panel(sites, "restricted", "Manager", "GET").status == 200
    assert sites.ask("restricted", "Site Administrator", "GET", "@controlpanels/site").status == 200
    for method, body in (("GET", None), ("PATCH", {"delivery_minimum_size": 10}), ("POST", {})):
        assert panel(sites, "restricted", "Site Administrator", method, body).status in (401, 403, 404), method
        below = sites.ask("restricted", "Site Administrator", method, f"{PANEL}/x", body)
        assert below.status in (401, 403, 404), (method, below.body)
    assert sites.ask("restricted", "Site Administrator", "DELETE", f"{PANEL}/x").status in (401, 403, 404)
    assert b"s3blobstorage" not in sites.ask("restricted", "Site Administrator", "GET", "@controlpanels").body
    assert panel(sites, "restricted", "Manager", "GET").json["data"]["delivery_minimum_size"] == 0


def test_the_panel_in_the_form_of_plone(sites):
    told = panel(sites, "one", "Site Administrator", "GET").json
    assert told["@id"].endswith(f"/one/{PANEL}") and told["title"] == "Blob storage"
    assert told["data"]["delivery_expiry"] == 300 and "delivery_mode" in told["schema"]["properties"]
    listed = sites.ask("one", "Site Administrator", "GET", "@controlpanels").json
    [entry] = [one for one in listed if one["@id"].endswith(PANEL)]
    assert entry["title"] == "Blob storage" and entry["group"]


@pytest.mark.parametrize(
    ("sent", "field", "says"),
    [
        ({"delivery_mode": "proxy"}, "delivery_mode", "delivery-modes"),
        ({"delivery_mode": "x-accel"}, "delivery_mode", "delivery-modes"),
        ({"delivery_mode": "carrier pigeon"}, "delivery_mode", ""),
        ({"delivery_mode": None}, "delivery_mode", ""),
        ({"delivery_expiry": 601}, "delivery_expiry", "presign-max-expiry"),
        ({"delivery_media_expiry": 86400}, "delivery_media_expiry", "600"),
        ({"delivery_expiry": 59}, "delivery_expiry", ""),
        ({"delivery_expiry": "300"}, "delivery_expiry", ""),
        ({"delivery_expiry": True}, "delivery_expiry", ""),
        ({"delivery_minimum_size": -1}, "delivery_minimum_size", ""),
        ({"delivery_mime_types": "video/mp4"}, "delivery_mime_types", ""),
        ({"delivery_mime_types": [1]}, "delivery_mime_types", ""),
        ({"bucket_name": "x"}, "bucket_name", "none of the settings"),
    ],
)
def test_what_a_change_may_not_be(sites, sent, field, says):
    """One message names the field, and nothing of the request is changed."""
    answer = panel(sites, "one", "Manager", "PATCH", {"delivery_anonymous_only": True, **sent})
    assert answer.status == 400, answer.body
    assert field in answer.json["message"] and says in answer.json["message"]
    assert panel(sites, "one", "Manager", "GET").json["data"]["delivery_anonymous_only"] is False


def test_a_change_is_kept(sites):
    sent = {"delivery_mode": "redirect", "delivery_expiry": 600, "delivery_mime_types": ["video/*"]}
    assert panel(sites, "one", "Manager", "PATCH", sent).status == 204
    data = panel(sites, "one", "Manager", "GET").json["data"]
    assert data["delivery_expiry"] == 600 and data["delivery_mime_types"] == ["video/*"]
    assert data["delivery_mode"]["token"] == "redirect"
    assert panel(sites, "one", "Manager", "PATCH", {"delivery_mode": data["delivery_mode"]}).status == 204
    back = {"delivery_mode": "stream", "delivery_expiry": 300, "delivery_mime_types": []}
    assert panel(sites, "one", "Manager", "PATCH", back).status == 204


@pytest.mark.parametrize("headers", FOREIGN, ids=lambda headers: "-".join(map(str, *headers.items())))
def test_a_foreign_page_changes_no_setting(sites, headers):
    answer = panel(sites, "one", "Manager", "PATCH", {"delivery_anonymous_only": True}, **headers)
    assert answer.status in (400, 403)
    assert panel(sites, "one", "Manager", "GET").json["data"]["delivery_anonymous_only"] is False


def test_the_bounds_hold_where_records_are_written_around_the_panel(sites):
    """plone.restapi's @registry asks neither for our permission nor for zope.conf's bounds."""
    name = "collective.s3blobstorage.delivery_"

    def write(**values):
        records = {name + field: value for field, value in values.items()}
        assert sites.ask("one", "Manager", "PATCH", "@registry", records).status == 204

    write(mode="redirect", expiry=604800)
    try:
        told = sites.ask("one", "Manager", "GET", "file-0/@blob-url/file").json
        assert told["mode"] == "redirect"
        assert parse_qs(urlsplit(told["url"]).query)["X-Amz-Expires"] == ["600"]
        write(mode="proxy")  # which delivery-modes of zope.conf leaves out
        assert sites.ask("one", "Manager", "GET", "file-0/@blob-url/file").json["mode"] == "stream"
    finally:
        write(mode="stream", expiry=300)


@pytest.mark.parametrize("example", exchanges("@controlpanels"), ids=str)
def test_the_examples_of_the_documentation(sites, example):
    answer = sites.ask("one", "Manager", example.method, example.path.removeprefix("/plone/"), example.body)
    assert answer.status == example.status
    if example.answer:
        assert {name: answer.json[name] for name in example.answer} == example.answer
    sites.ask("one", "Manager", "PATCH", PANEL, {"delivery_mode": "stream", "delivery_expiry": 300})
