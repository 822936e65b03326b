"""What the element of an uploader is told: the types of a place, the way of each, and what belongs to this user."""

from __future__ import annotations

import json

import pytest
import transaction
from AccessControl.SecurityManagement import newSecurityManager, noSecurityManager
from plone import api
from plone.app.testing import TEST_USER_ID, setRoles
from plone.dexterity.fti import DexterityFTI
from Products.CMFPlone.interfaces.constrains import ISelectableConstrainTypes
from zope.component import getUtility
from zope.interface import alsoProvides

from collective.s3blobstorage.interfaces import IBlobStorages
from collective.s3blobstorage.layer import IS3BlobStorageLayer
from collective.s3blobstorage.uploader.chosen import uploader_for
from collective.s3blobstorage.uploader.settings import direct_policy, mode_of, page_settings

PREFIX = "collective.s3blobstorage."
MODEL = """\
<model xmlns="http://namespaces.plone.org/supermodel/schema" xmlns:marshal="http://namespaces.plone.org/supermodel/marshal">
  <schema>
    <field name="title" type="zope.schema.TextLine"><title>Title</title></field>
    <field name="film" type="plone.namedfile.field.NamedBlobFile" marshal:primary="true"><title>Film</title></field>
    {more}
  </schema>
</model>
"""
FTI = {
    "global_allow": True,
    "filter_content_types": False,
    "klass": "plone.dexterity.content.Item",
    "schema": "",
    "behaviors": (),
    "add_permission": "cmf.AddPortalContent",
}
RATED = '<field name="rating" type="zope.schema.Int"><title>Rating</title>{}</field>'


@pytest.fixture
def portal(functional):
    portal = functional["portal"]
    setRoles(portal, TEST_USER_ID, ["Manager"])
    api.content.create(portal, "Folder", "up")
    transaction.commit()
    yield portal
    transaction.abort()


@pytest.fixture
def told(functional, portal):
    """``told(context)``: the settings of its page, as the script reads them."""

    def told(context):
        request = functional["request"].clone()
        alsoProvides(request, IS3BlobStorageLayer)
        return json.loads(json.dumps(page_settings(context, request)))

    return told


def choose(**records):
    for name, value in records.items():
        api.portal.set_registry_record(PREFIX + name, value)


def log_in_as_jane(portal):
    """A user who may add nothing."""
    api.user.create("jane@example.org", "jane", "secret-text-9")
    newSecurityManager(None, portal.acl_users.getUserById("jane").__of__(portal.acl_users))


def modes(told):
    return {one["name"]: one["mode"] for one in told["types"]}


def test_without_direct_upload_everything_goes_the_normal_way(told, portal):
    page = told(portal["up"])
    assert page["types"] == [
        {"name": "File", "title": "File", "field": "file", "image": False, "mode": "normal"},
        {"name": "Image", "title": "Image", "field": "image", "image": True, "mode": "normal"},
    ]
    assert (page["kind"], page["folders"], page["maximum-size"], page["mime-types"]) == ("page", "Folder", None, [])
    assert page["place"] == "http://nohost/plone/++api++/up"
    assert page["send"] == "http://nohost/plone/up/@@upload-file"
    assert page["login"] == "http://nohost/plone/login"
    assert (page["language"], page["rtl"]) == ("en", False)
    assert "${limit}" in page["words"]["too-large"]
    assert page["normal-maximum-size"] == 2**30  # form-disk-limit, as Zope has it where zope.conf says nothing
    assert told(portal)["place"] == "http://nohost/plone/++api++"


def test_direct_upload_is_told_with_its_bounds_for_the_types_that_it_takes(told, portal):
    choose(upload_enabled=True, upload_maximum_size=7, upload_mime_types=("video/*",), upload_portal_types=("File",))
    page = told(portal["up"])
    assert modes(page) == {"File": "direct", "Image": "normal"}
    assert (page["maximum-size"], page["mime-types"]) == (7 * 2**20, ["video/*"])
    choose(upload_portal_types=())
    assert modes(told(portal["up"])) == {"File": "direct", "Image": "direct"}
    choose(upload_maximum_size=0)
    assert told(portal["up"])["maximum-size"] is None  # what the store takes is no bound that anybody has set


@pytest.mark.parametrize(("attribute", "value"), [("_writable", False), ("_confirmed", False)])
def test_where_the_store_is_known_not_to_do_it_everything_goes_the_normal_way(
    told, portal, monkeypatch, attribute, value
):
    choose(upload_enabled=True)
    monkeypatch.setattr(getUtility(IBlobStorages).for_context(portal).uploads(), attribute, value)
    page = told(portal["up"])
    assert set(modes(page).values()) == {"normal"} and page["maximum-size"] is None


def test_no_request_is_made_to_find_out_what_the_store_does(told, portal, monkeypatch):
    choose(upload_enabled=True)
    area = getUtility(IBlobStorages).for_context(portal).uploads()
    monkeypatch.setattr(area, "_confirmed", None)
    monkeypatch.setattr(area, "_try_out", lambda: pytest.fail("the store was asked"))
    assert modes(told(portal["up"]))["File"] == "direct"


def test_nobody_uploads_directly_who_is_not_logged_in(portal):
    choose(upload_enabled=True)
    assert direct_policy(portal["up"]) is not None
    noSecurityManager()
    assert direct_policy(portal["up"]) is None and mode_of("File", None) == "normal"


@pytest.mark.parametrize(
    ("enabled", "chosen", "which"),
    [(True, (), {"File", "Image"}), (True, ("Image",), {"Image"}), (False, (), set()), (False, ("File",), set())],
)
def test_the_types_that_the_owner_chose(told, portal, enabled, chosen, which):
    choose(uploader_enabled=enabled, uploader_portal_types=chosen)
    assert set(modes(told(portal["up"]))) == which
    assert {name for name in ("File", "Image") if uploader_for(name)} == which


@pytest.mark.parametrize(
    ("more", "offered"),
    [
        ("", True),
        (RATED.format(""), False),
        (RATED.format("<default>3</default>"), True),
        (RATED.format("<required>False</required>"), True),
    ],
)
def test_a_type_that_wants_more_than_a_file_is_not_offered(told, portal, more, offered):
    portal.portal_types["Film"] = DexterityFTI("Film", model_source=MODEL.format(more=more), **FTI)
    films = [one for one in told(portal["up"])["types"] if one["name"] == "Film"]
    assert [one["field"] for one in films] == ["film"] * offered


def test_a_type_without_a_primary_file_is_not_offered(told, portal):
    portal.portal_types["Film"] = DexterityFTI("Film", model_source=MODEL.replace("marshal:primary", "lang"), **FTI)
    assert "Film" not in modes(told(portal["up"]))


def test_folders_are_of_a_type_that_takes_the_files(told, portal):
    types = portal.portal_types
    course = FTI | {"klass": "plone.dexterity.content.Container"}
    types["Course"] = DexterityFTI("Course", model_source=MODEL.format(more=RATED.format("")), **course)
    types["Archive"] = DexterityFTI("Archive", **course)
    assert told(portal["up"])["folders"] == "Folder"
    constrain = ISelectableConstrainTypes(portal["up"])
    constrain.setConstrainTypesMode(1)
    for allowed, became in ((("File", "Course"), None), (("File", "Course", "Archive"), "Archive"), (("File",), None)):
        constrain.setLocallyAllowedTypes(list(allowed))
        assert told(portal["up"])["folders"] == became
    constrain.setLocallyAllowedTypes(["Folder"])
    assert told(portal["up"])["folders"] is None and told(portal["up"])["types"] == []


def test_the_text_of_the_user_differs_and_says_nothing(told, portal):
    before = told(portal["up"])["user"]
    assert len(before) == 32 and TEST_USER_ID not in before
    assert told(portal)["user"] == before
    log_in_as_jane(portal)
    assert told(portal["up"])["user"] != before


def test_of_a_user_who_may_add_nothing_here_no_type_is_told(told, portal):
    log_in_as_jane(portal)
    assert told(portal["up"])["types"] == [] and told(portal["up"])["folders"] is None
