"""Copying all transactions of another storage into ours."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Any

from ZODB.interfaces import IBlobStorage, IBlobStorageRestoreable
from ZODB.POSException import POSKeyError, Unsupported

from ..errors import BlobMissing, StagingError
from ..overlay.interfaces import Revision
from .record import read_state

if TYPE_CHECKING:
    from .root import S3BlobStorage

logger = logging.getLogger(__name__)


def copy_transactions(source: Any, target: S3BlobStorage) -> None:
    """Copy ``source.iterator()``'s transactions, records, tids and blobs.

    Stops with BlobMissing at the first blob that neither the source nor the target has, in its bucket or behind it:
    ZODB's own function goes on without it. The transaction it was in is aborted, earlier ones are kept.
    """
    if not IBlobStorageRestoreable.providedBy(target):
        raise Unsupported("the storage inside <s3blobstorage> cannot be copied into: it has no restore()")
    for transaction in source.iterator():
        target.tpc_begin(transaction, transaction.tid, transaction.status)
        try:
            for record in transaction:
                _copy_record(source, target, record, transaction)
            target.tpc_vote(transaction)
            target.tpc_finish(transaction)
        except BaseException:
            target.tpc_abort(transaction)
            raise


def _copy_record(source: Any, target: S3BlobStorage, record: Any, transaction: Any) -> None:
    oid, tid = record.oid, record.tid
    state = read_state(record.data)
    if state is not None:
        path = _blob_of(source, oid, tid)
        if path is None and target.base_blobs is not None:
            path = target.reader.path(oid, tid, lambda: record.data)  # the base is to have it too
        if path is not None:
            copied = _private_copy(path, target)
            target.restoreBlob(oid, tid, record.data, copied, record.data_txn, transaction)
            return
        # A base copied without its blobs, on the same bucket or with a source behind it: the object is there already.
        if not target.reader.is_somewhere(oid, tid, state):
            raise BlobMissing(oid, tid)
        target.reader.hold(Revision(oid, tid, state))
    target.restore(oid, tid, record.data, "", record.data_txn, transaction)


def _blob_of(source: Any, oid: bytes, tid: bytes) -> str | None:
    if not IBlobStorage.providedBy(source):
        return None
    try:
        return source.loadBlob(oid, tid)
    except POSKeyError:
        return None


def _private_copy(path: str, target: S3BlobStorage) -> str:
    """restoreBlob takes its file over, and the source's belongs to the source."""
    handle, copied = tempfile.mkstemp(prefix="copy", dir=target.staging)
    os.close(handle)
    try:
        shutil.copyfile(path, copied)
    except OSError as error:
        os.unlink(copied)
        raise StagingError(f"a blob could not be copied into staging-dir: {error.strerror}") from None
    return copied
