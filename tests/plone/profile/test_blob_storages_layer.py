"""The utility as ZCML registers it, in a Plone site whose blobs are in a bucket, and in one whose are not."""

from __future__ import annotations

import pytest
from plone import api
from plone.app.testing import TEST_USER_ID, setRoles
from Products.CMFPlone.Portal import PloneSite
from zope.component import getUtility

from collective.s3blobstorage.errors import ConfigurationError
from collective.s3blobstorage.interfaces import IBlobOverlay, IBlobStorages, IKeyRing

NAME = "collective.x"


def test_a_site_without_a_bucket(integration):
    blobs = getUtility(IBlobStorages).for_context(integration["portal"])
    assert not blobs.available and "has no <s3blobstorage>" in blobs.reason
    with pytest.raises(ConfigurationError, match="has no <s3blobstorage>"):
        blobs.space(NAME)


def test_a_site_on_our_storage(functional, s3, layer_bucket):
    portal: PloneSite = functional["portal"]
    setRoles(portal, TEST_USER_ID, ["Manager"])
    page = api.content.create(portal, "Document", "page")  # in no database before a commit or a savepoint
    view = page.restrictedTraverse("@@plone")
    storages = getUtility(IBlobStorages)
    for context in (portal, page, view, functional["app"]):
        space = storages.for_context(context).space(NAME)
        space.put("x", b"data")
        assert space.get("x") == b"data" and space.delete_many(["x"], dry_run=False).deleted == 1
    space.put("y", b"data")
    found = s3.list_objects_v2(Bucket=layer_bucket, Prefix=f"{functional['prefix']}/addons/")
    assert [line["Key"] for line in found["Contents"]] == [f"{functional['prefix']}/addons/{NAME}/y"]
    with pytest.raises(ValueError):
        storages.for_context(portal).space("../blobs")


def test_a_layer_has_no_zope_conf_to_write_lines_for(integration, functional):
    """plone.app.testing's databases are made by code."""
    storages = getUtility(IBlobStorages)
    assert storages.for_context(integration["portal"]).snippet() == ""
    blobs = storages.for_context(functional["portal"])
    assert blobs.available and blobs.snippet() == "" and blobs.name == functional["zodbDB"].database_name


def test_adapters_are_registered(functional):
    blobs = getUtility(IBlobStorages).for_context(functional["portal"])
    assert IBlobOverlay(blobs).sources() == [] and IKeyRing(blobs).mode == "none"
