"""What one transaction does to one storage, from ``tpc_begin`` to ``tpc_finish`` or ``tpc_abort``.

State belongs to the transaction, never to the shared storage: threads share a FileStorage.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ZODB.utils import z64

from .operations import Operations
from .undo import Undone
from .upload import StagedBlob, Uploads
from .witness import EACH

if TYPE_CHECKING:
    from .reading import LoadBefore


class BlobTransaction:
    """One transaction on one storage. Used by the one thread that runs the transaction."""

    __slots__ = (
        "__weakref__",
        "_blobs",
        "_replaced",
        "base_begun",
        "changed",
        "finish_attempted",
        "metadata",
        "operations",
        "undone",
    )

    def __init__(self, metadata: Any, staging: Callable[[], Path]):
        self.metadata = metadata  # kept, so that its id() is not given to another while we are open
        self.operations = Operations(staging)
        self.undone: Undone | None = None  # most transactions undo nothing
        self.base_begun = False
        self.finish_attempted = False
        self.changed: list[bytes] = []  # the first objects that it does not create, for ``witness``
        self._blobs: dict[bytes, StagedBlob] = {}
        self._replaced: list[StagedBlob] = []

    def add(self, blob: StagedBlob) -> None:
        """Note a staged blob; an earlier one of the same oid is replaced."""
        if not self._blobs:
            _of_this_thread().add(self)
        earlier = self._blobs.pop(blob.oid, None)
        if earlier is not None:
            self._replaced.append(earlier)
        self._blobs[blob.oid] = blob

    def staged(self, oid: bytes, name: str) -> StagedBlob | None:
        """The blob staged under that name, or None where a later one of the same oid has replaced it."""
        blob = self._blobs.get(oid)
        return blob if blob is not None and blob.name == name else None

    def note_undo(self, load_before: LoadBefore, transaction_id: bytes, result: Any) -> None:
        """See ``Undone.note``."""
        if self.undone is None:
            self.undone = Undone()
        self.undone.note(load_before, transaction_id, result)

    def note_change(self, oid: bytes, serial: bytes | None) -> None:
        """An object is stored; ``serial`` is that of its present revision."""
        if len(self.changed) < EACH and serial is not None and serial != z64:
            self.changed.append(oid)

    @property
    def has_blobs(self) -> bool:
        return bool(self._blobs)

    @property
    def blobs(self) -> list[StagedBlob]:
        return list(self._blobs.values())

    def wait_for_uploads(self) -> None:
        """Until every object is in the bucket. Raises the first error of an upload."""
        for blob in self._blobs.values():
            blob.wait()

    def settle(self) -> None:
        """Until every upload has ended, one way or the other."""
        for blob in self._blobs.values():
            blob.settle()

    def close(self, uploads: Uploads, *, committed: bool) -> None:
        """End. What was replaced never was part of it; the rest is taken back unless the base may have committed."""
        self.operations.close()
        if not self._blobs and not self._replaced:
            return
        _of_this_thread().discard(self)
        if not committed:
            if self.finish_attempted:
                # The base may have committed before it raised: then its records name these objects. gc will know.
                for blob in self._blobs.values():
                    blob.remove_file()
            else:
                self._replaced.extend(self._blobs.values())
            self._blobs = {}
        if self._replaced:
            uploads.take_back(self._replaced)
            self._replaced = []


class _Local(threading.local):
    """The open transactions of this thread that have blobs; None where it has had none yet.

    Of the class, not an attribute that may be missing: each commit asks, and to be told by an exception took as long
    as all else that a commit without blobs does here.
    """

    transactions: weakref.WeakSet[BlobTransaction] | None = None


_local = _Local()


def _of_this_thread() -> weakref.WeakSet[BlobTransaction]:
    if _local.transactions is None:
        _local.transactions = weakref.WeakSet()
    return _local.transactions


def wait_for_uploads_of_this_thread(own: BlobTransaction) -> None:
    """Before any base begins, wait for every upload of every transaction that this thread has open.

    A transaction over two databases votes them one after the other, and the first vote takes a base's commit lock. If
    the second database still had a gigabyte to send, all writers of the first would wait for it.
    """
    if own.has_blobs:
        own.wait_for_uploads()
    others = _local.transactions
    if not others:
        return
    for transaction in list(others):
        if transaction is not own:
            transaction.settle()  # its errors are for its own vote
