"""When the commit of a completion fails: Zope makes that, after the service has answered."""

import json

from plone.rest.interfaces import IAPIRequest
from Products.Five.browser import BrowserView
from zope.interface import directlyProvidedBy, directlyProvides

from ..about import refusal_of


class ICompletion(IAPIRequest):
    """A request that completes an upload."""


def mark(request):
    """In front of plone.rest's own marker, whose page for errors calls each of them a 500."""
    directlyProvides(request, ICompletion, directlyProvidedBy(request))


class CommitFailed(BrowserView):
    """The page of Zope for such an error. The context is the error; nothing was committed.

    The status and the JSON are those of an error that the service raises itself (``BlobService``).
    """

    def __call__(self):
        response = self.request.response
        told = refusal_of(self.context).answer(response)
        response.setStatus(response.getStatus(), lock=True)  # behind this Zope sets the one of the exception's class
        for name in ("Location", "Content-Location"):  # of content that there is not
            response.headers.pop(name.lower(), None)
        response.setHeader("Content-Type", "application/json")
        response.setHeader("Cache-Control", "no-store")
        return json.dumps(told, indent=2)
