"""All that a site's owner sets, for whoever shows or changes it as a whole."""

from plone.supermodel.interfaces import FIELDSETS_KEY
from plone.supermodel.model import Fieldset
from zope.interface import taggedValue

from ..delivery.interfaces import IDeliverySettings
from ..uploader.interfaces import IUploaderSettings
from ..uploading.interfaces import IUploadSettings
from .messages import _


class ISiteSettings(IDeliverySettings, IUploaderSettings, IUploadSettings):
    """The fields of all, by their names. Volto shows those of uploads in parts of their own."""

    taggedValue(
        FIELDSETS_KEY,
        [
            Fieldset("uploader", label=_("Uploading"), fields=list(IUploaderSettings.names())),
            Fieldset("upload", label=_("Direct upload"), fields=list(IUploadSettings.names())),
        ],
    )


def is_upgraded(registry, prefix):
    """Whether the site has all records: not before its add-on was upgraded in Site Setup."""
    return all(f"{prefix}.{name}" in registry for name in (*IUploaderSettings.names(), *IUploadSettings.names()))
