"""From what a form was sent, to the value of its field: an upload by its token, or a file that came with the form.

All is asked that ``POST @blob-upload/<token>`` asks. What comes out costs nothing: its bytes stay where they are until
it is set on content (``saving.py``), and a form that is shown again asks for nothing anew. In the request's thread.
"""

import os

from plone.app.uuid.utils import uuidToObject
from plone.formwidget.namedfile.converter import NamedDataConverter
from plone.formwidget.namedfile.utils import is_file_upload
from plone.namedfile.interfaces import INamedField
from plone.namedfile.utils import safe_basename
from plone.uuid.interfaces import IUUID
from Products.CMFCore.permissions import View
from Products.CMFCore.utils import getToolByName
from z3c.form.interfaces import NOT_CHANGED
from zope.component import adapter, getUtility
from zope.i18nmessageid import Message

from ..directupload.interfaces import UploadWrong
from ..interfaces import IBlobStorages
from ..uploading.completing import UploadEnded, end, field_of, uploaded
from ..uploading.named import LentFile, value_of
from ..uploading.open_uploads import OpenUploads
from ..uploading.places import current_site, is_locked
from ..uploading.tickets import check_ticket
from ..uploading.token import read
from .interfaces import IUploaderWidget
from .reasons import GONE, LOCKED, NOT_HERE, NOT_THIS_FIELD, REASONS, SAVED_ALREADY, may_pass, not_taken
from .saving import Saving, await_saving


class ChosenUpload:
    """What a form says of an upload: what its widget extracts. Made anew for each request.

    ``good``: whether it may be shown as the file that the field has. Nobody but whom it belongs to sees its name.
    """

    def __init__(self, token):
        self.token = token
        self.ticket = None
        self.good = False
        self._value = None

    def __repr__(self):
        return f"<{type(self).__name__}>"

    @property
    def filename(self):
        return self.ticket.announced.filename

    @property
    def size(self):
        return self.ticket.announced.size

    def value(self, place, field, request):
        """What the field gets. NotTaken where it does not; where that is because of the file, the upload is ended.

        Asks the store for what is there and for its first bytes; once, however often it is called.

        :param place: a ``FormPlace``; None where the form has none
        """
        if self._value is None:
            try:
                self._value = self._made(place, field, request)
                self.good = True
            except REASONS as error:
                self.good = self.ticket is not None and may_pass(error)
                raise not_taken(error, request) from None
        return self._value

    def _made(self, place, field, request):
        if place is None:
            raise not_taken(NOT_HERE, request)
        ticket = read(self.token)
        check_ticket(ticket, place.context, finished=True)
        self.ticket, announced = ticket, ticket.announced
        if (announced.portal_type, announced.field, bool(announced.replaces)) != (
            place.portal_type,
            field.__name__,
            place.replaces,
        ):
            raise not_taken(NOT_THIS_FIELD, request)
        uploads = OpenUploads(current_site())
        known = uploads.result(ticket.upload.id)
        if known is not None:
            return _saved_before(known, place, request)
        if place.replaces and is_locked(place.context, request):
            self.good = True
            raise not_taken(LOCKED, request)
        field_of(place.context, request, announced)
        area = getUtility(IBlobStorages).for_context(place.context).uploads()
        try:
            staged, content_type = uploaded(place.context, request, ticket, area)
        except (UploadEnded, UploadWrong) as error:
            if isinstance(error, UploadEnded) or error.final:
                end(ticket, uploads, area)  # the form is shown again, and this is committed
            raise
        connection = place.context._p_jar
        value = value_of(field, LentFile(staged, connection, content_type, announced.filename))
        await_saving(value, Saving(ticket, area, connection, request))
        return value


def _saved_before(uid, place, request):
    """A form that was sent twice. The content of an edit form has the file; of an add form this makes no second one."""
    if place.replaces and uid == IUUID(place.context, None):
        return NOT_CHANGED
    obj = uuidToObject(uid, unrestricted=True)
    if obj is None or not getToolByName(place.context, "portal_membership").checkPermission(View, obj):
        raise not_taken(GONE, request)
    raise not_taken(Message(SAVED_ALREADY, mapping={"title": obj.Title()}), request)


@adapter(INamedField, IUploaderWidget)
class UploaderConverter(NamedDataConverter):
    """Plone's, and besides: of an upload, and of a file that came with the form without reading it as a whole."""

    def toFieldValue(self, value):
        if isinstance(value, ChosenUpload):
            return value.value(self.widget.place, self.field, self.widget.request)
        if is_file_upload(value):
            filename = safe_basename(value.filename)
            if not filename and not value.seek(0, os.SEEK_END) and not value.tell():
                return self.field.missing_value
            # plone.namedfile copies it in blocks, from its beginning on.
            return self.field._type(data=value, filename=filename or None)
        return super().toFieldValue(value)
