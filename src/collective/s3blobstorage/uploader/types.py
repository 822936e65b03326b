"""What a file, and a folder of files, can become in a container: the types that the page "Upload files" offers.

In the request's thread; no request to a store.
"""

from plone.dexterity.interfaces import IDexterityContainer
from plone.dexterity.utils import iterSchemataForType, resolveDottedName
from zope.schema import getFields

from ..uploading.places import addable_types, current_site, may_write, types_with_files
from .chosen import uploader_for

# What an upload gives, or plone.restapi passes over when it creates content.
_GIVEN = ("id", "title", "changeNote")


def page_types(container):
    """(id of the type, its ``FileField``) of each that this user may add here and that has the uploader.

    In the order of the site, one after the other: who wants to know whether there is any takes the first one. The field
    is the primary one, which this user may write; a type with other fields that somebody has to fill in is left out,
    since a file alone is refused as such content.
    """
    for name, fields in types_with_files(container):
        field = next((field for field in fields if field.primary), None)
        if field is None or not uploader_for(name) or not may_write(field, container):
            continue
        if not _wants_more(name, field.name):
            yield name, field


def folder_type(container, files):
    """Id of the type that a dropped folder becomes here: one that this user may add, and that takes files.

    ``files``: ids of the types that files become. ``Folder`` where there is one, else the first that the site has. None
    where there is none.
    """
    types = current_site().portal_types
    fitting = [
        name for name in addable_types(container) if _takes(types.getTypeInfo(name), files) and not _wants_more(name)
    ]
    return "Folder" if "Folder" in fitting else next(iter(fitting), None)


def _takes(info, files):
    if not IDexterityContainer.implementedBy(resolveDottedName(info.klass)):
        return False
    return any(info.allowType(file) for file in files)


def _wants_more(name, field=""):
    """Whether content of the type has a field that is required, has no default, and is none that an upload gives."""
    for schema in iterSchemataForType(name):
        for known, one in getFields(schema).items():
            if known in (field, *_GIVEN) or one.readonly or not one.required:
                continue
            if one.defaultFactory is None and one.default is None:
                return True
    return False
