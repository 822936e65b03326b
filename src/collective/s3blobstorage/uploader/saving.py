"""A value that waits in the staging area is set on content: now its blob gets the bytes, and the upload becomes it.

z3c.form sets values by an ``IDataManager``, when all of a form was found right, and before anything is committed. So
the copy inside the store is made there: once, without a lock, and never for a form that is shown again. The upload is
finished when the content has a place: of an edit form at once, of an add form when it was added. In the request's
thread and transaction.
"""

from logging import getLogger

import transaction
from Acquisition import aq_base, aq_inner, aq_parent
from plone.dexterity.interfaces import IDexterityContent
from plone.dexterity.utils import iterSchemata
from plone.formwidget.namedfile.datamanager import NamedImageAttributeField
from plone.namedfile.interfaces import INamedBlobFileField, INamedBlobImageField
from plone.uuid.interfaces import IUUID
from z3c.form.datamanager import AttributeField
from z3c.form.interfaces import ActionExecutionError, IDataManager
from zope.component import adapter, getMultiAdapter
from zope.interface import Interface
from zope.lifecycleevent.interfaces import IObjectAddedEvent
from ZPublisher.interfaces import IPubBeforeCommit

from ..storage.lending import attach_lent
from ..uploading.dropping import drop_after_commit
from ..uploading.open_uploads import OpenUploads
from ..uploading.places import current_site, file_fields
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
        self._value = None
        self._others = False

    def set_on(self, content, value):
        """ActionExecutionError where the store fails: the form is shown again then, and nothing of it is committed."""
        creates = not (self._ticket.announced.replaces or _is_in_its_container(content))
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
            self._content, self._value = content, value
            _waiting().append(self)

    def is_of(self, content):
        """Whether that is the content, or has got its value from it: a form may throw away what it had made first."""
        return aq_base(self._content) is aq_base(content) or any(value is self._value for value in _files_of(content))

    def added(self, content):
        self._finish(content)

    def added_other(self):
        """Other content came behind the savepoint, which must not go with what came to nothing."""
        self._others = True

    def _finish(self, content):
        OpenUploads(current_site()).finish(self._ticket, IUUID(content))
        drop_after_commit(self._area, self._ticket.upload)

    def take_back(self):
        """The content came to nothing, and yet all will be committed: with it the blob, which belongs to nothing.

        Where more would go with it, it stays until the database is packed.
        """
        if _is_in_its_container(self._content):  # it was added without an event
            self._finish(self._content)
            return
        # Where it is not valid, an earlier one was rolled back, and all of it is forgotten already.
        if self._before.valid and not self._others:
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
    for saving in list(waiting):
        if saving.is_of(content):
            saving.added(content)
            waiting.remove(saving)
        else:
            saving.added_other()


def _is_in_its_container(content):
    """Whether it was added by now, by a form that does this before it sets values, or without an event."""
    container = aq_parent(aq_inner(content))
    if not hasattr(aq_base(container), "_getOb"):
        return False
    return aq_base(container._getOb(content.getId(), None)) is aq_base(content)


def _files_of(content):
    for schema in iterSchemata(content):
        for field in file_fields([schema]):
            yield getMultiAdapter((content, schema[field.name]), IDataManager).query(default=None)


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
