"""Why a file was not taken the normal way, in words for the editor."""

from plone.dexterity.utils import iterSchemataForType
from plone.restapi.services.locking import is_locked
from zope.i18n import translate
from zope.i18nmessageid import Message, MessageFactory
from zope.schema import getFields

from ..services.refusal import Refusal
from ..uploading.interfaces import UploadRefused

_ = MessageFactory("collective.s3blobstorage")


def said(error, context, request):
    """The ``Refusal`` to answer with, its message in the language of the request.

    ``error``: a Refusal or an UploadRefused of what was asked of the context.
    """
    if isinstance(error, UploadRefused):
        return Refusal(422, "UploadRefused", translate(error.message, context=request), reason=error.kind)
    message = translate(_words(error, context, request), context=request)
    return Refusal(error.status, error.kind, message, **error.more)


def _words(error, context, request):
    if isinstance(error.message, Message):
        return error.message
    if error.status == 401:
        return _("You are logged out. Log in, then upload the file again.")
    if error.status == 403 and is_locked(context, request):
        return _("This content is locked by somebody else.")
    if error.status == 403 and error.more.get("field") == "@type":
        return _("Content of this type cannot be added here.")
    if error.status == 403 and "field" not in error.more:
        return _("You may not upload here.")
    return error.message  # for whoever wrote the request


def of_values(error, portal_type, request):
    """The ``Refusal`` for a BadRequest of plone.restapi, about values that content of that type does not take."""
    given = error.args[0] if error.args else ()
    wrong = [each for each in given if isinstance(each, dict)] if isinstance(given, (list, tuple)) else []
    titles = {
        name: field.title for schema in iterSchemataForType(portal_type) for name, field in getFields(schema).items()
    }
    texts = []
    for each in wrong:
        title = translate(titles.get(each.get("field")) or "", context=request)
        message = translate(each.get("message") or "", context=request)
        texts.append(f"{title}: {message}" if title else str(message))
    fields = [each["field"] for each in wrong if each.get("field")]
    return Refusal(400, "BadRequest", " ".join(texts) or str(error), fields=fields)
