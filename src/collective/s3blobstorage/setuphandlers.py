"""Which of the profiles an administrator is offered, and what removing the add-on takes along."""

from AccessControl.Permission import Permission
from Acquisition import aq_parent
from plone.base.interfaces import INonInstallable
from Products.GenericSetup import profile_registry
from zope.interface import implementer

from .permissions import CHANGE_SETTINGS, OPERATE, VIEW_STATUS
from .uploading.open_uploads import forget

PACKAGE = "collective.s3blobstorage"
OFFERED = f"{PACKAGE}:default"


@implementer(INonInstallable)
class HiddenProfiles:
    """Hides every profile but ``default``: ``uninstall``, and those that upgrade steps apply.

    The rule reads the registry, so that a profile which a later upgrade brings cannot be forgotten here. Asked by
    Plone's add-on control panel and site creation form, in the thread of the request.
    """

    def getNonInstallableProfiles(self):
        return [info["id"] for info in self._profiles() if info["id"] != OFFERED]

    def getNonInstallableProducts(self):
        """Subpackages with profiles of their own, such as ``collective.s3blobstorage.upgrades``."""
        return sorted({info["product"] for info in self._profiles()} - {PACKAGE})

    def _profiles(self):
        return [
            info
            for info in profile_registry.listProfileInfo()
            if info["product"] == PACKAGE or (info["product"] or "").startswith(f"{PACKAGE}.")
        ]


def forget_permissions(setup_tool):
    """After the uninstall profile: roles that the site's security tab gave our permissions are acquired again, and the
    register of uploads goes."""
    portal = aq_parent(setup_tool)
    for name in (VIEW_STATUS, CHANGE_SETTINGS, OPERATE):
        Permission(name, (), portal).setRoles([])
    forget(portal)
