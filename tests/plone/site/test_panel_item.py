"""“Which way does a file go, and why?”: of content that the user may view, and of nothing else."""

from __future__ import annotations

import base64

import pytest
from panel_forms import FORM, Panel, text_of
from web_client import WebClient

DATA = base64.b64encode(b"x" * 5000).decode()


@pytest.fixture(scope="module")
def client(zope):
    return WebClient(zope.port, "with", ("admin", zope.password))


@pytest.fixture(scope="module")
def film(client):
    file = {"data": DATA, "encoding": "base64", "filename": "film.mp4", "content-type": "video/mp4"}
    yield client.add("files", "File", "film", file=file)
    client.api("DELETE", "files/film", expect=204)


@pytest.fixture
def policy(client):
    """Sets records of delivery; afterwards they are as they were."""
    before = {}

    def set_(**records):
        for name, value in records.items():
            key = f"collective.s3blobstorage.delivery_{name}"
            before.setdefault(key, client.api("GET", f"@registry/{key}", expect=200))
            client.api("PATCH", "@registry", {key: value}, expect=204)

    yield set_
    for key, value in before.items():
        client.api("PATCH", "@registry", {key: value}, expect=204)


@pytest.fixture
def answered(client, film):
    return lambda item="files/film": text_of(Panel(client).get("try", item=item))


@pytest.mark.parametrize(
    "address",
    [
        "files/film",
        "/files/film",
        "{site}/files/film",
        "{site}/files/film/view",
        "{site}/files/film/@@download/file/film.mp4",
        "{site}/files/film?x=1#y",
        " {site}/files/film ",
    ],
)
def test_an_address_is_whatever_a_browser_shows(answered, client, address):
    said = answered(address.format(site=client.url))
    assert "film.mp4 5 kB, video/mp4" in said.replace("\N{NO-BREAK SPACE}", " ")
    assert "Everybody As Plone does it : So it is set for this site." in said


def test_a_redirect_says_for_how_long(answered, policy):
    policy(mode="redirect", media_expiry=600)
    said = answered().replace("\N{NO-BREAK SPACE}", " ")
    assert "Straight from the bucket : So it is set for this site. An address is good for 10 min at most." in said


def test_what_the_settings_are_not_for_says_why(answered, policy):
    policy(mode="redirect", minimum_size=5001)
    assert "As Plone does it : The file is smaller than the smallest" in answered()
    policy(minimum_size=0, mime_types=["image/*"])
    assert "As Plone does it : The settings are not for files of this MIME type." in answered()
    policy(mime_types=[], portal_types=["Image"])
    assert "As Plone does it : The settings are not for content of this type." in answered()


def test_x_accel_without_nginx_is_proxied(answered, policy):
    policy(mode="x-accel")
    assert "Through Plone, piece by piece : zope.conf names no nginx" in answered()


def test_visitors_and_users_may_get_it_in_two_ways(answered, policy):
    policy(mode="proxy", anonymous_only=True)
    said = answered()
    assert "Visitors who are not logged in Through Plone, piece by piece : So it is set" in said
    assert "Whoever is logged in As Plone does it : The settings are for visitors who are not logged in." in said


@pytest.mark.parametrize(
    "address",
    ["nowhere", "../without/files", "@@overview-controlpanel", "++api++/files/film", "portal_registry", "acl_users",
     "files/film/file", "%2e%2e/without/files", "http://[", "files/../../without"],
)  # fmt: skip
def test_what_is_no_content_of_the_site_is_not_there(answered, address):
    said = answered(address)
    assert "There is nothing at this address that you may view." in said
    assert "Everybody" not in said


def test_what_the_user_may_not_view_is_not_there(client, zope, film):
    """A Site Administrator of the site, from whom View on one file was taken."""
    name = {"username": "owner", "email": "owner@example.org", "password": "some-Long-1-password"}
    client.api("POST", "@users", name | {"roles": ["Site Administrator"]}, expect=201)
    owner = WebClient(zope.port, "with", ("owner", "some-Long-1-password"))
    try:
        assert "film.mp4" in text_of(Panel(owner).get("try", item="files/film"))
        answer = client.request(
            "POST", "files/film/manage_permission",
            f"permission_to_manage=View&roles:list=Manager&_authenticator={Panel(client).token('settings')}".encode(),
            FORM,
        )  # fmt: skip
        assert answer.status in (200, 204, 302)
        said = text_of(Panel(owner).get("try", item="files/film"))
        assert "film.mp4" not in said.replace("files/film", "")
        assert "There is nothing at this address that you may view." in said
    finally:
        client.api("DELETE", "@users/owner", expect=204)
