"""Which blobs have a revision of their own, and who counts as Anonymous, inside a test's own transaction."""

from __future__ import annotations

import pytest
import transaction
from AccessControl import getSecurityManager
from plone import api
from plone.app.testing import TEST_USER_ID, setRoles
from plone.namedfile.file import NamedBlobFile, NamedFile

from collective.s3blobstorage.delivery.public import anonymous_may_view
from collective.s3blobstorage.delivery.revision import revision_of

DATA = b"some bytes " * 100


@pytest.fixture
def portal(functional):
    setRoles(functional["portal"], TEST_USER_ID, ["Manager"])
    return functional["portal"]


@pytest.fixture
def report(portal):
    return api.content.create(portal, "File", "report", file=NamedBlobFile(DATA, filename="report.bin"))


def test_what_is_not_committed_is_plones_own_business(report):
    assert revision_of(report.file) is None
    transaction.savepoint()
    assert revision_of(report.file) is None
    transaction.commit()
    revision = revision_of(report.file)
    assert (revision.address.size, revision.bounds) == (len(DATA), revision.address.delivery)
    with revision.open() as reader:
        assert reader.read() == DATA
    report.file.data = DATA + b"changed"
    assert revision_of(report.file) is None
    transaction.savepoint()
    assert revision_of(report.file) is None
    transaction.abort()
    with revision_of(report.file).open() as reader:
        assert reader.read() == DATA


def test_nor_is_what_is_no_blob(report):
    report.file = NamedFile(DATA, filename="report.bin")
    transaction.commit()
    assert revision_of(report.file) is None


def test_a_change_is_another_revision(report):
    transaction.commit()
    first = revision_of(report.file)
    tag, changed = first.etag("text/plain", None), first.changed
    assert revision_of(report.file).etag("text/plain", None) == tag
    assert (
        len({tag, first.etag("text/html", None), first.etag("text/plain", "inline"), first.etag("", "text/plain")}) == 4
    )
    assert report.file._blob._p_oid.hex() not in tag
    report.file.data = DATA
    transaction.commit()
    second = revision_of(report.file)
    assert second.etag("text/plain", None) != tag
    assert second.changed > changed


def test_a_new_name_of_the_same_bytes_is_a_change_too(report):
    """A cache that asks by the date must hear of it."""
    transaction.commit()
    changed = revision_of(report.file).changed
    report.file.contentType = "text/html"
    transaction.commit()
    assert revision_of(report.file).changed > changed


@pytest.mark.parametrize("view", [["Anonymous", "Manager"], ["Authenticated", "Manager"], []])
def test_anonymous_is_asked_whoever_is_logged_in(portal, report, view):
    report.manage_permission("View", view, acquire=0)
    before = getSecurityManager()
    assert anonymous_may_view(report, "file") is ("Anonymous" in view)
    assert anonymous_may_view(report, "no such field") is False
    assert getSecurityManager() is before
    assert api.user.get_current().getId() == TEST_USER_ID


def test_what_is_acquired_counts(portal):
    folder = api.content.create(portal, "Folder", "folder")
    item = api.content.create(folder, "File", "item", file=NamedBlobFile(DATA, filename="a.bin"))
    for roles, public in ((["Anonymous"], True), (["Manager"], False)):
        folder.manage_permission("View", roles, acquire=0)
        assert anonymous_may_view(item, "file") is public


def test_a_local_role_does_not(portal, report):
    report.manage_permission("View", ["Reader"], acquire=0)
    report.manage_setLocalRoles(TEST_USER_ID, ["Reader"])
    assert anonymous_may_view(report, "file") is False
