"""The headers and the body that stay ours, whatever else works on a response after the view."""

from plone.transformchain.interfaces import ITransform
from zope.component import adapter
from zope.interface import Interface, implementer
from ZPublisher.interfaces import IPubSuccess

from ..layer import IS3BlobStorageLayer
from .body import Pieces, Slice

_NAME = "s3blobs_headers"


def drop(response, *names):
    """Remove headers. plone.app.caching writes some names in capitals, which Zope takes for others."""
    names = {name.lower() for name in names}
    for name in [name for name in response.headers if name.lower() in names]:
        del response.headers[name]


def keep(response, status, headers):
    """Set status and headers, None for one that must not be there, now and for good.

    plone.app.caching sets its own when the view has returned. What it sets for another status, as for the page that
    asks for a confirmation, stays.
    """
    response.setStatus(status)
    _set(response, headers)
    setattr(response, _NAME, (status, headers))


def _set(response, headers):
    drop(response, *headers)
    for name, value in headers.items():
        if value is not None:
            response.setHeader(name, value)


@adapter(IPubSuccess)
def set_what_was_kept(event):
    """Called after the commit, when nobody changes a header any more, in the thread of the request."""
    response = event.request.response
    status, headers = getattr(response, _NAME, (None, None))
    if headers is not None and status == response.getStatus():
        _set(response, headers)


@implementer(ITransform)
@adapter(Interface, IS3BlobStorageLayer)
class NoBody:
    """Shows the chain of transforms an empty body in place of ours.

    Themes and plone.protect parse what is HTML, and plone.app.caching joins what it keeps in memory: a file would be
    fetched whole and come out as other bytes than its length and its ranges say. The chain runs all the same, with the
    checks and the headers that are in it; an empty result leaves the response's body as it is.
    """

    order = 0  # before all of Plone's, which begin at 8,000

    def __init__(self, published, request):
        pass

    def transformIterable(self, result, encoding):
        return b"" if isinstance(result, (Pieces, Slice)) else None

    def transformBytes(self, result, encoding):
        return None

    def transformUnicode(self, result, encoding):
        return None
