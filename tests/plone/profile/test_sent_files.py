"""Files that come through Zope become content as directly uploaded ones do: constraints, policies, conflicts, words."""

from __future__ import annotations

import base64
import io
import os
from email.message import Message
from types import SimpleNamespace

import pytest
import transaction
from plone import api
from plone.app.testing import SITE_OWNER_NAME, login
from plone.dexterity.fti import DexterityFTI
from plone.dexterity.schema import SCHEMA_CACHE
from plone.namedfile.field import NamedBlobFile, NamedBlobImage
from plone.protect.authenticator import createToken
from plone.supermodel import model
from zope import schema
from zope.component import getGlobalSiteManager
from zope.interface import Interface, Invalid, alsoProvides, implementer, invariant
from ZPublisher.HTTPRequest import FileUpload

from collective.s3blobstorage.interfaces import IUploadPolicy
from collective.s3blobstorage.layer import IS3BlobStorageLayer
from collective.s3blobstorage.services.refusal import Refusal
from collective.s3blobstorage.uploader.refused import said
from collective.s3blobstorage.uploader.send import SendFile
from collective.s3blobstorage.uploader.sent import Asked, default_type, make_of
from collective.s3blobstorage.uploading.interfaces import UploadRefused
from collective.s3blobstorage.uploading.places import FileField

DATA = os.urandom(200_000)
PNG = base64.b64decode(  # of one pixel: Plone 6.1 does not index a picture that has no width
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


def no_gif(value):
    if value is not None and value.contentType == "image/gif":
        raise Invalid("no GIF")
    return True


class ISentClip(model.Schema):
    title = schema.TextLine(title="Title")
    model.primary("clip")
    clip = NamedBlobFile(title="Clip", constraint=no_gif)
    poster = NamedBlobImage(title="Poster", required=False)

    @invariant
    def not_called_so(data):
        if data.clip is not None and data.clip.filename == "invariant.bin":
            raise Invalid("not called so")


class IRatedClip(ISentClip):
    model.primary("clip")
    rating = schema.Int(title="Rating")


@pytest.fixture
def portal(functional):
    login(functional["app"], SITE_OWNER_NAME)
    portal = functional["portal"]
    for name, described in (("Clip", ISentClip), ("RatedClip", IRatedClip)):
        portal.portal_types[name] = DexterityFTI(
            name, global_allow=True, klass="plone.dexterity.content.Item", add_permission="cmf.AddPortalContent",
            schema=described.__identifier__, behaviors=("plone.namefromtitle",),
        )  # fmt: skip
    SCHEMA_CACHE.clear()
    transaction.commit()
    yield portal
    transaction.abort()
    SCHEMA_CACHE.clear()


@pytest.fixture
def request_(functional):
    request = functional["request"].clone()
    alsoProvides(request, IS3BlobStorageLayer)
    return request


def sent(data=DATA, filename="a.bin", content_type="application/octet-stream"):
    """As Zope makes it of a part of a form."""
    headers = Message()
    if content_type:
        headers["Content-Type"] = content_type
    return FileUpload(SimpleNamespace(file=io.BytesIO(data), headers=headers, filename=filename, name="file"))


def refused(context, request, upload, portal_type="Clip"):
    """Status, and what the editor is told."""
    with pytest.raises((Refusal, UploadRefused)) as caught:
        make_of(context, request, upload, Asked(portal_type=portal_type))
    told = said(caught.value, request)
    return told.status, told.message


def test_the_file_of_a_type_of_ones_own(portal, request_):
    made = make_of(portal, request_, sent(filename="Clip one.bin"), Asked(portal_type="Clip"))
    transaction.commit()
    assert made.created and made.field == "clip" and made.obj.title == "Clip one.bin"
    assert portal["clip-one.bin"].clip.data == DATA
    poster = make_of(made.obj, request_, sent(PNG, "p.png", "image/png"), Asked(field="poster", replaces=True))
    transaction.commit()
    assert (poster.created, portal["clip-one.bin"].poster.data, portal["clip-one.bin"].clip.data) == (False, PNG, DATA)


@pytest.mark.parametrize(
    ("upload", "says"),
    [
        (dict(data=b"GIF89a" + bytes(20), filename="a.gif", content_type="image/gif"), "Clip: no GIF"),
        (dict(filename="invariant.bin"), "not called so"),
    ],
)
def test_constraints_and_invariants_are_asked_and_told_by_the_fields_title(portal, request_, upload, says):
    before = set(portal.objectIds())
    status, message = refused(portal, request_, sent(**upload))
    assert status == 400 and says in message and "{" not in message
    assert set(portal.objectIds()) == before


def test_other_fields_that_are_required_are_told(portal, request_):
    assert refused(portal, request_, sent(), "RatedClip") == (
        400,
        "Rating: Required input is missing.",
    )


def test_after_a_conflict_all_of_it_is_done_again(portal, request_):
    """The same file, which the first attempt has read to its end."""
    upload, asked = sent(filename="again.bin"), Asked(portal_type="Clip")
    make_of(portal, request_, upload, asked)
    transaction.abort()
    assert upload.read() == b""
    make_of(portal, request_, upload, asked)
    transaction.commit()
    assert portal["again.bin"].clip.data == DATA


@pytest.fixture
def policy():
    """What the add-on's policy has read. It takes nothing that begins with ``no``."""
    seen = []

    @implementer(IUploadPolicy)
    class Policy:
        def __init__(self, context, request):
            pass

        def check_start(self, announced):
            seen.append(announced.filename)

        def check_completed(self, announced, reader, sniffed):
            seen.append(reader.read())
            if seen[-1].startswith(b"no"):
                raise UploadRefused("a virus")

    wanted = (Interface, Interface)
    getGlobalSiteManager().registerSubscriptionAdapter(Policy, wanted, IUploadPolicy)
    yield seen
    getGlobalSiteManager().unregisterSubscriptionAdapter(Policy, wanted, IUploadPolicy)


def test_policies_of_add_ons_are_asked_where_direct_upload_is_on(portal, request_, policy):
    make_of(portal, request_, sent(b"no", "a.bin"), Asked(portal_type="Clip"))
    assert policy == []
    api.portal.set_registry_record("collective.s3blobstorage.upload_enabled", True)
    assert refused(portal, request_, sent(b"no", "b.bin")) == (422, "a virus")
    made = make_of(portal, request_, sent(b"yes", "c.bin"), Asked(portal_type="Clip"))
    assert policy == ["b.bin", b"no", "c.bin", b"yes"] and made.file.data == b"yes"


class NoSavepoints:
    """What an add-on has in the transaction that sends something when it is committed."""

    transaction_manager = None

    def _nothing(self, current):
        pass

    abort = tpc_begin = commit = tpc_vote = tpc_finish = tpc_abort = _nothing

    def sortKey(self):
        return "test"


def test_a_form_of_several_files_where_an_add_on_knows_no_savepoints(portal, request_):
    transaction.get().join(NoSavepoints())
    request_.method = "POST"
    files = [sent(filename="one.bin"), sent(filename="two.bin")]
    request_.form |= {"file": files, "type": "Clip", "_authenticator": createToken()}
    SendFile(portal, request_)()
    transaction.commit()
    assert portal["one.bin"].clip.data == portal["two.bin"].clip.data == DATA


def test_a_browser_that_does_not_know_a_type_leaves_it_to_plone(portal, request_):
    for content_type in ("application/octet-stream", "", None):
        made = make_of(portal, request_, sent(b"text", "a.txt", content_type), Asked(portal_type="File"))
        assert made.file.contentType == "text/plain"
    made = make_of(portal, request_, sent(b"text", "a.txt", "Text/CSV; charset=utf-8"), Asked(portal_type="File"))
    assert made.file.contentType == "text/csv"


@pytest.mark.parametrize(
    ("types", "picture", "other"),
    [
        ("FP", "P", "F"), ("PF", "P", "F"), ("F", "F", "F"), ("P", "P", ""), ("", "", ""), ("GFP", "P", "G"),
    ],
)  # fmt: skip
def test_which_type_a_file_becomes_by_itself(types, picture, other):
    known = [(name, FileField("file", name == "P", True, None)) for name in types]
    assert default_type(known, "image/png") == picture
    assert default_type(known, "video/mp4") == other


def test_where_nothing_takes_such_a_file(portal, request_):
    api.portal.set_registry_record("collective.s3blobstorage.uploader_portal_types", ("Image",))
    assert refused(portal, request_, sent(), "") == (422, "Nothing that may be added here takes such a file.")
