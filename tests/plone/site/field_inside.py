"""Inside Zope, for the tests of the field of forms: a type with two files, and what happens while one is saved.

The header ``X-Test`` of a request says what happens, as in ``completion_inside.py``.
"""

import hashlib
import os
import signal
from dataclasses import replace
from datetime import timedelta

import transaction
from completion_inside import _Voter
from plone import api
from plone.autoform.interfaces import IFormFieldProvider
from plone.dexterity.browser.add import DefaultAddForm, DefaultAddView
from plone.dexterity.fti import DexterityFTI
from plone.dexterity.schema import SCHEMA_CACHE
from plone.namedfile.field import NamedBlobFile, NamedBlobImage
from plone.protect.interfaces import IDisableCSRFProtection
from plone.supermodel import model
from Products.Five.browser import BrowserView
from z3c.form import button
from z3c.form.field import Fields
from z3c.form.form import Form
from z3c.form.interfaces import ActionExecutionError
from ZODB.POSException import ConflictError
from zope import schema
from zope.component import adapter
from zope.globalrequest import getRequest
from zope.interface import Interface, Invalid, alsoProvides, implementer, invariant, provider
from zope.lifecycleevent.interfaces import IObjectAddedEvent

from collective.s3blobstorage.interfaces import IUploadPolicy
from collective.s3blobstorage.uploading.interfaces import UploadRefused
from collective.s3blobstorage.uploading.token import read, sign

LARGEST = 300_000


def not_too_large(value):
    """A constraint that asks for the size, and reads the file."""
    if value is not None:
        if value.getSize() > LARGEST:
            raise Invalid("The slides are larger than 300 KB.")
        with value.open() as file:
            if b"forbidden" in file.read():
                raise Invalid("The slides say what is forbidden.")
    return True


class ITalk(model.Schema):
    speaker = schema.TextLine(title="Speaker")
    model.primary("recording")
    recording = NamedBlobFile(title="Recording")

    @invariant
    def no_long_text_by_long(data):
        """Looks at the file too."""
        if data.speaker == "long" and data.recording is not None and data.recording.filename == "long.bin":
            raise Invalid("A long recording of a long speaker.")


@provider(IFormFieldProvider)
class ISlides(model.Schema):
    model.fieldset("more", label="More", fields=["slides", "portrait"])
    slides = NamedBlobFile(title="Slides", required=False, constraint=not_too_large)
    portrait = NamedBlobImage(title="Portrait", required=False)


class IPlain(Interface):
    """Of a form that is none of content."""

    file = NamedBlobFile(title="File", required=False)


class PlainForm(Form):
    fields = Fields(IPlain)
    ignoreContext = True
    label = "Plain"

    @button.buttonAndHandler("Send", name="send")
    def send(self, action):
        data, errors = self.extractData()
        if not errors:
            file = data["file"]
            self.status = f"got {file.getSize() if file else None}"


class ThrowingAddForm(DefaultAddForm):
    """Makes content, and then finds something wrong: the form is shown again, and Zope commits."""

    def add(self, object):
        happening = getRequest().getHeader("X-Test")
        if happening == "thrown-away":
            raise ActionExecutionError(Invalid("not today"))
        super().add(object)

    def create(self, data):
        if getRequest().getHeader("X-Test") == "by-hand":  # as a form that knows of no data manager
            recording = data.pop("recording")
            made = super().create(data)
            made.recording = recording
            return made
        return super().create(data)


class ThrowingAddView(DefaultAddView):
    form = ThrowingAddForm


class MakeReady(BrowserView):
    """The type Talk, the user other, and types of Plone that keep versions."""

    def __call__(self):
        alsoProvides(self.request, IDisableCSRFProtection)
        portal = api.portal.get()
        fti = DexterityFTI("Talk", schema="field_inside.ITalk", global_allow=True, klass="plone.dexterity.content.Item")
        fti.behaviors = ("plone.dublincore", "plone.namefromtitle", "plone.locking", "field_inside.ISlides")
        portal.portal_types._setObject("Talk", fti)
        portal.portal_workflow.setChainForPortalTypes(["Talk"], [])
        SCHEMA_CACHE.clear()
        portal.acl_users.source_users.doAddUser("other", self.request.form["password"])
        portal["files"].manage_setLocalRoles("other", ["Contributor", "Editor", "Reader"])
        return "made"


class Rolled(BrowserView):
    """Back to an earlier version: what Plone's history page does."""

    def __call__(self):
        alsoProvides(self.request, IDisableCSRFProtection)
        api.portal.get_tool("portal_repository").revert(self.context, int(self.request.form["version"]))
        return "reverted"


class Version(BrowserView):
    """The bytes of an earlier version's file."""

    def __call__(self):
        tool = api.portal.get_tool("portal_repository")
        return tool.retrieve(self.context, int(self.request.form["version"])).object.file.data


class Lock(BrowserView):
    def __call__(self):
        from plone.locking.interfaces import ILockable

        alsoProvides(self.request, IDisableCSRFProtection)
        lockable = ILockable(self.context)
        if "off" in self.request.form:
            lockable.clear_locks()
        else:
            lockable.lock()
        return "done"


class Expired(BrowserView):
    """The token of the same upload, as if it had been begun days ago."""

    def __call__(self):
        ticket = read(self.request.form["token"])
        return sign(replace(ticket, expires=ticket.expires - timedelta(days=9)))


class Waiting(BrowserView):
    """How much of files Plone keeps in the database for forms that are shown again."""

    def __call__(self):
        from zope.annotation.interfaces import IAnnotations

        kept = IAnnotations(api.portal.get()).get("file_upload_map", {})
        return str(sum(len(one["data"] or b"") for one in kept.values()))


def asked():
    request = getRequest()
    told = request.getHeader("X-Test") if request is not None else None
    return (told or "").partition(":")


CONFLICTS = set()


@adapter(Interface, IObjectAddedEvent)
def added(obj, event):
    if getattr(obj, "portal_type", "") not in ("Talk", "File", "Image"):
        return
    name, _, argument = asked()
    if name == "conflict" and argument not in CONFLICTS:
        CONFLICTS.add(argument)
        raise ConflictError("of the test")
    if name == "read":  # as a subscriber that reads the file before the commit, and after savepoints
        transaction.savepoint()
        with obj.file.open() as file:
            obj.description = hashlib.sha256(file.read()).hexdigest()
        transaction.savepoint()
    if name == "kill-committed":
        transaction.get().join(_Voter("committed"))
    if name == "kill-added":
        os.kill(os.getpid(), signal.SIGKILL)


@implementer(IUploadPolicy)
@adapter(Interface, Interface)
class Policy:
    def __init__(self, context, request):
        pass

    def check_start(self, announced):
        pass

    def check_completed(self, announced, reader, sniffed):
        if asked()[0] == "refuse":
            raise UploadRefused("There is a virus in it.", "virus")
