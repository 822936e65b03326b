"""From an item that is saved to its blobs in the bucket: held when the transaction has committed, never before.

What is not committed has no object that would stay, and a request to the store that fails must not fail the commit: the
log says which item it is, ``GET @blob-legal-hold`` and ``s3blobs legal-hold list --wanted`` find it, and saving the
item again, or ``s3blobs legal-hold set``, does it.
"""

from logging import getLogger

import transaction
from Acquisition import aq_base
from zope.component import adapter, getUtility
from zope.lifecycleevent.interfaces import IObjectAddedEvent, IObjectModifiedEvent

from ..errors import S3BlobStorageError
from ..interfaces import IBlobStorages
from .behavior import ILegalHold
from .files import is_wanted, named_files_of

logger = getLogger(__name__)


@adapter(ILegalHold, IObjectAddedEvent)
def content_added(content, event):
    hold_after_commit(content)


@adapter(ILegalHold, IObjectModifiedEvent)
def content_modified(content, event):
    hold_after_commit(content)


def hold_after_commit(content):
    """Where the item's field wants it, by the end of the transaction. Taking the tick away releases nothing: who may
    save an item must not thereby have its files deleted."""
    if not is_wanted(content):
        return
    current = transaction.get()
    try:
        waiting = current.data(_WAITING)
    except KeyError:
        waiting = {}
        current.set_data(_WAITING, waiting)
        current.addBeforeCommitHook(_look, (waiting,))
        current.addAfterCommitHook(_hold, (waiting,))
    waiting[id(aq_base(content))] = content


_WAITING = object()


def _look(waiting):
    """What of each is to be held, while its database may still be read."""
    for key, content in list(waiting.items()):
        if not is_wanted(content):
            del waiting[key]
            continue
        blobs = [file._blob for _, file in named_files_of(content)]
        storages = getUtility(IBlobStorages).for_context(content)
        waiting[key] = "/".join(content.getPhysicalPath()), storages, blobs


def _hold(committed, waiting):
    """In the thread of the request. A blob that the transaction made has its oid by now."""
    if not committed:
        return
    for path, storages, blobs in waiting.values():
        for blob in blobs:
            oid = blob._p_oid
            if oid is None:
                continue  # taken away again
            try:
                storages.holds().set(oid, True)
            except S3BlobStorageError as error:
                logger.error(
                    "%s was saved with a legal hold, and its blob 0x%s is not held: %s", path, oid.hex(), error
                )
