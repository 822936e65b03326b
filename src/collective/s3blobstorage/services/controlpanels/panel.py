"""The control panel as plone.restapi has them, with its permission asked for by every verb.

plone.restapi asks for the permission of Site Setup alone, and takes whatever adapters there are for panels.
"""

from plone.registry.interfaces import IRegistry
from plone.restapi.controlpanels import RegistryConfigletPanel
from plone.restapi.interfaces import IControlpanelLayer
from zExceptions import Unauthorized
from zope.component import adapter, getUtility
from zope.interface import Interface, implementer

from ...controlpanel.schema import ISiteSettings, is_upgraded
from ...delivery.interfaces import PREFIX, IDeliverySettings
from ...layer import IS3BlobStorageLayer
from ...permissions import may_change
from .interfaces import IDeliveryPanel


@implementer(IDeliveryPanel)
class DeliveryPanel(RegistryConfigletPanel):
    """Reads ``ISiteSettings``; ``change.py`` writes them. Those of delivery alone, until the add-on was upgraded."""

    schema_prefix = PREFIX
    configlet_id = "s3blobstorage"
    configlet_category_id = "Products"

    @property
    def schema(self):
        return ISiteSettings if is_upgraded(getUtility(IRegistry), PREFIX) else IDeliverySettings


@implementer(IDeliveryPanel)
class NoPanel:
    """What there is for a user without the permission who asks by a verb that changes: each refuses.

    The services of plone.restapi would fail on None with an error of their own.
    """

    schema = schema_prefix = configlet_id = None

    def __init__(self, context, request):
        self.context = context
        self.request = request

    def add(self, names):
        raise Unauthorized("Missing 'collective.s3blobstorage: Change settings' permission")

    update = delete = add


@adapter(Interface, IControlpanelLayer)
@implementer(IDeliveryPanel)
def delivery_panel(context, request):
    """None, so that it is not there, without *Change settings*, and in sites that do not have the add-on."""
    if not IS3BlobStorageLayer.providedBy(request):
        return None
    if may_change(context):
        return DeliveryPanel(context, request)
    return None if request.method in ("GET", "HEAD") else NoPanel(context, request)
