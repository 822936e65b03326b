"""Why a form did not take an upload, in words for the editor."""

from zope.i18n import translate
from zope.i18nmessageid import Message, MessageFactory
from zope.interface import Invalid

from ..directupload.interfaces import UploadWrong
from ..errors import ConfigurationError, ObjectMissing, PreconditionFailed, StoreError
from ..services.refusal import Refusal
from ..uploading.interfaces import UploadRefused

_ = MessageFactory("collective.s3blobstorage")

REASONS = (UploadRefused, UploadWrong, StoreError, ConfigurationError, Refusal)

NOT_THIS_FIELD = _("What was uploaded is for another place or field. Please choose the file again.")
NOT_HERE = _("This form takes no file that was uploaded directly. Please choose the file again.")
GONE = _("Nothing is left of what was uploaded, or this form was sent before. Please choose the file again.")
SAVED_ALREADY = _("This form was sent before: its file is saved already, as “${title}”.")
LOCKED = _("This content is locked by somebody else. Your file can be saved when it is free again.")


class NotTaken(Invalid):
    """Of a field, or of the whole form. Its text is in the language of the request."""


def not_taken(error, request):
    """The ``NotTaken`` for one of ``REASONS``, or for a message."""
    return NotTaken(translate(_message(error), context=request))


def may_pass(error):
    """Whether the same upload can be saved once more."""
    return isinstance(error, StoreError) and not isinstance(error, ObjectMissing)


def _message(error):
    if isinstance(error, UploadRefused):
        return error.message
    if isinstance(error, (ObjectMissing, UploadWrong)):
        return _of_wrong(error)
    if isinstance(error, PreconditionFailed):
        return _("The file was changed while it was saved. Please save once more.")
    if isinstance(error, StoreError):
        return _("The file cannot be saved just now, since the store is out of reach. Nothing is lost: save once more.")
    if isinstance(error, ConfigurationError):
        return _("Files are not uploaded directly to the store in this site.")
    if isinstance(error, Refusal):
        if error.status == 401:
            return _("You are logged out. Please log in, and save once more.")
        if isinstance(error.message, Message):
            return error.message
        return _("You may not save a file here any more.")
    return error


def _of_wrong(error):
    if getattr(error, "incomplete", False):
        return _("The file has not arrived as a whole. Please choose it again to go on.")
    if isinstance(error, ObjectMissing) or error.gone:
        return GONE
    return _("What was uploaded is not the file that was announced. Please choose it again.")
