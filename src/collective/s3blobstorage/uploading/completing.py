"""From a staged object to content, in the request's transaction.

Everything is asked again that was asked when the upload began. All of it can be done over: where Zope retries a
conflict, the store copies again, and what it copied before goes with the transaction that failed. The staged object
goes after the commit.
"""

from dataclasses import dataclass
from typing import Any

import transaction
from AccessControl import getSecurityManager
from Acquisition import aq_base
from Acquisition.interfaces import IAcquirer
from plone.app.uuid.utils import uuidToObject
from plone.dexterity.utils import iterSchemata
from plone.restapi.exceptions import DeserializationError
from plone.restapi.interfaces import IDeserializeFromJson
from plone.restapi.services.content.utils import add, create
from plone.uuid.interfaces import IUUID
from Products.CMFCore.permissions import View
from z3c.form.interfaces import IDataManager
from zExceptions import BadRequest, Unauthorized
from zope.component import getMultiAdapter, getUtility, queryMultiAdapter
from zope.event import notify
from zope.i18n import translate
from zope.i18nmessageid import MessageFactory
from zope.interface import Invalid
from zope.lifecycleevent import ObjectCreatedEvent

from ..directupload.interfaces import UploadWrong
from ..errors import ObjectMissing, PreconditionFailed
from ..interfaces import IBlobStorages
from ..services.refusal import Refusal, bad_field
from .dropping import drop_after_commit
from .interfaces import UploadRefused
from .named import DirectFile, mark
from .open_uploads import OpenUploads
from .places import current_site, field_for, file_fields
from .policy import check_completed, check_start
from .sniff import settled, sniffed
from .values import refusal_of_values

_ = MessageFactory("collective.s3blobstorage")


@dataclass(frozen=True, slots=True)
class Completed:
    """``field``: name of the one that got the file. ``created``: False where a file was replaced, and where this very
    upload had been completed before."""

    obj: Any
    field: str
    created: bool

    @property
    def file(self):
        """What the field has: a named file; None where it has none any more."""
        for schema in iterSchemata(self.obj):
            if self.field in schema:
                return getMultiAdapter((self.obj, schema[self.field]), IDataManager).query(default=None)
        return None


class UploadEnded(UploadRefused):
    """The file itself was refused, for good. The upload is ended in a transaction that has nothing else: commit it."""


def complete(context, request, ticket, body):
    """Make content of what was uploaded, or tell what it became before: a ``Completed``.

    :param context: the container, or the content whose file is replaced. That it is the ticket's, as are user, site and
        database, whoever calls has seen to; and that the ticket has not expired
    :param body: a dict: values of other fields, and an ``id`` where content is created

    In the request's thread. Asks the store for what is there, for its first bytes and for a copy, and waits for that as
    long as the store needs for those bytes. After Refusal, UploadRefused, UploadWrong, StoreError, and Unauthorized,
    abort the transaction; after UploadEnded commit it.
    """
    uploads = OpenUploads(current_site())
    known = uploads.result(ticket.upload.id)
    if known is not None:
        return _done_before(known, ticket.announced)
    area = getUtility(IBlobStorages).for_context(context).uploads()
    try:
        return _done_now(context, request, ticket, body, uploads, area)
    except (UploadEnded, UploadWrong, ObjectMissing, PreconditionFailed) as error:
        # Another request that completed or cancelled it may have dropped what this one looked for. That one has
        # committed then, and a transaction that begins now sees it; of another process behind ZEO some milliseconds
        # later, and then this is an error that passes when it is tried again. Nothing of this transaction is kept.
        transaction.begin()
        known = uploads.result(ticket.upload.id)
        if known is not None:
            return _done_before(known, ticket.announced)
        uploads.check_open(ticket.upload.id)
        if isinstance(error, UploadWrong) and error.final:
            error = UploadEnded(_("What arrived is not the file that was announced: its SHA-256 differs."), "sha256")
        if isinstance(error, UploadEnded):
            end(ticket, uploads, area)
        raise error from None


def _done_before(uid, announced):
    obj = uuidToObject(uid, unrestricted=True)
    if obj is None or not getSecurityManager().checkPermission(View, obj):
        raise Refusal(404, "NotFound", "what this upload became is not there any more")
    field = announced.field or next((one.name for one in file_fields(iterSchemata(obj)) if one.primary), "")
    return Completed(obj, field, created=False)


def _done_now(context, request, ticket, body, uploads, area):
    announced = ticket.announced
    creates = not announced.replaces
    field = field_of(context, request, announced).name
    values = _values(body, announced)
    if field in values:
        raise bad_field(field, "is what was uploaded, and cannot be sent too")
    staged, content_type = uploaded(context, request, ticket, area)
    direct = DirectFile(staged, context._p_jar, content_type, announced.filename)
    obj = made(context, request, announced, values | {field: direct})
    if direct.value is None:
        # plone.restapi passes over what may not be written; and an add-on may make the values of such fields itself.
        raise Refusal(
            403, "Forbidden", f"the field {field} does not take a file that was uploaded directly", field=field
        )
    uploads.finish(ticket, IUUID(obj))
    drop_after_commit(area, ticket.upload)
    return Completed(obj, field, created=creates)


def field_of(context, request, announced):
    """The ``FileField`` that the file is for. Refusal where this user may not write it, here and now."""
    return field_for(context, request, announced.portal_type, announced.field, replaces=announced.replaces)


def uploaded(context, request, ticket, area):
    """What was uploaded, after the site's policy and those of add-ons were asked again: an ``IStagedObject``, and the
    content type that it is to have.

    Asks the store for what is there and for its first bytes. UploadRefused, and UploadEnded where it is because of what
    the bytes are: then ``end`` the upload. UploadWrong; StoreError.
    """
    announced = ticket.announced
    check_start(context, request, announced)
    staged = area.finish(ticket.upload)
    seen = sniffed(staged.beginning())
    try:
        content_type = settled(announced.content_type, seen)
        with staged.open() as reader:
            check_completed(context, request, announced, reader, seen)
    except UploadRefused as refused:
        raise UploadEnded(refused.message, refused.kind) from None
    return staged, content_type


def end(ticket, uploads, area):
    """An upload whose file was refused: it is good for nothing any more. What is there goes after the commit."""
    uploads.end(ticket.upload.id)
    drop_after_commit(area, ticket.upload)


def _values(body, announced):
    """What the content gets besides its file. Refusal for what is of no use here."""
    for name in ("UID", "translation_of"):
        if name in body:
            raise bad_field(name, "cannot be set together with an upload")
    if body.get("@type", announced.portal_type) != announced.portal_type:
        raise bad_field("@type", "is another one than when the upload began")
    for name in ("id", "title"):
        if not isinstance(body.get(name) or "", str):
            raise bad_field(name, "is no text")
    if "id" in body and announced.replaces:
        raise bad_field("id", "cannot be changed together with an upload")
    return {name: value for name, value in body.items() if name != "@type"}


def made(context, request, announced, values):
    """The content, new or changed, with these values; its file is one of them, by the name of its field.

    :param context: the container, or the content whose file is replaced
    :param values: what plone.restapi takes, and a ``DirectFile``

    Raises Refusal, also for what plone.restapi does not take, and Unauthorized.
    """
    if not announced.replaces:
        return added(context, request, announced.portal_type, values)
    try:
        return _filled(context, context, request, values, creates=False)
    except BadRequest as error:
        raise refusal_of_values(error, announced.portal_type, request) from None


def added(container, request, portal_type, values):
    """New content of that type in the container, with these values. Raises as ``made``."""
    try:
        return _filled(_created(container, portal_type, values), container, request, values, creates=True)
    except BadRequest as error:
        raise refusal_of_values(error, portal_type, request) from None


def _created(container, portal_type, values):
    """New content, not in its container yet."""
    try:
        obj = create(container, portal_type, id_=values.get("id"), title=values.get("title"))
    except Unauthorized as error:  # what the type itself has to say
        raise Refusal(403, "Forbidden", str(error)) from None
    return obj if hasattr(obj, "aq_base") or not IAcquirer.providedBy(obj) else obj.__of__(container)


def _filled(obj, context, request, values, *, creates):
    """The content with its values, in its container; as plone.restapi's POST and PATCH do it."""
    mark(request)
    deserializer = queryMultiAdapter((obj, request), IDeserializeFromJson)
    if deserializer is None:
        raise Refusal(501, "NotImplemented", f"the type {obj.portal_type} takes no values")
    try:
        deserializer(validate_all=creates, data=values, create=creates)
    except DeserializationError as error:
        raise Refusal(400, "DeserializationError", str(error)) from None
    except Invalid as error:  # of a constraint of a text: plone.restapi takes ValidationError alone for a refusal
        said = error.args[0] if error.args else str(error)
        raise Refusal(400, "BadRequest", translate(said, context=request)) from None
    if not creates:
        return obj
    obj = aq_base(obj)
    if not getattr(deserializer, "notifies_create", False):
        notify(ObjectCreatedEvent(obj))
    return add(context, obj, rename=not values.get("id"))
