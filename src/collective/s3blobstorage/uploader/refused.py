"""Why a file was not taken the normal way, in words for the editor."""

from plone.restapi.services.locking import is_locked
from zope.i18n import translate
from zope.i18nmessageid import Message, MessageFactory

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
