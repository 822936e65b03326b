"""``POST <container>/@blob-upload/folders``: the folders into which the files of a dropped folder go.

``{"paths": ["photos/2024", "photos/2025"]}``, from the container on. What is there is used: a container of that title
or id. The answer is the same when it is sent again.
"""

from AccessControl import getSecurityManager
from plone.dexterity.interfaces import IDexterityContainer
from plone.i18n.normalizer.interfaces import IUserPreferredURLNormalizer
from Products.CMFCore.permissions import AddPortalContent, View
from Products.CMFCore.utils import getToolByName
from zExceptions import Unauthorized
from zope.i18nmessageid import MessageFactory

from ...uploader.types import folder_type, page_types
from ...uploading.completing import added
from ...uploading.interfaces import UploadRefused
from ...uploading.policy import check_filename
from ..refusal import Refusal, bad_field
from .requests import only_known
from .upload import UploadService

_ = MessageFactory("collective.s3blobstorage")

MOST_PATHS = 100  # of one request
DEEPEST = 20  # folders of a path


class MakeFolders(UploadService):
    """200 and the address of the folder of each path, in the order that was sent. All of them, or none.

    The right to add such content is asked for in each container in which something is missing, and what its type asks
    of a title is asked of the name. Direct upload need not be on. No request to the store.
    """

    def answer(self):
        self.admitted()
        body = self.body()
        only_known(body, ("paths",))
        self._titles = {}
        made, items = {}, []
        for path in _paths_of(body):
            container, names = self.context, tuple(path.split("/"))
            for depth, name in enumerate(names, 1):
                if names[:depth] not in made:
                    made[names[:depth]] = self._there(container, name) or self._made(container, name)
                container = made[names[:depth]]
            items.append({"path": path, "@id": container.absolute_url()})
        return {"items": items}

    def _there(self, container, name):
        """The folder of that title, else of that id, among those that this user may see; None where there is none."""
        titled = self._titled(container).get(name, ())
        for id in (*titled, name, IUserPreferredURLNormalizer(self.request).normalize(name)):
            obj = container._getOb(id, None)
            if IDexterityContainer.providedBy(obj) and getSecurityManager().checkPermission(View, obj):
                return obj
        return None

    def _titled(self, container):
        """Ids of what was in the container before, by their titles. Asked for once: each query has the catalog index
        what was made up to then, and a container may have thousands."""
        path = "/".join(container.getPhysicalPath())
        if path not in self._titles:
            found = self._titles[path] = {}
            catalog = getToolByName(container, "portal_catalog")
            for brain in catalog(path={"query": path, "depth": 1}, is_folderish=True):
                found.setdefault(brain.Title, []).append(brain.getId)
        return self._titles[path]

    def _made(self, container, name):
        portal_type = None
        if getSecurityManager().checkPermission(AddPortalContent, container):
            portal_type = folder_type(container, [one for one, _field in page_types(container)])
        if portal_type is None:
            raise UploadRefused(_("You may add no folder “${name}” here.", mapping={"name": name}), "folders")
        try:
            made = added(container, self.request, portal_type, {"title": name})
        except Unauthorized as error:
            raise Refusal(403, "Forbidden", str(error)) from None
        self._titles["/".join(made.getPhysicalPath())] = {}
        return made


def _paths_of(body):
    """The paths that a body names. Raises Refusal, and UploadRefused for names that no file may have either."""
    paths = body.get("paths")
    if not isinstance(paths, list) or not 1 <= len(paths) <= MOST_PATHS:
        raise bad_field("paths", f"is no list of 1 to {MOST_PATHS} paths")
    for path in paths:
        if not isinstance(path, str):
            raise bad_field("paths", "has what is no text")
        names = path.split("/")
        if len(names) > DEEPEST:
            raise bad_field("paths", f"has a path with more than {DEEPEST} folders")
        for name in names:
            check_filename(name)
    return paths
