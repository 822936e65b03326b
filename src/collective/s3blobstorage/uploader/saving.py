"""A value that waits in the staging area is set on content: now its blob gets the bytes, and the upload becomes it.

z3c.form sets values by an ``IDataManager``, when all of a form was found right, and before anything is committed. So
the copy inside the store is made there: once, without a lock, and never for a form that is shown again. The upload is
finished when the content has a place: of an edit form at once, of an add form when it was added. In the request's
thread and transaction.
"""

from logging import getLogger

import transaction
from Acquisition import aq_base
from plone.dexterity.interfaces import IDexterityContent
from plone.formwidget.namedfile.datamanager import NamedImageAttributeField
from plone.namedfile.interfaces import INamedBlobFileField, INamedBlobImageField
from plone.uuid.interfaces import IUUID
from z3c.form.datamanager import AttributeField
from z3c.form.interfaces import ActionExecutionError
from zope.component import adapter
from zope.interface import Interface
from zope.lifecycleevent.interfaces import IObjectAddedEvent
from ZPublisher.interfaces import IPubBeforeCommit

from ..storage.lending import attach_lent
from ..uploading.dropping import drop_after_commit
from ..uploading.open_uploads import OpenUploads
from ..uploading.places import current_site
from .reasons import REASONS, not_taken

logger = getLogger(__name__)

_NAME = "_v_uploaded"  # of a value; volatile, and gone when it was saved: ZODB keeps the value in its cache


class Saving:
    """What is to be done with one upload when its value is set, and when its content is there."""

    def __init__(self, ticket, area, connection, request):
        self._ticket = ticket
        self._area = area
        self._connection = connection
        self._request = request
        self._before = None  # a savepoint
        self._content = None

    def set_on(self, content, value):
        """ActionExecutionError where the store fails: the form is shown again then, and nothing of it is committed."""
        creates = not self._ticket.announced.replaces
        if creates:
            self._before = transaction.savepoint(optimistic=True)
        try:
            attach_lent(value._blob, self._connection)
            if not creates:
                self._finish(content)
        except REASONS as error:
            transaction.doom()  # Zope commits after any answer that is no exception, and other fields are set already
            raise ActionExecutionError(not_taken(error, self._request)) from None
        if creates:
            self._content = aq_base(content)
            _waiting().append(self)

    def is_of(self, content):
        return self._content is aq_base(content)

    def added(self, content):
        self._finish(content)

    def _finish(self, content):
        OpenUploads(current_site()).finish(self._ticket, IUUID(content))
        drop_after_commit(self._area, self._ticket.upload)

    def take_back(self):
        """The content came to nothing, and yet all will be committed: with it the blob, which belongs to nothing."""
        if self._before.valid:  # else an earlier savepoint was rolled back, and it is forgotten already
            self._before.rollback()
        logger.info("What was uploaded as %s was not saved: its content was not added", self._ticket.upload.id)


def await_saving(value, saving):
    setattr(value, _NAME, saving)


def set_on(content, value):
    """Whatever value a field gets. Once for each upload."""
    saving = getattr(value, _NAME, None)
    if saving is not None:
        delattr(value, _NAME)
        saving.set_on(content, value)


@adapter(Interface, INamedBlobFileField)
class UploadedFileField(AttributeField):
    """As of any field; see the top of this module."""

    def set(self, value):
        set_on(self.context, value)
        super().set(value)


@adapter(Interface, INamedBlobImageField)
class UploadedImageField(NamedImageAttributeField):
    """The same."""

    def set(self, value):
        set_on(self.context, value)
        super().set(value)


@adapter(IDexterityContent, IObjectAddedEvent)
def content_added(content, event):
    waiting = _waiting(make=False)
    for saving in [one for one in waiting if one.is_of(content)]:
        saving.added(content)
        waiting.remove(saving)


@adapter(IPubBeforeCommit)
def take_back_what_was_not_added(event):
    """As of a form that was shown again although it had made content. In a hook of the commit it is too late: there
    nothing can be rolled back any more."""
    waiting = _waiting(make=False)
    while waiting:
        waiting.pop().take_back()


_WAITING = object()


def _waiting(*, make=True):
    """Those of this transaction whose content was not added yet."""
    current = transaction.get()
    try:
        return current.data(_WAITING)
    except KeyError:
        waiting = []
    if make:
        current.set_data(_WAITING, waiting)
    return waiting
