"""A field's value of what lies in the bucket: made by plone.restapi, checked as any, and only where it is meant."""

from __future__ import annotations

import io
import os
import secrets

import pytest
import transaction
from PIL import Image
from plone.app.testing import SITE_OWNER_NAME, login
from plone.dexterity.interfaces import IDexterityContent
from plone.dexterity.utils import iterSchemata
from plone.namedfile.field import NamedBlobFile as NamedBlobFileField
from plone.namedfile.field import NamedFile
from plone.namedfile.file import NamedBlobFile, NamedBlobImage
from plone.namedfile.interfaces import INamedBlobFileField, INamedField, IStorage, NotStorable
from plone.restapi.deserializer.dxfields import NamedFieldDeserializer
from plone.restapi.interfaces import IDeserializeFromJson, IFieldDeserializer
from zExceptions import BadRequest
from zope.component import getGlobalSiteManager, getMultiAdapter, getUtility
from zope.interface import Invalid, alsoProvides
from zope.publisher.interfaces.browser import IDefaultBrowserLayer

from collective.s3blobstorage.uploading.named import DirectFile, DirectFileDeserializer, mark

DATA = os.urandom(300_000)
NAME = "collective.s3blobstorage.uploading.named.DirectFile"


class Put:
    """An object of the bucket as somebody else put it there."""

    def __init__(self, store, data):
        self.store = store
        self.key = f"uploads/{secrets.token_hex(16)}"
        self.etag = store.put_bytes(self.key, data).etag
        self.size = len(data)

    def copy_to(self, key, metadata):
        return self.store.copy(self.key, key, if_match=self.etag, metadata=metadata)


@pytest.fixture
def portal(functional):
    login(functional["app"], SITE_OWNER_NAME)
    return functional["portal"]


@pytest.fixture
def request_(functional):
    request = functional["request"].clone()
    mark(request)
    return request


@pytest.fixture
def direct(portal):
    """``direct(data)``: what was uploaded."""

    def make(data=DATA, content_type="application/x-test", filename="a.html"):
        store = portal._p_jar.db().storage.store_
        return DirectFile(Put(store, data), portal._p_jar, content_type, filename)

    return make


def test_it_is_the_value_of_a_field(portal, request_, direct):
    portal.invokeFactory("File", "file")
    file, value = portal["file"], direct(content_type="application/octet-stream")
    getMultiAdapter((file, request_), IDeserializeFromJson)(data={"file": value, "title": "T"})
    made = file.file
    assert type(made) is NamedBlobFile and value.value is made and file.title == "T"
    # Not the type that Plone would make of the name.
    assert (made.filename, made.contentType) == ("a.html", "application/octet-stream")
    assert vars(made)["size"] == len(DATA) == made.getSize()
    transaction.commit()
    assert file.file.data == DATA and file.file.getSize() == len(DATA)


def test_what_the_field_does_not_take_is_not_set(portal, request_, direct):
    """The constraint of an image field: the type of what it gets."""
    portal.invokeFactory("Image", "image")
    with pytest.raises(BadRequest, match="image"):
        getMultiAdapter((portal["image"], request_), IDeserializeFromJson)(data={"image": direct()})
    assert portal["image"].image is None


def test_a_field_that_has_no_blob(portal, request_, direct):
    portal.invokeFactory("File", "file")
    made = DirectFileDeserializer(NamedFile(__name__="file"), portal["file"], request_)
    with pytest.raises(ValueError, match="outside of blobs"):
        made(direct())


def test_a_constraint_that_raises_invalid(portal, request_, direct):
    """As constraints of add-ons do; plone.restapi would let it pass as an error of the server."""

    def never(value):
        raise Invalid("never")

    portal.invokeFactory("File", "file")
    made = DirectFileDeserializer(NamedBlobFileField(__name__="file", constraint=never), portal["file"], request_)
    with pytest.raises(ValueError, match="never"):
        made(direct())


def test_of_other_values_plone_makes_what_it_makes(portal, request_):
    portal.invokeFactory("File", "file")
    sent = {"data": "abc", "filename": "a.txt", "content-type": "text/plain"}
    getMultiAdapter((portal["file"], request_), IDeserializeFromJson)(data={"file": sent})
    assert portal["file"].file.data == b"abc" and portal["file"].file.contentType == "text/plain"


def test_in_other_requests_there_is_no_such_value(portal, functional):
    portal.invokeFactory("File", "file")
    field = next(schema["file"] for schema in iterSchemata(portal["file"]) if "file" in schema)
    found = getMultiAdapter((field, portal["file"], functional["request"]), IFieldDeserializer)
    assert type(found) is NamedFieldDeserializer


class IAddOnLayer(IDefaultBrowserLayer):
    pass


@pytest.mark.parametrize("field", [INamedField, INamedBlobFileField])
def test_a_deserializer_of_an_add_on_does_not_come_before(portal, functional, direct, field):
    """It would not know what it gets. In other requests it does what it is for."""

    class Theirs(NamedFieldDeserializer):
        pass

    portal.invokeFactory("File", "file")
    request = functional["request"].clone()
    alsoProvides(request, IAddOnLayer)
    registry, of = getGlobalSiteManager(), (field, IDexterityContent, IAddOnLayer)
    registry.registerAdapter(Theirs, of, IFieldDeserializer)
    try:
        named = next(schema["file"] for schema in iterSchemata(portal["file"]) if "file" in schema)
        assert type(getMultiAdapter((named, portal["file"], request), IFieldDeserializer)) is Theirs
        mark(request)
        getMultiAdapter((portal["file"], request), IDeserializeFromJson)(data={"file": direct()})
    finally:
        registry.unregisterAdapter(Theirs, of, IFieldDeserializer)
    assert portal["file"].file.filename == "a.html"


def test_nothing_of_a_request_is_taken_for_one(portal):
    storable = getUtility(IStorage, name=NAME)
    for value in (b"abc", "abc", {"staged": "x"}):
        with pytest.raises(NotStorable):
            storable.store(value, None)


def test_it_says_nothing_of_where_it_lies(direct):
    value = direct()
    assert repr(value) == f"<DirectFile of {len(DATA)} bytes>" and value.staged.key not in repr(value)


def test_an_image_is_read_before_the_commit(portal, request_, direct):
    """And its size is told by what was read, not by what was announced."""
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.effect_noise((600, 400), 90).convert("RGB").save(file, "JPEG", exif=exif)
    portal.invokeFactory("Image", "image")
    value = direct(file.getvalue(), "image/jpeg", "a.jpg")
    getMultiAdapter((portal["image"], request_), IDeserializeFromJson)(data={"image": value})
    made = portal["image"].image
    assert type(made) is NamedBlobImage and made.getImageSize() == (400, 600)  # it was turned
    assert made.getSize() == len(made.data) != len(file.getvalue())
    transaction.commit()
    assert made.getSize() == len(made.data)
