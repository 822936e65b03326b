"""Inside Zope, for the tests of completed uploads: types, users, and what happens between two steps of a completion.

The header ``X-Test`` of a request says which of the ``HAPPENINGS`` happens, as ``name`` or ``name:argument``.
"""

import hashlib
import http.client
import json
import os
import signal
import threading
from urllib.parse import urlsplit

import transaction
from direct_upload import send_to_store
from plone import api
from plone.autoform import directives
from plone.dexterity.fti import DexterityFTI
from plone.dexterity.schema import SCHEMA_CACHE
from plone.namedfile.field import NamedBlobFile, NamedFile
from plone.namedfile.interfaces import INamedBlobFile
from plone.protect.interfaces import IDisableCSRFProtection
from plone.supermodel import model
from Products.CMFPlone.interfaces import ISelectableConstrainTypes
from Products.Five.browser import BrowserView
from ZODB.POSException import ConflictError
from zope import schema
from zope.component import adapter
from zope.globalrequest import getRequest
from zope.interface import Interface, Invalid, alsoProvides, implementer, invariant
from zope.lifecycleevent.interfaces import IObjectAddedEvent, IObjectCreatedEvent

from collective.s3blobstorage.interfaces import IUploadPolicy
from collective.s3blobstorage.uploading.interfaces import UploadRefused


def no_gif(value):
    if value is not None and value.contentType == "image/gif":
        raise Invalid("no GIF")
    return True


class IClip(model.Schema):
    speaker = schema.TextLine(title="Speaker")
    model.primary("clip")
    clip = NamedBlobFile(title="Clip", constraint=no_gif)
    directives.write_permission(master="cmf.ManagePortal")
    master = NamedBlobFile(title="Master", required=False)
    kept = NamedFile(title="Kept outside of blobs", required=False)

    @invariant
    def not_both_long(data):
        """Looks at the file too."""
        if data.speaker == "long" and data.clip is not None and data.clip.filename == "long.bin":
            raise Invalid("a long clip of a long speaker")


class MakeReady(BrowserView):
    """The type Clip, the user other, and what the site decides about uploads."""

    def __call__(self):
        alsoProvides(self.request, IDisableCSRFProtection)
        portal = api.portal.get()
        fti = DexterityFTI(
            "Clip", schema="completion_inside.IClip", global_allow=True, klass="plone.dexterity.content.Item"
        )
        fti.behaviors = ("plone.dublincore", "plone.namefromtitle", "plone.locking", "plone.shortname")
        portal.portal_types._setObject("Clip", fti)
        portal.portal_workflow.setChainForPortalTypes(["Clip"], [])
        SCHEMA_CACHE.clear()
        portal.acl_users.source_users.doAddUser("other", self.request.form["password"])
        portal["files"].manage_setLocalRoles("other", ["Contributor", "Editor", "Reader"])
        return "made"


class Constrain(BrowserView):
    """Which types a folder takes."""

    def __call__(self):
        alsoProvides(self.request, IDisableCSRFProtection)
        constrain = ISelectableConstrainTypes(self.context)
        types = self.request.form.get("types", "").split()
        constrain.setConstrainTypesMode(1 if types else 0)
        if types:
            constrain.setLocallyAllowedTypes(types)
            constrain.setImmediatelyAddableTypes(types)
        return "constrained"


class Roles(BrowserView):
    """Of the user editor in a folder."""

    def __call__(self):
        alsoProvides(self.request, IDisableCSRFProtection)
        self.context.manage_delLocalRoles(["editor"])
        roles = self.request.form.get("roles", "").split()
        if roles:
            self.context.manage_setLocalRoles("editor", roles)
        self.context.reindexObjectSecurity()
        return "given"


def happens(step, **known):
    """What the request asks for, where it is about this step."""
    request = getRequest()
    told = request.getHeader("X-Test") if request is not None else None
    asked, _, argument = (told or "").partition(":")
    wanted, happening = HAPPENINGS.get(asked, (None, None))
    if wanted == step:
        happening(argument, **known)


HAPPENINGS = {}


def at(step, name):
    def register(happening):
        HAPPENINGS[name] = step, happening
        return happening

    return register


@at("checked", "swap")
def swap(signed, **known):
    """Whoever uploaded sends other bytes by the same signed request, after the first ones were looked at."""
    assert send_to_store(json.loads(signed), b"x" * known["announced"].size) == 200


MEETING = threading.Barrier(2, timeout=60)


@at("checked", "meet")
def meet(argument, **known):
    MEETING.wait()


@at("started", "during")
@at("checked", "afterwards")
def complete_meanwhile(asked, **known):
    """Another request completes the same upload, from the beginning to the end: of this process, or of one beside."""
    netloc, headers = json.loads(asked)
    connection = http.client.HTTPConnection(netloc)
    connection.request("POST", urlsplit(getRequest()["ACTUAL_URL"]).path, b"{}", headers)
    assert connection.getresponse().status == 201
    connection.close()


@at("started", "cancelled-during")
@at("checked", "cancelled-afterwards")
def cancel_meanwhile(asked, **known):
    netloc, headers = json.loads(asked)
    connection = http.client.HTTPConnection(netloc)
    connection.request("DELETE", urlsplit(getRequest()["ACTUAL_URL"]).path, b"", headers)
    assert connection.getresponse().status == 204
    connection.close()


@at("checked", "refuse")
def refuse(argument, **known):
    raise UploadRefused("There is a virus in it.", "virus")


@at("checked", "read")
def read(argument, **known):
    """As a scan of viruses: all of it, and from the middle on."""
    reader, size = known["reader"], known["announced"].size
    digest = hashlib.sha256()
    while piece := reader.read(1 << 20):
        digest.update(piece)
    assert digest.hexdigest() == argument
    reader.seek(size // 2)
    assert len(reader.read()) == size - size // 2


@at("checked", "savepoints")
def savepoint(argument, **known):
    transaction.savepoint()


CONFLICTS = set()


@at("added", "conflict")
def conflict(argument, **known):
    """Once."""
    if argument not in CONFLICTS:
        CONFLICTS.add(argument)
        raise ConflictError("of the test")


@at("added", "hash")
def note_hash(argument, **known):
    """As a subscriber that reads the file before the commit, and after savepoints."""
    obj = known["obj"]
    transaction.savepoint()
    with obj.file.open() as file:
        obj.description = hashlib.sha256(file.read()).hexdigest()
    transaction.savepoint()


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


KILLS = ("checked", "created", "added", "voted", "committed")


class _Voter:
    """The last resource of a transaction: all others have voted, then finished."""

    transaction_manager = transaction.manager

    def __init__(self, step):
        self.step = step

    def sortKey(self):
        return "~~~~"  # after every database

    def tpc_vote(self, txn):
        if self.step == "voted":
            killed()

    def tpc_finish(self, txn):
        if self.step == "committed":
            killed()

    def nothing(self, txn):
        pass

    abort = tpc_begin = commit = tpc_abort = nothing


for _step in ("checked", "created", "added"):
    at(_step, f"kill-{_step}")(lambda argument, **known: killed())
for _step in ("voted", "committed"):
    at("checked", f"kill-{_step}")(lambda argument, step=_step, **known: transaction.get().join(_Voter(step)))


@implementer(IUploadPolicy)
@adapter(Interface, Interface)
class Policy:
    def __init__(self, context, request):
        pass

    def check_start(self, announced):
        happens("started", announced=announced)

    def check_completed(self, announced, reader, sniffed):
        happens("checked", announced=announced, reader=reader)


@adapter(Interface, IObjectCreatedEvent)
def created(obj, event):
    if INamedBlobFile.providedBy(getattr(obj, "file", None)):
        happens("created", obj=obj)


@adapter(Interface, IObjectAddedEvent)
def added(obj, event):
    if INamedBlobFile.providedBy(getattr(obj, "file", None)):
        happens("added", obj=obj)
