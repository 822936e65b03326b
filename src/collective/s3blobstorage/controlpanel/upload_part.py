"""The part of “Settings” about direct upload."""

from urllib.parse import urlsplit

from plone.dexterity.utils import iterSchemataForType
from plone.namedfile.interfaces import INamedField
from plone.registry.interfaces import IRegistry
from zope.component import getUtility
from zope.schema import getFields

from ..delivery.interfaces import PREFIX
from ..errors import StoreError
from ..interfaces import IBlobStorages
from ..uploading.interfaces import IUploadSettings
from . import chosen_uploads
from .bounds import upload_bounds_of
from .chosen_uploads import LARGEST, NUMBERS
from .messages import _
from .schema import is_upgraded


class UploadPart:
    """What the page shows of it. ``page``: the view, which knows what is saved and what was sent."""

    def __init__(self, page):
        self._page = page
        self.bounds = upload_bounds_of(page.context)
        self.why_not = chosen_uploads.why_not(self.bounds)
        if not self.why_not and not is_upgraded(getUtility(IRegistry), PREFIX):
            self.why_not = _("The add-on was updated: upgrade it in Site Setup, under Add-ons.")
        self.disabled = bool(self.why_not)

    @property
    def enabled(self):
        return not self.disabled and bool(self._page.value("upload_enabled"))

    @property
    def notes(self):
        """What else has to be set, so that files can be sent; as far as that is seen here."""
        return [] if self.disabled else [note for note in (self._store_cannot(), self._unknown_origin()) if note]

    def _store_cannot(self):
        """What the area says: mostly without a request, once in a process by one for a small object."""
        try:
            why = getUtility(IBlobStorages).for_context(self._page.context).uploads().why_not()
        except StoreError as error:  # it is out, which passes
            why = str(error)
        return why and _("Files cannot be sent to the bucket now: ${why}", mapping={"why": why})

    def _unknown_origin(self):
        """Browsers are let through from addresses of zope.conf."""
        parts = urlsplit(self._page.context.absolute_url())
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin in self.bounds.origins:
            return ""
        return _(
            "Browsers may send to the bucket only from addresses that it knows, and ${origin} is not in zope.conf: "
            "add it to direct-upload-origins, then run s3blobs cors.",
            mapping={"origin": origin},
        )

    @property
    def numbers(self):
        return [self._number(IUploadSettings[name]) for name in NUMBERS]

    def _number(self, field):
        most = chosen_uploads.largest(self.bounds)
        if self.disabled or field.getName() != LARGEST:
            return self._page.number(field, disabled=self.disabled)
        note, saved = "", self._page.saved(LARGEST)
        if saved > most:
            note = _(
                "${saved} is saved, but zope.conf allows ${most} at most (direct-upload-max-size).",
                mapping={"saved": saved, "most": most},
            )
        bound = _("zope.conf allows up to ${most} (direct-upload-max-size).", mapping={"most": most})
        return self._page.number(field, most=most, note=note, bound=bound)

    @property
    def types(self):
        """Content with a file or an image."""
        return self._page.boxes("upload_portal_types", titles_with_file(self._page.context))

    @property
    def mime_types(self):
        return self._page.lines("upload_mime_types")


def titles_with_file(site):
    """Titles of the types that have a file or an image, by their ids."""
    return {info.getId(): info.Title() for info in site.portal_types.listTypeInfo() if _has_file(info)}


def _has_file(info):
    schemata = iterSchemataForType(info.getId()) if hasattr(info, "lookupSchema") else ()
    return any(INamedField.providedBy(field) for schema in schemata for field in getFields(schema).values())
