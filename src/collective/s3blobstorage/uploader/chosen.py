"""Which types of content have the uploader: what the site's owner chose, ``IUploaderSettings``.

Records are read anew at each use, in the request's thread. Before the add-on was upgraded a site has no such records,
and goes on with Plone's own fields.
"""

from plone.registry.interfaces import IRegistry
from zope.component import queryUtility

_PREFIX = "collective.s3blobstorage.uploader_"  # of the records' names


def uploader_for(portal_type):
    """Whether forms and folders have the uploader for content of this type: its id. Whether the type has a file, and
    who may add it, is asked elsewhere."""
    registry = queryUtility(IRegistry)
    if registry is None or registry.get(_PREFIX + "enabled") is not True:
        return False
    chosen = registry.get(_PREFIX + "portal_types") or ()
    return not chosen or portal_type in chosen
