"""Why a file was not taken the normal way, in words for the editor."""

from zope.i18n import translate
from zope.i18nmessageid import Message, MessageFactory

from ..services.refusal import Refusal
from ..uploading.interfaces import UploadRefused

_ = MessageFactory("collective.s3blobstorage")


def said(error, request):
    """The ``Refusal`` to answer with, its message in the language of the request.

    ``error``: a Refusal or an UploadRefused.
    """
    if isinstance(error, UploadRefused):
        return Refusal(422, "UploadRefused", translate(error.message, context=request), reason=error.kind)
    if error.status == 401:
        message = _("You are logged out. Log in, then upload the file again.")
        error = Refusal(401, error.kind, message, **error.more)
    elif error.status == 403 and not isinstance(error.message, Message) and "field" not in error.more:
        error = Refusal(403, error.kind, _("You may not upload here."), **error.more)
    return error.translated(request)
