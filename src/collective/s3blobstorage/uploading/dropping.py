"""Deleting what is staged when the transaction is over that it was for, and not before."""

from logging import getLogger

import transaction

from ..errors import StoreError

logger = getLogger(__name__)


def drop_after_commit(area, upload):
    """It is needed again where the transaction failed: Zope may try it once more, or the user. So it is where a
    savepoint from before was rolled back, and with it what had become of the upload."""
    _Drops.of(transaction.get()).add(area, upload)


def drop_after_abort(area, upload):
    """What was begun in the store for this transaction: Zope, which may try it again, then begins another upload."""
    transaction.get().addAfterAbortHook(_drop, (area, upload))


def _drop(area, upload):
    try:
        area.drop(upload)
    except StoreError:
        logger.warning(
            "What there is of upload %s stays in the staging area until it is swept", upload.id, exc_info=True
        )


_DROPS = object()


class _Drops:
    """What is to go after the commit of one transaction. A resource of it, for savepoints alone."""

    transaction_manager = None

    def __init__(self):
        self._uploads = ()

    @classmethod
    def of(cls, current):
        try:
            made = current.data(_DROPS)
        except KeyError:
            made = None
        if made is None:
            made = cls()
            current.set_data(_DROPS, made)
            current.join(made)
            current.addAfterCommitHook(made._committed)
        return made

    def add(self, area, upload):
        self._uploads += ((area, upload),)

    def _committed(self, committed):
        if committed:
            for area, upload in self._uploads:
                _drop(area, upload)

    def sortKey(self):
        return "~collective.s3blobstorage:dropped"

    def savepoint(self):
        return _Savepoint(self, self._uploads)

    def abort(self, current):
        """Of all of it, or back to a savepoint from before, which takes this one out of the transaction."""
        self._uploads = ()
        current.set_data(_DROPS, None)

    def _nothing(self, current):
        pass

    tpc_begin = commit = tpc_vote = tpc_finish = tpc_abort = _nothing


class _Savepoint:
    def __init__(self, drops, uploads):
        self._drops = drops
        self._uploads = uploads

    def rollback(self):
        self._drops._uploads = self._uploads
