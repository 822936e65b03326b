"""``@@upload-files``: the page of a container on which an editor uploads files to it; and the way there."""

import json

from Products.Five.browser import BrowserView
from zExceptions import Forbidden, NotFound, Unauthorized
from zope.cachedescriptors.property import Lazy
from zope.component import getMultiAdapter

from ..messages import byte_count
from ..services.refusal import Refusal
from ..uploading.places import current_user, uploadable_types
from .resources import Resources
from .settings import PAGE, page_settings
from .types import page_types


class UploadFiles(BrowserView):
    """The element of ``interfaces.py`` around a plain form, which works without JavaScript. In the request's thread.

    403 for whoever may add nothing here that has a file, with the login form for Anonymous; 404 where the site's owner
    has the uploader off for all of it.
    """

    name = PAGE

    def __call__(self):
        if not self.settings["types"]:
            if uploadable_types(self.context):
                raise NotFound(self.context, self.name, self.request)
            try:
                current_user()
            except Refusal:
                raise Unauthorized("Log in to upload files.") from None
            raise Forbidden("You may not upload files here.")
        self.request.response.setHeader("Cache-Control", "no-store")  # what is allowed is so now, and for this user
        return self.index()

    @Lazy
    def settings(self):
        return page_settings(self.context, self.request)

    @property
    def settings_json(self):
        return json.dumps(self.settings, ensure_ascii=False)

    @Lazy
    def resources(self):
        return Resources(self.context, self.request)

    @property
    def limit(self):
        """The largest file that the plain form takes, as text: what Zope takes in one request, and no more than the
        site's own bound where that holds for all types."""
        most, own = self.settings["normal-maximum-size"], self.settings["maximum-size"]
        if own is not None and all(one["mode"] == "direct" for one in self.settings["types"]):
            most = min(most, own)
        return byte_count(most)


class MayUploadFiles(BrowserView):
    """Whether the action that leads to the page is shown: for the folder of what is looked at, as *Contents* is."""

    def __call__(self):
        folder = getMultiAdapter((self.context, self.request), name="plone_context_state").folder()
        # Asked for on each page that an editor looks at.
        return folder is not None and any(True for _ in page_types(folder))
