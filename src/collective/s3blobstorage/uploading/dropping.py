"""Deleting what is staged when the transaction is over that it was for, and not before."""

from logging import getLogger

import transaction

from ..errors import StoreError

logger = getLogger(__name__)


def drop_after_commit(area, upload):
    """It is needed again where the transaction failed: Zope may try it once more, or the user."""

    def drop(committed):
        if committed:
            _drop(area, upload)

    transaction.get().addAfterCommitHook(drop)


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
