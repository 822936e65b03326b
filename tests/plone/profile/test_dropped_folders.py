"""The folders of a dropped folder are content like any: what their type asks of its values is asked of their names."""

from __future__ import annotations

import pytest
import transaction
from plone.app.testing import SITE_OWNER_NAME, login
from plone.dexterity.fti import DexterityFTI
from plone.dexterity.schema import SCHEMA_CACHE
from plone.supermodel import model
from Products.CMFPlone.CatalogTool import CatalogTool
from zope import schema
from zope.interface import Invalid, invariant


def no_secret(value):
    if "secret" in value:
        raise Invalid("nothing secret here")
    return True


class IAlbum(model.Schema):
    title = schema.TextLine(title="Title", max_length=20, constraint=no_secret)

    @invariant
    def no_album(data):
        if data.title == "invariant":
            raise Invalid("not called so")


@pytest.fixture
def portal(functional):
    login(functional["app"], SITE_OWNER_NAME)
    portal = functional["portal"]
    portal.portal_types["Album"] = DexterityFTI(
        "Album", global_allow=True, klass="plone.dexterity.content.Container", add_permission="cmf.AddPortalContent",
        filter_content_types=False,
        schema=IAlbum.__identifier__, behaviors=("plone.namefromtitle",),
    )  # fmt: skip
    portal.portal_types["Folder"].global_allow = False
    SCHEMA_CACHE.clear()
    transaction.commit()
    yield portal
    transaction.abort()
    SCHEMA_CACHE.clear()


@pytest.fixture
def jobs():
    return None


@pytest.fixture
def status():
    return None


@pytest.fixture
def make(call, portal):
    """``make(path, …)``: status and answer."""
    return lambda *paths: call("POST", "@blob-upload/folders", {"paths": paths})[:2]


def test_a_folder_of_ones_own_type(portal, make):
    status, answer = make("Trip one/Day one", "Trip one")
    assert status == 200, answer
    transaction.commit()
    assert portal["trip-one"].portal_type == "Album" and portal["trip-one"]["day-one"].title == "Day one"
    assert portal["trip-one"].creators == (SITE_OWNER_NAME,) and len(portal.portal_catalog(Title="Day one")) == 1
    assert make("Trip one/Day one")[1]["items"][0]["@id"] == answer["items"][0]["@id"]


@pytest.mark.parametrize(
    ("name", "says"),
    [("so secret", "nothing secret here"), ("x" * 21, "long"), ("invariant", "not called so")],
)
def test_its_constraints_and_invariants_are_asked(portal, make, name, says):
    before = set(portal.objectIds())
    status, answer = make("good", name)
    assert status == 400 and says in answer["error"]["message"], answer
    assert transaction.isDoomed()
    transaction.abort()
    assert set(portal.objectIds()) == before


def test_what_a_container_has_is_asked_for_once(portal, make, monkeypatch):
    """Each query has the catalog index what was made up to then."""
    make("old/a")
    transaction.commit()
    asked, search = [], CatalogTool.searchResults
    monkeypatch.setattr(
        CatalogTool,
        "searchResults",
        lambda self, *args, **query: asked.append(query.get("path")) or search(self, *args, **query),
    )
    status, answer = make("old/a", "old/b", "new/c/d", "new/c/e", "other")
    paths = [path["query"] for path in asked if path]
    assert status == 200 and sorted(paths) == ["/plone", "/plone/old"]
    transaction.commit()
    assert make("old/a", "old/b", "new/c/d", "new/c/e", "other") == (status, answer)
