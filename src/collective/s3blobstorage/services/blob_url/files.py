"""The files of an item as plone.namedfile gives them to this user: who may have them, under which type and name."""

from urllib.parse import quote

from AccessControl import Unauthorized
from AccessControl.ZopeGuards import guarded_getattr
from plone.dexterity.utils import iterSchemata
from plone.namedfile.browser import DisplayFile, Download
from plone.namedfile.interfaces import INamed
from zExceptions import NotFound
from zope.component import getMultiAdapter
from zope.schema import getFieldsInOrder

from ...delivery.direct import shown


class _Headers:
    """Stands for request and response where a view sets headers that are not those of this answer."""

    def __init__(self):
        self.response = self
        self._values = {}

    def setHeader(self, name, value):
        self._values[name.lower()] = value

    def getHeader(self, name):
        return self._values.get(name.lower())


class Wanted:
    """One file or scale. ``plone_url``: where Plone itself gives it; ``shown``: under which type and disposition."""

    def __init__(self, context, field, file, plone_url, headers):
        self.context = context
        self.field = field
        self.file = file
        self.plone_url = plone_url
        self.shown = shown(headers)


def file_of(context, request, field, *, inline):
    """The file in a field, after plone.namedfile's own check. Raises NotFound and Unauthorized as that does.

    ``inline`` is what plone.namedfile allows to be: for other types it stays an attachment.
    """
    headers = _Headers()
    view = (DisplayFile if inline else Download)(context, request)
    view.fieldname = field
    file = view._getFile()
    if not INamed.providedBy(file):
        raise NotFound(field)
    view.request = headers
    view.set_headers(file)
    name = "@@display-file" if inline else "@@download"
    filename = f"/{quote(file.filename)}" if file.filename else ""
    return Wanted(context, field, file, f"{context.absolute_url()}/{name}/{field}{filename}", headers)


def scale_of(context, request, field, scale):
    """A scale of the image in a field, made where there is none yet, as Plone does when it is asked for one."""
    guarded_getattr(context, field, None)  # before anything is made
    scaling = getMultiAdapter((context, request), name="images")
    view = scaling.scale(field, scale=scale)
    if view is None:
        raise NotFound(scale)
    view.validate_access()
    headers = _Headers()
    view.set_headers(response=headers)
    return Wanted(context, field, view.data, view.url, headers)


def fields_of(context):
    """(name, file) of each field with a file that this user may have."""
    for schema in iterSchemata(context):
        for name, _ in getFieldsInOrder(schema):
            try:
                file = guarded_getattr(context, name, None)
            except Unauthorized:
                continue
            if INamed.providedBy(file):
                yield name, file
