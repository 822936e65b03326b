"""The part of “Settings” about the uploader: whether pages and forms have it, and for which types."""

from plone.registry.interfaces import IRegistry
from zope.component import getUtility

from ..delivery.interfaces import PREFIX
from .chosen import read_types
from .messages import _
from .schema import is_upgraded
from .upload_part import titles_with_file

TYPES = "uploader_portal_types"


class UploaderPart:
    """What the page shows of it. ``page``: the view, which knows what is saved and what was sent."""

    def __init__(self, page):
        self._page = page
        upgraded = is_upgraded(getUtility(IRegistry), PREFIX)
        self.why_not = "" if upgraded else _("The add-on was updated: upgrade it in Site Setup, under Add-ons.")
        self.disabled = bool(self.why_not)

    @property
    def enabled(self):
        return not self.disabled and bool(self._page.value("uploader_enabled"))

    @property
    def types(self):
        """Content with a file or an image."""
        return self._page.boxes(TYPES, titles_with_file(self._page.context))

    def read(self, form, types):
        """(values by the names of ``IUploaderSettings``, messages by the same names), as ``chosen.read``. Nothing is
        read where it is shown disabled."""
        values, wrong = {}, {}
        if not self.disabled:
            read_types(form, "uploader", types, values, wrong)
            values["uploader_enabled"] = bool(form.get("uploader_enabled"))
        return values, wrong
