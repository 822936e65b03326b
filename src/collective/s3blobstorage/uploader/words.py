"""What the script says, by names that both know; with ``${name}`` for what differs."""

from zope.i18n import translate
from zope.i18nmessageid import MessageFactory

_ = MessageFactory("collective.s3blobstorage")

WORDS = {
    "too-large": _("The file is ${size}; this site takes up to ${limit}."),
}


def words(request):
    """The texts in the language of the request. In its thread."""
    return {name: translate(text, context=request) for name, text in WORDS.items()}
