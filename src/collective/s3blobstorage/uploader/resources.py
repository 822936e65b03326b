"""Script and style of the uploader: their addresses, which change when the files do."""

import hashlib
from functools import cache
from pathlib import Path

from zope.component import getMultiAdapter

NAME = "++resource++collective.s3blobstorage.uploader"
_STATIC = Path(__file__).with_name("static")


class Resources:
    """``script``: a module; ``style``: a style sheet. In the thread of the request."""

    def __init__(self, context, request):
        state = getMultiAdapter((context, request), name="plone_portal_state")
        self._place = f"{state.portal_url()}/{NAME}"

    @property
    def script(self):
        return self._url("uploader.js")

    @property
    def style(self):
        return self._url("uploader.css")

    def _url(self, name):
        path = _STATIC / name
        try:
            # A stat for each page is nothing, and whoever builds the script need not restart Zope.
            changed = path.stat().st_mtime_ns
        except FileNotFoundError:  # of a checkout in which nobody has built it: the plain form is there
            return f"{self._place}/{name}"
        return f"{self._place}/{name}?v={_digest(path, changed)}"


@cache
def _digest(path, _changed):
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
