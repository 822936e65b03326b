"""What ``ZODB.Connection`` and ``DB.undo`` use: one MVCC view, one transaction at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO
from weakref import WeakValueDictionary

from ZODB.blob import BlobError
from ZODB.interfaces import IBlobStorage, IMVCCStorage
from ZODB.POSException import ReadOnlyError, StorageTransactionError, Unsupported
from zope.interface import alsoProvides, implementer

from ..errors import BlobMissing
from .attaching import copied
from .interfaces import IBlobAddresses, IBlobAttaching
from .promise import BlobPath
from .reading import read_exact
from .record import check_blob, is_blob, with_state
from .transaction import BlobTransaction, wait_for_uploads_of_this_thread
from .undo import undo_in, vote_in
from .upload import StagedBlob, stage

if TYPE_CHECKING:
    from ..directupload.interfaces import IAttachable
    from ..settings import DeliverySettings
    from .address import Address
    from .attaching import Attachment
    from .placeholder import PlaceholderReader
    from .reading import BlobReader
    from .root import S3BlobStorage


def _nothing() -> None:
    pass


@implementer(IBlobStorage, IMVCCStorage, IBlobAddresses, IBlobAttaching)
class S3BlobInstance:
    """A per-connection storage. See ``interfaces.py`` for the contract.

    ``base`` is the base's own instance: of an MVCC base, or of the ``MVCCAdapter`` around any other.
    """

    _transaction: BlobTransaction | None = None
    _released = False

    def __init__(self, root: S3BlobStorage, base: Any, load_before: Callable[..., Any]):
        self._root = root
        self._reader: BlobReader | PlaceholderReader = root.reader
        self._base = base
        self._load_before = load_before
        # Of the last ``load``. Two attributes and no tuple of both: every object of a site comes this way.
        self._loaded_oid = b""
        self._loaded = (b"", b"")
        self._promises: WeakValueDictionary[tuple[bytes, bytes], BlobPath] = WeakValueDictionary()
        self._attached: dict[bytes, Attachment] = {}  # what no storeBlob has taken yet
        self._copied: list[Attachment] = []  # the same, and what a later one replaced, or a rollback forgot
        # Asked for after each transaction, and most bases have none: __getattr__ would find that out by two exceptions.
        self._base_completed = getattr(base, "afterCompletion", _nothing)
        alsoProvides(self, *root.instance_interfaces(base))

    def __getattr__(self, name: str) -> Any:
        # What neither reads nor writes a blob is the base's: history, undoLog, prefetch, …
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._base, name)

    def __len__(self) -> int:
        return len(self._base)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._root!r}>"

    # MVCC

    def new_instance(self) -> S3BlobInstance:
        return self._root.new_instance()

    def load(self, oid: bytes) -> tuple[bytes, bytes]:
        loaded = self._loaded = self._base.load(oid)
        self._loaded_oid = oid  # after it: where it raises, the last one stays
        return loaded

    def poll_invalidations(self) -> Any:
        if self._copied:  # of a transaction that has ended: this one begins
            self._drop_attached()
        return self._base.poll_invalidations()

    def afterCompletion(self) -> None:
        if self._copied:
            self._drop_attached()
        self._base_completed()

    def sync(self, force: bool = True) -> None:
        self._base.sync(force)

    def isReadOnly(self) -> bool:
        return self._root.read_only or self._base.isReadOnly()

    def release(self) -> None:
        if self._released:  # ZODB closes an instance twice
            return
        self._released = True
        if self._transaction is not None:
            self.tpc_abort(self._transaction.metadata)
        self._drop_attached()
        if not self._root.closed:  # which has released them all
            self._base.release()

    close = release

    # Reading blobs

    def loadBlob(self, oid: bytes, serial: bytes) -> BlobPath:
        if oid in self._attached:  # a savepoint asks, which has no file of it
            return self._attached[oid].promise
        promise = self._promises.get((oid, serial))
        if promise is not None:
            # Blob.committed(): somebody wants the name now, perhaps for another process.
            os.fspath(promise)
            return promise
        return self._promise(oid, serial)

    def _promise(self, oid: bytes, serial: bytes) -> BlobPath:
        record, tid = self._loaded
        if self._loaded_oid != oid or tid != serial:  # else a connection loads the record, and then asks for the blob
            record = read_exact(self._load_before, oid, serial)
        if not is_blob(record):
            raise BlobMissing(oid, serial)
        promise = self._promises[oid, serial] = BlobPath(self._reader, oid, serial, record)
        return promise

    def openCommittedBlobFile(self, oid: bytes, serial: bytes, blob: Any = None) -> BinaryIO:
        if oid in self._attached:
            promise: BlobPath = self._attached[oid].promise
            return self._reader.open_lazily(oid, promise.tid, promise.record, promise, blob)
        promise = self._promises.get((oid, serial)) or self._promise(oid, serial)
        return self._reader.open_lazily(oid, serial, promise.record, promise, blob)

    @property
    def delivery(self) -> DeliverySettings:
        return self._root.addresses.delivery

    def address(self, oid: bytes) -> Address | None:
        record, tid = self._base.load(oid)
        return self._root.addresses.of(oid, tid, record)

    def temporaryDirectory(self) -> str:
        return self._root.temporaryDirectory()

    # Writing

    def sortKey(self) -> Any:
        return self._base.sortKey()

    def new_oid(self) -> bytes:
        if self._root.isReadOnly():
            raise ReadOnlyError
        return self._base.new_oid()

    def tpc_begin(self, transaction: Any) -> None:
        if self.isReadOnly():
            raise ReadOnlyError
        current = self._transaction
        if current is not None:
            if current.metadata is transaction:
                raise StorageTransactionError("Duplicate tpc_begin calls for same transaction")
            raise StorageTransactionError("this connection's storage is in another transaction")
        self._transaction = BlobTransaction(transaction, self._root.cache.staging)

    def _current(self, transaction: Any) -> BlobTransaction:
        current = self._transaction
        if current is None or current.metadata is not transaction:
            if self.isReadOnly():
                raise ReadOnlyError
            raise StorageTransactionError(self, transaction)
        return current

    def store(self, oid: bytes, serial: bytes, data: bytes, version: str, transaction: Any) -> None:
        assert not version, "Versions aren't supported."
        self._current(transaction).operations.append("store", (oid, serial, data), len(data))

    def storeBlob(
        self, oid: bytes, serial: bytes, data: bytes, blobfilename: str, version: str, transaction: Any
    ) -> None:
        assert not version, "Versions aren't supported."
        current = self._current(transaction)
        blob: StagedBlob | None = self._attached.get(oid)
        if blob is not None and blob.is_at(blobfilename):
            attachment = self._attached.pop(oid)
            self._copied.remove(attachment)
            current.add(attachment)
            check_blob(data)
        else:
            root = self._root
            blob = stage(oid, blobfilename, root.cache, inline_size=root.inline_size, shares=root.shares)
            current.add(blob)
            check_blob(data)
            self._root.uploads.start(blob, self._root.base_blobs)
        current.operations.append("storeBlob", (oid, serial, data, blob.name), len(data))

    @property
    def attaches(self) -> bool:
        return self._root.base_blobs is None

    def attach(self, oid: bytes, staged: IAttachable) -> Attachment:
        if self.isReadOnly():
            raise ReadOnlyError
        if staged.store is not self._root.store_:  # its record would name what lies in another bucket or prefix
            raise BlobError("what was uploaded is in the bucket of another database than the blob")
        attachment = copied(oid, staged, self._root.cache.staging(), self._reader)
        self._attached[oid] = attachment  # an earlier one stays until the end: a savepoint may be of it
        self._copied.append(attachment)
        return attachment

    def attached(self) -> dict[bytes, Attachment]:
        return dict(self._attached)

    def restore_attached(self, attached: Mapping[bytes, Attachment]) -> None:
        self._attached = dict(attached)

    def _drop_attached(self) -> None:
        """What was attached and not committed goes again."""
        ended, self._copied, self._attached = self._copied, [], {}
        self._root.uploads.take_back(ended)

    def deleteObject(self, oid: bytes, serial: bytes, transaction: Any) -> None:
        self._base.deleteObject  # noqa: B018 - a base that cannot delete says so now
        self._current(transaction).operations.append("deleteObject", (oid, serial))

    def restore(self, *args: Any) -> None:
        raise Unsupported("records are restored through the database's storage, not through a connection's")

    restoreBlob = copyTransactionsFrom = restore

    def checkCurrentSerialInTransaction(self, oid: bytes, serial: bytes, transaction: Any) -> None:
        self._current(transaction).operations.append("checkCurrentSerialInTransaction", (oid, serial))

    def undo(self, transaction_id: bytes, transaction: Any) -> None:
        self._base.undo  # noqa: B018 - a base that cannot undo says so now
        self._current(transaction).operations.append("undo", (transaction_id,))

    def tpc_vote(self, transaction: Any) -> Any:
        current = self._current(transaction)
        wait_for_uploads_of_this_thread(current)
        current.base_begun = True  # before the call: a begin that fails half-way is aborted too
        base, noting = self._base, current.has_blobs
        base.tpc_begin(transaction)
        for method, arguments in current.operations:
            if method == "store":  # nearly all of them
                oid, serial, data = arguments
                base.store(oid, serial, data, "", transaction)
                if noting:
                    current.note_change(oid, serial)
            else:
                self._replay(current, method, arguments)
        if current.undone is None:
            return base.tpc_vote(transaction)
        current.undone.copy_objects(self._root.load_before, self._root.reader)
        resolved = vote_in(base, transaction)
        current.undone.check_resolved(self._root.load_before, self._root.reader, resolved)
        return resolved

    def _replay(self, current: BlobTransaction, method: str, arguments: tuple[Any, ...]) -> None:
        base, transaction = self._base, current.metadata
        if method == "storeBlob":
            oid, serial, data, name = arguments
            blob = current.staged(oid, name)
            if blob is None:
                return
            current.note_change(oid, serial)
            record = with_state(data, blob.state())
            if blob.for_base is None:
                base.store(oid, serial, record, "", transaction)
            else:
                base.storeBlob(oid, serial, record, os.fspath(blob.for_base), "", transaction)
        elif method == "undo":
            (transaction_id,) = arguments
            result = undo_in(base, transaction_id, transaction)
            current.note_undo(self._root.load_before, transaction_id, result)
        else:
            getattr(base, method)(*arguments, transaction)

    def tpc_finish(self, transaction: Any, func: Callable[[bytes], Any] = lambda tid: None) -> bytes:
        current = self._current(transaction)
        current.finish_attempted = True
        tid = self._base.tpc_finish(transaction, func)
        if current.has_blobs:
            self._root.adopt(current, tid)
        self._end(current, committed=True)
        return tid

    def tpc_abort(self, transaction: Any) -> None:
        current = self._transaction
        if current is None or current.metadata is not transaction:
            return
        try:
            if current.base_begun:
                self._base.tpc_abort(transaction)
        finally:
            self._end(current, committed=False)

    def _end(self, current: BlobTransaction, *, committed: bool) -> None:
        self._transaction = None
        current.close(self._root.uploads, committed=committed)
