"""Errors of the services, as JSON."""

from zope.i18n import translate
from zope.i18nmessageid import Message


class Refusal(Exception):
    """``status`` and the type and message of the JSON, and what else the error has in it.

    The message is for whoever wrote the request; or it is a ``Message``, for the editor.
    """

    def __init__(self, status, kind, message, **more):
        super().__init__(message)
        self.status, self.kind, self.message, self.more = status, kind, message, more

    def translated(self, request):
        """The same, its message in the language of the request."""
        message = self.message
        if isinstance(message, Message):
            message = translate(message, context=request)
        return Refusal(self.status, self.kind, message, **self.more)

    def answer(self, response):
        """The body; sets the status."""
        response.setStatus(self.status)
        return {"error": {"type": self.kind, "message": self.message, **self.more}}


def bad_field(name, message):
    """400 that names a field of the request."""
    return Refusal(400, "BadRequest", f"{name} {message}", field=name)
