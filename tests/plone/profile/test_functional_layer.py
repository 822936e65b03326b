"""A functional plone.app.testing layer whose blobs are in a bucket: what tests commit, read and abort there."""

from __future__ import annotations

import os

import pytest
import transaction
from plone import api
from plone.app.testing import SITE_OWNER_NAME, SITE_OWNER_PASSWORD, TEST_USER_ID, setRoles
from plone.namedfile.file import NamedBlobFile
from plone.testing.zope import Browser
from Products.CMFPlone.Portal import PloneSite
from Products.CMFPlone.utils import get_installer
from ZODB.interfaces import IBlobStorage

from collective.s3blobstorage.storage import S3BlobStorage


@pytest.fixture
def portal(functional) -> PloneSite:
    portal = functional["portal"]
    setRoles(portal, TEST_USER_ID, ["Manager"])
    return portal


@pytest.fixture
def objects(functional, s3, layer_bucket):
    """Bytes of every blob's object under this test's prefix."""

    def objects() -> list[bytes]:
        found = s3.list_objects_v2(Bucket=layer_bucket, Prefix=f"{functional['prefix']}/blobs/")
        return [
            s3.get_object(Bucket=layer_bucket, Key=entry["Key"])["Body"].read() for entry in found.get("Contents", ())
        ]

    return objects


@pytest.fixture
def download(functional):
    """Fetch a path of the site through Zope's publisher, as the site's owner."""

    def download(path: str) -> bytes:
        browser = Browser(functional["app"])
        browser.addHeader("Authorization", f"Basic {SITE_OWNER_NAME}:{SITE_OWNER_PASSWORD}")
        browser.open(f"{functional['portal'].absolute_url()}/{path}")
        return browser.contents if isinstance(browser.contents, bytes) else browser.contents.encode("latin-1")

    return download


def add_file(portal, name: str) -> bytes:
    data = os.urandom(5000).hex().encode()
    value = NamedBlobFile(data, contentType="application/octet-stream", filename=f"{name}.bin")
    api.content.create(portal, "File", name, file=value)
    return data


def test_the_site_is_on_our_storage(functional):
    storage = functional["zodbDB"].storage
    assert isinstance(storage, S3BlobStorage)
    assert IBlobStorage.providedBy(storage)


# Twice the same: the second finds neither content nor objects of the first.
@pytest.mark.parametrize("time", ["first", "second"])
def test_committed_file_is_in_the_bucket_and_is_delivered(portal, objects, download, time):
    assert "report" not in portal
    assert objects() == []
    data = add_file(portal, "report")
    assert objects() == []  # nothing before the commit
    transaction.commit()
    assert objects() == [data]
    assert download("report/@@download/file") == data


def test_aborted_file_never_reaches_the_bucket(portal, objects):
    add_file(portal, "report")
    transaction.savepoint()
    transaction.abort()
    assert objects() == []


def test_uncommitted_file_is_readable_in_its_own_transaction(portal, objects):
    data = add_file(portal, "report")
    transaction.savepoint()
    assert portal["report"].file.data == data
    assert objects() == []
    transaction.commit()
    assert objects() == [data]


def test_files_stay_when_the_add_on_is_removed_and_when_it_comes_back(functional, portal, objects, download):
    data = add_file(portal, "report")
    transaction.commit()
    installer = get_installer(portal, functional["request"])
    for change in (installer.uninstall_product, installer.install_product):
        assert change("collective.s3blobstorage")
        transaction.commit()
        assert objects() == [data] and download("report/@@download/file") == data
