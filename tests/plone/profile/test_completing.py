"""Content is made of what was uploaded in one transaction: the staged object goes where that was committed, only."""

from __future__ import annotations

import os
import uuid
from datetime import timedelta

import pytest
import transaction
from plone.app.testing import SITE_OWNER_NAME, login
from plone.dexterity.interfaces import IDexterityContent
from plone.namedfile.interfaces import INamedBlobFileField
from plone.registry.interfaces import IRegistry
from plone.restapi.deserializer.dxfields import NamedFieldDeserializer
from plone.restapi.interfaces import IFieldDeserializer
from plone.uuid.interfaces import IUUID
from staged_files import sent
from zope.component import getGlobalSiteManager, getUtility
from zope.interface import Interface, alsoProvides

from collective.s3blobstorage.directupload.interfaces import UploadWrong
from collective.s3blobstorage.interfaces import IBlobStorages, IUploadPolicy
from collective.s3blobstorage.layer import IS3BlobStorageLayer
from collective.s3blobstorage.services.refusal import Refusal
from collective.s3blobstorage.uploading.completing import UploadEnded, complete
from collective.s3blobstorage.uploading.interfaces import Announced, Ticket
from collective.s3blobstorage.uploading.named import DirectFileDeserializer, ICompletingRequest
from collective.s3blobstorage.uploading.open_uploads import OpenUploads
from collective.s3blobstorage.uploading.policy import site_policy

DATA = os.urandom(5000)


@pytest.fixture
def portal(functional):
    login(functional["app"], SITE_OWNER_NAME)
    getUtility(IRegistry)["collective.s3blobstorage.upload_enabled"] = True
    transaction.commit()
    return functional["portal"]


@pytest.fixture
def area(portal):
    return getUtility(IBlobStorages).for_context(portal).uploads()


@pytest.fixture
def request_(functional):
    request = functional["request"].clone()
    alsoProvides(request, IS3BlobStorageLayer)
    return request


@pytest.fixture
def uploaded(portal, area):
    """``uploaded(data, …)``: the ticket of an upload that was begun, and whose bytes are there."""

    def make(data=DATA, portal_type="File", content_type="application/octet-stream", replaces=""):
        upload = sent(area, data)
        announced = Announced("a.bin", len(data), content_type, portal_type, "", replaces)
        expires = upload.begun + timedelta(days=1)
        ticket = Ticket(upload, announced, SITE_OWNER_NAME, "main", IUUID(portal), IUUID(portal), expires)
        OpenUploads(portal).begin(ticket, site_policy(area.settings))
        transaction.commit()
        return ticket

    return make


def staged(portal):
    """Keys of the staging area; none of these uploads goes in parts."""
    return [line.key for line in portal._p_jar.db().storage.store_.list("uploads/")]


def test_it_is_content_and_the_staged_object_is_gone(portal, area, request_, uploaded):
    ticket = uploaded()
    completed = complete(portal, request_, ticket, {"title": "T"})
    assert completed.created and completed.field == "file" and completed.file.getSize() == len(DATA)
    assert len(staged(portal)) == 1  # until the commit
    transaction.commit()
    assert portal["a.bin"].file.data == DATA and portal["a.bin"].title == "T"
    assert not staged(portal) and not OpenUploads(portal).is_open(ticket.upload.id)
    again = complete(portal, request_, ticket, {})
    assert again.obj == portal["a.bin"] and not again.created and again.file == portal["a.bin"].file


def test_of_a_transaction_that_is_aborted_nothing_is_left_but_what_was_uploaded(portal, area, request_, uploaded):
    ticket, store = uploaded(), portal._p_jar.db().storage.store_
    complete(portal, request_, ticket, {})
    transaction.abort()
    portal._p_jar.db().storage.uploads.settle()
    assert "a.bin" not in portal and len(staged(portal)) == 1 and list(store.list("blobs/")) == []
    assert OpenUploads(portal).is_open(ticket.upload.id)
    complete(portal, request_, ticket, {})
    transaction.commit()
    assert portal["a.bin"].file.data == DATA


class Refuses:
    """A resource of the transaction that votes against it, after the database has."""

    transaction_manager = transaction.manager

    def sortKey(self):
        return "~"

    def tpc_vote(self, txn):
        raise RuntimeError("not now")

    def _nothing(self, txn):
        pass

    abort = tpc_begin = commit = tpc_finish = tpc_abort = _nothing


def test_of_a_commit_that_fails_nothing_is_left_but_what_was_uploaded(portal, area, request_, uploaded):
    ticket, store = uploaded(), portal._p_jar.db().storage.store_
    complete(portal, request_, ticket, {})
    transaction.get().join(Refuses())
    with pytest.raises(RuntimeError):
        transaction.commit()
    transaction.abort()
    portal._p_jar.db().storage.uploads.settle()
    assert "a.bin" not in portal and len(staged(portal)) == 1 and list(store.list("blobs/")) == []


def test_a_field_whose_values_an_add_on_makes_itself(portal, area, request_, uploaded):
    """Whatever it made of it has neither the name nor the type."""

    class Theirs(NamedFieldDeserializer):
        pass

    registry, of = getGlobalSiteManager(), (INamedBlobFileField, IDexterityContent, ICompletingRequest)
    registry.registerAdapter(Theirs, of, IFieldDeserializer)
    try:
        with pytest.raises(Refusal, match="the field file does not take"):
            complete(portal, request_, uploaded(), {})
    finally:
        registry.registerAdapter(DirectFileDeserializer, of, IFieldDeserializer)


def test_a_file_that_is_refused_is_ended_by_a_commit(portal, area, request_, uploaded):
    ticket = uploaded(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "Image", "image/png")
    with pytest.raises(UploadEnded) as refused:
        complete(portal, request_, ticket, {})
    assert refused.value.kind == "type" and len(staged(portal)) == 1
    transaction.commit()
    assert not staged(portal) and not OpenUploads(portal).is_open(ticket.upload.id)


def test_what_nobody_sent(portal, area, request_, uploaded):
    ticket = uploaded()
    area.drop(ticket.upload)
    with pytest.raises(UploadWrong) as wrong:
        complete(portal, request_, ticket, {})
    assert wrong.value.gone and OpenUploads(portal).is_open(ticket.upload.id)


def test_what_it_became_is_there_no_more_or_not_for_this_user(portal, request_, uploaded):
    ticket = uploaded()
    complete(portal, request_, ticket, {"id": "x"})
    transaction.commit()
    portal["x"].manage_permission("View", ["Reviewer"], acquire=0)  # this user has not that role
    assert status_of_refusal(portal, request_, ticket) == 404
    portal.manage_delObjects(["x"])
    assert status_of_refusal(portal, request_, ticket) == 404


def status_of_refusal(portal, request_, ticket):
    with pytest.raises(Refusal) as refused:
        complete(portal, request_, ticket, {})
    return refused.value.status


def test_policies_are_asked_after_permissions(portal, request_, uploaded):
    asked = []

    class Policy:
        def __init__(self, context, request):
            pass

        def check_start(self, announced):
            asked.append(announced)

        def check_completed(self, announced, reader, sniffed):
            pass

    ticket, registry = uploaded(), getGlobalSiteManager()
    registry.registerSubscriptionAdapter(Policy, (Interface, Interface), IUploadPolicy)
    try:
        portal.manage_permission("Add portal content", ["Reviewer"], acquire=0)
        assert status_of_refusal(portal, request_, ticket) == 403 and asked == []
        portal.manage_permission("Add portal content", ["Manager"], acquire=0)
        complete(portal, request_, ticket, {})
        assert asked == [ticket.announced]
    finally:
        registry.unregisterSubscriptionAdapter(Policy, (Interface, Interface), IUploadPolicy)


def test_a_type_without_a_file(portal, request_, uploaded):
    with pytest.raises(Refusal, match="field is no file"):
        complete(portal, request_, uploaded(portal_type="Event"), {"title": "T"})
    assert status_of_refusal(portal, request_, uploaded(portal_type=f"no-{uuid.uuid4().hex}")) == 403
