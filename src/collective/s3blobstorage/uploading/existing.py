"""What a container has under the name of a file already: content whose file an editor may want to replace.

In the request's thread; no request to a store.
"""

from AccessControl import getSecurityManager
from plone.dexterity.interfaces import IDexterityContainer
from plone.dexterity.utils import iterSchemata
from plone.i18n.normalizer.interfaces import IUserPreferredURLNormalizer
from plone.uuid.interfaces import IUUID
from Products.CMFCore.permissions import View
from z3c.form.interfaces import IDataManager
from zope.component import getMultiAdapter

from .places import file_fields, replaceable_fields

# Names of files are in no index, and to look into one object costs two reads of the database: in a container with more
# content than that only the id counts.
LOOKS_INTO = 200


def existing(container, request, filename):
    """A dict for each content of this container that the user may see and change, and whose primary file has that name,
    or whose id is the one that Plone makes of the name: ``@id``, ``UID``, ``title``, ``field``, ``size``.

    ``size``: bytes of the file that is there; None where there is none.
    """
    if not IDexterityContainer.providedBy(container):
        return []
    id = IUserPreferredURLNormalizer(request).normalize(filename) if filename.strip() else ""
    found = []
    for obj in _candidates(container, id):
        field = next((one for one in file_fields(iterSchemata(obj)) if one.primary), None)
        if field is None or field.name not in replaceable_fields(obj, request):
            continue
        file = _file_of(obj, field)
        if obj.getId() == id or (file is not None and file.filename == filename):
            entry = {
                "@id": obj.absolute_url(),
                "UID": IUUID(obj, None),
                "title": obj.Title(),
                "field": field.name,
                "size": None if file is None else file.getSize(),
            }
            found.append((file is None or file.filename != filename, entry))
    # Whose file has the name comes before what has the id alone.
    return [entry for _by_id, entry in sorted(found, key=lambda pair: pair[0])]


def _candidates(container, id):
    """Content of the container that may be it, and that this user may see."""
    ids = container.objectIds() if container.objectCount() <= LOOKS_INTO else [id]
    objects = (container._getOb(one, None) for one in ids)
    may = getSecurityManager().checkPermission
    return [obj for obj in objects if obj is not None and may(View, obj)]


def _file_of(obj, field):
    for schema in iterSchemata(obj):
        if field.name in schema:
            return getMultiAdapter((obj, schema[field.name]), IDataManager).query(default=None)
    return None
