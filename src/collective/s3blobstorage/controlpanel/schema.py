"""All that a site's owner sets, for whoever shows or changes it as a whole."""

from plone.supermodel.interfaces import FIELDSETS_KEY
from plone.supermodel.model import Fieldset
from zope.interface import taggedValue

from ..delivery.interfaces import IDeliverySettings
from ..uploading.interfaces import IUploadSettings
from .messages import _


class ISiteSettings(IDeliverySettings, IUploadSettings):
    """The fields of both, by their names. Volto shows those of direct upload as a part of their own."""

    taggedValue(FIELDSETS_KEY, [Fieldset("upload", label=_("Direct upload"), fields=list(IUploadSettings.names()))])


def is_upgraded(registry, prefix):
    """Whether the site has the records of direct upload: not before its add-on was upgraded in Site Setup."""
    return all(f"{prefix}.{name}" in registry for name in IUploadSettings.names())
