"""Where a user may upload a file to: content that is added to a container, or a file of content that is replaced.

As plone.restapi asks when it adds or changes content, and asked before anything is begun: a refusal after gigabytes
helps nobody. All of it is asked again when the upload becomes content. In the request's thread; no request to a store.
Raises ``services.refusal.Refusal``; one with a ``reason`` has a message for the editor.
"""

from dataclasses import dataclass

from AccessControl import getSecurityManager
from AccessControl.owner import ownerInfo
from Acquisition import aq_base
from plone.autoform.interfaces import WRITE_PERMISSIONS_KEY
from plone.base.interfaces import IPloneSiteRoot
from plone.dexterity.interfaces import IDexterityFTI
from plone.dexterity.utils import iterSchemata, iterSchemataForType
from plone.locking.interfaces import ILockable
from plone.namedfile.interfaces import IBlobby, INamedField, INamedImageField
from plone.rfc822.interfaces import IPrimaryField
from plone.supermodel.utils import mergedTaggedValueDict
from plone.uuid.interfaces import IUUID
from Products.CMFCore.interfaces import ISiteRoot
from Products.CMFCore.permissions import AddPortalContent, ModifyPortalContent
from zope.component import getUtility, queryUtility
from zope.i18nmessageid import MessageFactory
from zope.schema import getFieldsInOrder
from zope.security.interfaces import IPermission

from ..services.refusal import Refusal, bad_field

_ = MessageFactory("collective.s3blobstorage")


@dataclass(frozen=True, slots=True)
class FileField:
    """A field whose value is a file in a blob. ``image``: whether it takes pictures only."""

    name: str
    image: bool
    primary: bool
    write_permission: str | None


def current_user():
    """Who is logged in, and where the account is: a site's ``jane`` is not the application root's. Refusal for nobody:
    what Anonymous begins would be everybody's."""
    owner = ownerInfo(getSecurityManager().getUser())
    if owner is None:
        raise Refusal(401, "Unauthorized", "log in to upload files")
    path, user = owner
    return f"{'/'.join(path)} {user}"


def current_site():
    """The Plone site of this request: its register has the uploads, and its key ring signs the tokens."""
    return getUtility(ISiteRoot)


def site_id(site):
    return "/".join(site.getPhysicalPath())


def container_id(context):
    """The UID of a container, or of content; "" of a site root. Refusal where it has none."""
    if IPloneSiteRoot.providedBy(context):
        return ""
    uid = IUUID(context, None)
    if not uid:
        raise Refusal(409, "Conflict", "this content has no UID")
    return uid


def field_to_add(container, portal_type, name=""):
    """The ``FileField`` of content of that type that this user may add here."""
    if not _may(AddPortalContent, container):
        raise Refusal(403, "Forbidden", _("You may not upload here."), reason="place")
    if portal_type not in addable_types(container):
        message = _("Content of this type cannot be added here.")
        raise Refusal(403, "Forbidden", message, reason="portal-type", field="@type")
    return _chosen(file_fields(iterSchemataForType(portal_type)), name, container)


def field_to_replace(content, request, name=""):
    """The ``FileField`` of this content that this user may change."""
    if not _may(ModifyPortalContent, content):
        raise Refusal(403, "Forbidden", _("You may not change this content."), reason="place")
    if is_locked(content, request):
        raise Refusal(403, "Forbidden", _("This content is locked by somebody else."), reason="locked")
    if IPloneSiteRoot.providedBy(content):
        raise Refusal(403, "Forbidden", "a site has no file that could be replaced")
    return _chosen(file_fields(iterSchemata(content)), name, content)


def field_for(place, request, portal_type, name="", *, replaces):
    """The one of the two: ``place`` is the content whose file is replaced, or the container."""
    return field_to_replace(place, request, name) if replaces else field_to_add(place, portal_type, name)


def is_locked(content, request):
    """Whether somebody else has locked it, and the request has not the token of that lock, as plone.restapi's clients.

    Whoever edits it in a form of Plone has locked it so, and uploads from there without a token.
    """
    lockable, token = ILockable(content, None), request.getHeader("Lock-Token", "")
    if lockable is None:
        return False
    user = getSecurityManager().getUser().getId()
    return any(lock["creator"] != user and lock["token"] != token for lock in lockable.lock_info())


def addable_types(container):
    """Ids of the types of Dexterity content that this user may add here, as the container restricts them."""
    if not hasattr(aq_base(container), "allowedContentTypes"):  # a file would acquire its container's
        return []
    return [
        info.getId()
        for info in container.allowedContentTypes()
        if IDexterityFTI.providedBy(info) and info.isConstructionAllowed(container)
    ]


def types_with_files(container):
    """(id, ``FileField`` of each) of those of them that have a file in a blob, by which an upload can become one."""
    if not _may(AddPortalContent, container):
        return
    for name in addable_types(container):
        if fields := file_fields(iterSchemataForType(name)):
            yield name, fields


def uploadable_types(container):
    """The ids of ``types_with_files``."""
    return [name for name, _fields in types_with_files(container)]


def replaceable_fields(content, request):
    """Names of the fields of this content whose file this user may replace."""
    if IPloneSiteRoot.providedBy(content) or not _may(ModifyPortalContent, content) or is_locked(content, request):
        return []
    return [field.name for field in file_fields(iterSchemata(content)) if may_write(field, content)]


def file_fields(schemata):
    """The ``FileField`` of each field that has its file in a blob and can be written, in the order of the schemata."""
    found = {}
    for schema in schemata:
        permissions = mergedTaggedValueDict(schema, WRITE_PERMISSIONS_KEY)
        for name, field in getFieldsInOrder(schema):
            if INamedField.providedBy(field) and IBlobby.implementedBy(field._type) and not field.readonly:
                image = INamedImageField.providedBy(field)
                found.setdefault(name, FileField(name, image, IPrimaryField.providedBy(field), permissions.get(name)))
    return list(found.values())


def _chosen(fields, name, place):
    """The one of that name, else the primary one."""
    chosen = next((field for field in fields if (field.name == name if name else field.primary)), None)
    if chosen is None:
        known = ", ".join(field.name for field in fields) or "none"
        raise bad_field("field", f"is no file of this type of content; there are: {known}")
    if not may_write(chosen, place):
        raise Refusal(403, "Forbidden", f"you may not write the field {chosen.name}", field="field")
    return chosen


def may_write(field, place):
    """Whether this user may, of a ``FileField``: by its own permission."""
    if field.write_permission is None:
        return True
    permission = queryUtility(IPermission, field.write_permission)
    return permission is not None and _may(permission.title, place)


def _may(permission, place):
    return bool(getSecurityManager().checkPermission(permission, place))
