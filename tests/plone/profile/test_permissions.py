"""Who may see the status, change a site's policy, and operate a database: accounts of two sites and of the root."""

from __future__ import annotations

import dataclasses

import pytest
from AccessControl import getSecurityManager
from AccessControl.SecurityManagement import newSecurityManager, noSecurityManager, setSecurityManager
from plone import api
from plone.app.testing import TEST_USER_ID, setRoles
from zope.component import getUtility

from collective.s3blobstorage.interfaces import IBlobStorages
from collective.s3blobstorage.permissions import (
    CHANGE_SETTINGS,
    OPERATE,
    VIEW_STATUS,
    may_change,
    may_operate,
    may_view,
)
from collective.s3blobstorage.utilities import NoDatabaseBlobs

SITE_ROLES = ("Member", "Editor", "Site Administrator", "Manager")


@pytest.fixture
def layer(functional):
    portal = functional["portal"]
    setRoles(portal, TEST_USER_ID, ["Manager"])
    api.content.create(portal, "Document", "page")
    for role in SITE_ROLES:
        portal.acl_users.userFolderAddUser(role, "a long secret", [role], [])
    functional["app"].acl_users.userFolderAddUser("root", "a long secret", ["Manager"], [])
    functional["app"].acl_users.userFolderAddUser("nobody", "a long secret", [], [])
    return functional


@pytest.fixture
def as_user(layer):
    before = getSecurityManager()
    users, root = layer["portal"].acl_users, layer["app"].acl_users

    def become(name):
        if name is None:
            noSecurityManager()
        elif name in SITE_ROLES:
            newSecurityManager(None, users.getUser(name).__of__(users))
        else:
            newSecurityManager(None, root.getUser(name).__of__(root))

    yield become
    setSecurityManager(before)


@pytest.fixture
def blobs(layer):
    return getUtility(IBlobStorages).for_context(layer["portal"])


def set_site_operations(layer, on):
    storage = layer["zodbDB"].storage
    storage._settings = dataclasses.replace(storage._settings, site_operations=on)


# user: (view, change, operate without site-operations, with it)
TABLE = {
    None: (False, False, False, False),
    "nobody": (False, False, False, False),
    "Member": (False, False, False, False),
    "Editor": (False, False, False, False),
    "Site Administrator": (True, True, False, False),
    "Manager": (True, True, False, True),
    "root": (True, True, True, True),
}


@pytest.mark.parametrize("on", [False, True])
@pytest.mark.parametrize("user", TABLE)
def test_who_may_what(layer, as_user, blobs, user, on):
    set_site_operations(layer, on)
    view, change, without, with_ = TABLE[user]
    as_user(user)
    portal = layer["portal"]
    for context in (portal, portal["page"], portal["page"].unrestrictedTraverse("@@plone")):
        assert may_view(context, blobs) is view
        assert may_change(context, blobs) is change
        assert may_operate(context, blobs) is (with_ if on else without)


class OfAnotherDatabase:
    name, site_operations, available, reason = "other", True, True, ""


@pytest.mark.parametrize("user", TABLE)
def test_another_database_is_the_roots(layer, as_user, user):
    """Also where that one's section has site-operations on: it has no site of theirs in it."""
    as_user(user)
    for blobs in (OfAnotherDatabase(), NoDatabaseBlobs("there is none")):
        assert may_view(layer["portal"], blobs) is may_operate(layer["portal"], blobs) is (user == "root")


def test_at_the_root_nobody_is_a_sites_manager(layer, as_user, blobs):
    set_site_operations(layer, True)
    for user in TABLE:
        as_user(user)
        assert may_operate(layer["app"], blobs) is (user == "root")
        assert may_change(layer["app"], blobs) is False  # no site, no policy


def test_what_is_in_no_application_has_no_operator(as_user, blobs):
    as_user("root")
    for context in (None, object()):
        assert not may_operate(context, blobs) and not may_view(context, blobs) and not may_change(context, blobs)


def test_a_site_decides_about_its_own(layer, as_user, blobs):
    """What its security tab says holds in it, and gives nobody a right at the root."""
    set_site_operations(layer, False)
    portal = layer["portal"]
    portal.manage_permission(VIEW_STATUS, ["Editor"], acquire=0)
    portal.manage_permission(CHANGE_SETTINGS, ["Editor"], acquire=0)
    portal.manage_permission(OPERATE, ["Editor"], acquire=0)
    as_user("Editor")
    assert may_view(portal, blobs) and may_change(portal, blobs) and not may_operate(portal, blobs)
    as_user("Manager")
    assert not may_view(portal, blobs) and not may_change(portal, blobs)
    set_site_operations(layer, True)
    as_user("Editor")
    assert may_operate(portal, blobs)


def test_a_way_through_another_site_gives_nothing(layer, as_user, blobs):
    """/other/plone/page is the page of the one site, whatever the address goes through."""
    set_site_operations(layer, True)
    app, portal = layer["app"], layer["portal"]
    setRoles(portal, TEST_USER_ID, ["Manager"])
    app.manage_addFolder("other")
    through = getattr(getattr(app["other"], portal.getId()), "page")  # noqa: B009
    as_user("Manager")
    assert may_operate(through, blobs) and may_view(through, blobs)
    assert not may_operate(app["other"], blobs) and not may_view(app["other"], blobs)
