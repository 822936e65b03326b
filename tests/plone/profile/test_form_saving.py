"""What a form made of an upload comes to nothing without taking anything else with it."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
import transaction
from Acquisition import aq_base
from plone.app.testing import SITE_OWNER_NAME, login
from plone.dexterity.utils import addContentToContainer, createContent, iterSchemataForType
from plone.namedfile.interfaces import INamedBlobFileField
from plone.registry.interfaces import IRegistry
from plone.uuid.interfaces import IUUID
from staged_files import sent
from z3c.form.interfaces import IDataManager
from zope.component import getMultiAdapter, getUtility
from zope.event import notify
from ZPublisher.pubevents import PubBeforeCommit

from collective.s3blobstorage.interfaces import IBlobStorages
from collective.s3blobstorage.uploader.saving import Saving, await_saving
from collective.s3blobstorage.uploading.completing import complete
from collective.s3blobstorage.uploading.interfaces import Announced, Ticket
from collective.s3blobstorage.uploading.named import LentFile, value_of
from collective.s3blobstorage.uploading.open_uploads import OpenUploads
from collective.s3blobstorage.uploading.places import container_id, current_user, site_id
from collective.s3blobstorage.uploading.policy import site_policy

DATA = os.urandom(5000)


@pytest.fixture
def portal(functional):
    login(functional["app"], SITE_OWNER_NAME)
    getUtility(IRegistry)["collective.s3blobstorage.upload_enabled"] = True
    transaction.commit()
    yield functional["portal"]
    transaction.abort()


@pytest.fixture
def area(portal):
    return getUtility(IBlobStorages).for_context(portal).uploads()


@pytest.fixture
def field():
    return next(schema["file"] for schema in iterSchemataForType("File") if "file" in schema)


@pytest.fixture
def ticket(portal, area):
    upload = sent(area, DATA)
    announced = Announced("a.bin", len(DATA), "application/octet-stream", "File", "file")
    expires = upload.begun + timedelta(days=1)
    ticket = Ticket(upload, announced, current_user(), "main", site_id(portal), container_id(portal), expires)
    OpenUploads(portal).begin(ticket, site_policy(area.settings))
    transaction.commit()
    return ticket


@pytest.fixture
def value(functional, portal, area, field, ticket):
    """What the field of a form gets."""
    assert INamedBlobFileField.providedBy(field)
    made = value_of(field, LentFile(area.finish(ticket.upload), portal._p_jar, "application/octet-stream", "a.bin"))
    await_saving(made, Saving(ticket, area, portal._p_jar, functional["request"]))
    return made


def set_on(content, field, value):
    getMultiAdapter((content, field), IDataManager).set(value)


def commit(functional):
    """As Zope's publisher does."""
    notify(PubBeforeCommit(functional["request"]))
    transaction.commit()


def staged(portal):
    return [line.key for line in portal._p_jar.db().storage.store_.list("uploads/")]


def test_content_that_was_not_added_is_taken_back(functional, portal, field, ticket, value):
    set_on(createContent("File", title="Away"), field, value)
    commit(functional)
    assert OpenUploads(portal).is_open(ticket.upload.id) and len(staged(portal)) == 1


def test_what_was_added_meanwhile_stays(functional, portal, field, ticket, value):
    """The form threw away what it had made first, and made other content of the same values."""
    set_on(createContent("File", title="Away"), field, value)
    addContentToContainer(portal, createContent("File", title="Kept", file=value))
    commit(functional)
    portal._p_jar.cacheMinimize()
    with portal["a.bin"].file.open() as file:
        assert file.read() == DATA
    assert OpenUploads(portal).result(ticket.upload.id) == IUUID(portal["a.bin"]) and staged(portal) == []


def test_other_content_that_was_added_meanwhile_stays(functional, portal, field, ticket, value):
    set_on(createContent("File", title="Away"), field, value)
    addContentToContainer(portal, createContent("Document", id="other", title="Other"))
    commit(functional)
    portal._p_jar.cacheMinimize()
    assert portal["other"].title == "Other"
    assert OpenUploads(portal).is_open(ticket.upload.id) and len(staged(portal)) == 1


@pytest.mark.parametrize("way", ["before its values", "without an event"])
def test_content_that_a_form_adds_by_itself(functional, portal, field, ticket, value, way):
    content = createContent("File", id="own", title="Own").__of__(portal)
    if way == "without an event":
        set_on(content, field, value)
        portal._setObject("own", aq_base(content), suppress_events=True)
    else:
        addContentToContainer(portal, aq_base(content))
        set_on(portal["own"], field, value)
    commit(functional)
    portal._p_jar.cacheMinimize()
    with portal["own"].file.open() as file:
        assert file.read() == DATA
    assert OpenUploads(portal).result(ticket.upload.id) == IUUID(portal["own"]) and staged(portal) == []


@pytest.mark.parametrize("again", [False, True])
def test_what_a_savepoint_takes_back_is_not_deleted(functional, portal, field, ticket, value, again):
    """As an add-on does it that tries one thing, and then another."""
    before = transaction.savepoint()
    content = createContent("File", title="Tried")
    set_on(content, field, value)
    addContentToContainer(portal, content)
    before.rollback()
    if again:
        complete(portal, functional["request"], ticket, {})
    commit(functional)
    assert "a.bin" in portal.objectIds() if again else OpenUploads(portal).is_open(ticket.upload.id)
    assert len(staged(portal)) == (0 if again else 1)
