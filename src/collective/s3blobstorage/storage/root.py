"""The storage that a ``<s3blobstorage>`` section opens."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import ZODB.interfaces as zodb
from ZODB.mvccadapter import MVCCAdapter
from ZODB.POSException import ReadOnlyError, StorageTransactionError, Unsupported
from ZODB.utils import load_current, z64
from zope.interface import alsoProvides, implementer, providedBy

from ..cache import BlobCache
from ..cache.staged import PlainStaged, Staged
from ..directupload.sweeping import Sweeper
from ..errors import ConfigurationError, Unavailable
from ..metrics_token import TokenFile
from ..objectspace import ObjectSpace
from ..objectstore import S3ObjectStore, open_store
from ..objectstore.interfaces import IObjectStore
from ..objectstore.patience import Clock
from ..overlay.chain import open_overlay
from ..overlay.interfaces import IOverlay
from ..overlay.settings import BaseSettings
from ..settings import StorageSettings
from .address import Addresses
from .base_blobs import BaseBlobs, check_base
from .copying import copy_transactions
from .instance import S3BlobInstance
from .interfaces import IBlobObjects
from .opening import LateStore, open_cache, open_once, wait_for
from .owner import Marker
from .placeholder import PlaceholderInstance, Placeholders
from .read_notes import ReadNotes
from .reading import BlobReader, Location, read_exact
from .record import check_blob, read_state, with_state
from .transaction import BlobTransaction, wait_for_uploads_of_this_thread
from .undo import UndoInstance, undo_in, vote_in
from .upload import Uploads, stage, taking_inline
from .witness import WitnessWriter

if TYPE_CHECKING:
    from ..directupload.area import UploadArea
    from ..maintenance.gc.runs import Collection
    from ..maintenance.holds import Holds
    from ..maintenance.jobs.jobs import Jobs
    from ..maintenance.key_ring import StoreKeys
    from ..maintenance.operated import Operated
    from ..status.status import Known, Status
    from .sources import StorageSources

logger = logging.getLogger(__name__)

# What a wrapper of records can honour for its base. Everything else that a base provides is not declared.
_HONOURED = (
    zodb.IStorageUndoable,
    zodb.IStorageIteration,
    zodb.IStorageCurrentRecordIteration,
    zodb.IExternalGC,
    zodb.IMultiCommitStorage,
    zodb.ReadVerifyingStorage,
    zodb.IMVCCPrefetchStorage,
    zodb.IMVCCAfterCompletionStorage,
)


def open_storage(base: Any, settings: StorageSettings, *, clock: Clock | None = None) -> S3BlobStorage:
    """Open the bucket and the cache, and put the storage around ``base``, which it owns from then on.

    ``clock`` measures deadlines and the pauses between attempts; None: the machine's.

    Raises ConfigurationError, OwnerError, Unavailable; the base is then closed.
    """
    store = overlay = cache = None
    try:
        used = any(isinstance(source, BaseSettings) for source in settings.sources)
        check_base(base, keep=settings.keep_in_base, used=used)
        read_only = settings.read_only or bool(base.isReadOnly())
        store = open_store(settings.store, read_only=read_only, clock=clock)
        late, marker = _opened(store, settings, read_only)
        overlay = open_overlay(settings.sources, base, clock, check=settings.preflight)
        overlay.look_into(late or store)
        cache = open_cache(settings, store, overlay, late=late is not None)
        storage = S3BlobStorage(base, settings, late or store, overlay, cache, marker, clock)
        if not read_only:
            overlay.mirror_into(late or store, storage.reader.share_again)
        if late is not None:
            late.when_open(storage.opened)
        if not read_only:
            storage.bear_witness()
        return storage
    except BaseException:
        for opened in (cache, overlay, store, base):
            if opened is not None:
                opened.close()
        raise


def _opened(store: S3ObjectStore, settings: StorageSettings, read_only: bool) -> tuple[LateStore | None, Marker]:
    """The prefix's marker. Where the store is out and ``start-degraded`` is on, what stands for the store until then.

    Without the marker everything has to be looked for under the keys of zodb-s3blobs too.
    """
    opening = partial(open_once, store, settings, read_only=read_only)
    try:
        return None, wait_for(opening, settings.preflight_deadline, store.connection.clock)
    except Unavailable as error:
        if not settings.start_degraded:
            raise
        logger.error("started without blobs, since start-degraded is on: %s", error)
        return LateStore(store, opening, store.connection.clock), Marker(settings.owner, foreign_keys=True)


@implementer(zodb.IBlobStorage, zodb.IMVCCStorage, IBlobObjects)
class S3BlobStorage:
    """The root: shared by all threads. See ``interfaces.py`` for the contract."""

    def __init__(
        self,
        base: Any,
        settings: StorageSettings,
        store: IObjectStore,
        overlay: IOverlay,
        cache: BlobCache,
        marker: Marker,
        clock: Clock | None = None,
    ):
        self._base = base
        self._settings = settings
        self.read_only = settings.read_only  # by the section; the base may be so by itself
        self.store_ = store
        self.cache = cache
        cache.counters.keep_also(lambda: self.store_.traffic.snapshot())  # type: ignore[attr-defined]
        self.marker = marker
        self.overlay = overlay
        self.reader = BlobReader(
            store, cache, overlay, with_foreign_keys=marker.foreign_keys, deduplicated=marker.deduplicated
        )
        # What keep-in-base is done with; None where it is off.
        self.base_blobs = BaseBlobs(base) if settings.keep_in_base else None
        self.uploads = Uploads(store, cache, settings.store.upload_concurrency, share_again=self.reader.share_again)
        self._instance = PlaceholderInstance if settings.missing_blob == "placeholder" else S3BlobInstance
        self.placeholders = Placeholders(cache.staging)
        self.addresses = Addresses(
            self.reader,
            store,
            cache,
            overlay,
            settings.delivery,
            clock or Clock(),
            certain=settings.missing_blob == "raise",
        )
        self._mvcc = base if zodb.IMVCCStorage.providedBy(base) else None
        self._adapter: MVCCAdapter | None = None
        self._adapter_lock = threading.Lock()
        self._view: Any = None
        self._view_lock = threading.Lock()
        self._transactions: dict[int, BlobTransaction] = {}
        self.closed = False
        self._known: Known | None = None  # what its status remembers
        self._jobs: dict[bool, Jobs] = {}  # by whether they may write
        self._areas: dict[bool, UploadArea] = {}  # where browsers put files; by whether they may
        self._known_lock = threading.Lock()
        token_file = settings.metrics_token_file
        self._metrics_token = None if token_file is None else TokenFile(token_file)
        # Deletes what was uploaded directly and never completed, when somebody uploads; as gc not without an owner.
        self.upload_sweeper = Sweeper(
            store, settings.uploads.expiry, lambda: not self.isReadOnly() and self.marker.owner is not None
        )
        # What tells gc of this process; None where it only reads.
        self.witness: WitnessWriter | None = None
        alsoProvides(self, *self._root_interfaces(base))

    @property
    def inline_size(self) -> int:
        """Blobs of at most so many bytes go into their records; 0: none."""
        return self._settings.inline_size

    @property
    def shares(self) -> bool:
        """Whether new blobs of equal bytes share one object."""
        return self._settings.dedup

    @property
    def settings(self) -> StorageSettings:
        """What the section says. Has secrets: they are in no repr of it."""
        return self._settings

    @property
    def base(self) -> Any:
        """The storage inside."""
        return self._base

    @property
    def site_operations(self) -> bool:
        return self._settings.site_operations

    def admits_to_metrics(self, token: str) -> bool:
        """Whether it is the one of ``metrics-token-file``. Reads that file where it changed. Any thread."""
        file = self._metrics_token
        return file is not None and file.admits(token)

    def running_jobs(self) -> dict[str, int]:
        """How many jobs of each kind this process runs. Any thread, no request."""
        from ..maintenance.jobs.interfaces import KINDS

        with self._known_lock:
            here = list(self._jobs.values())
        ids = [id for jobs in here for id in jobs.running_here]
        return {kind: sum(id.startswith(f"{kind}-") for id in ids) for kind in KINDS}

    def opened(self, marker: Marker) -> None:
        """The store was out at the start and is open now. Called before anything is read from it or written to it."""
        self.marker = marker
        self.reader.with_foreign_keys = marker.foreign_keys
        self.reader.deduplicated = marker.deduplicated
        self.cache.ring_opened()

    def bear_witness(self) -> None:
        """Tell in the bucket, from now on, what this process knows of its database. Once, after the opening."""
        self.witness = WitnessWriter(self.store_, self.last_known)
        self.witness.start()
        if self._settings.note_reads:
            notes = ReadNotes(self.store_, self.witness.id)
            self.reader.notes = notes
            notes.start()

    @staticmethod
    def _root_interfaces(base: Any) -> list[Any]:
        provided = providedBy(base)
        declared = [interface for interface in _HONOURED if provided.isOrExtends(interface)]
        if provided.isOrExtends(zodb.IStorageRestoreable):
            declared.append(zodb.IBlobStorageRestoreable)
        return declared

    @staticmethod
    def instance_interfaces(base: Any) -> list[Any]:
        provided = providedBy(base)
        return [interface for interface in _HONOURED if provided.isOrExtends(interface)]

    def __getattr__(self, name: str) -> Any:
        # What neither reads nor writes a blob is the base's: history, undoLog, iterator, getTid, …
        if name.startswith("__") or name == "_base" or name == "fshelper":
            raise AttributeError(name)
        return getattr(self._base, name)

    def __len__(self) -> int:
        return len(self._base)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._base!r}>"

    @property
    def staging(self) -> Path:
        """This process's folder for files that are being committed; asked for each time, since it may be deleted."""
        return self.cache.staging()

    # MVCC

    def _mvcc_base(self) -> Any:
        """The base, or an adapter around it. The adapter is made at the first instance, never inside a ZEO server.

        A ZEO client tells invalidations to one listener only, which the adapter becomes.
        """
        if self._mvcc is not None:
            return self._mvcc
        with self._adapter_lock:
            if self._adapter is None:
                self._adapter = MVCCAdapter(self._base)
            return self._adapter

    def new_instance(self) -> S3BlobInstance:
        base = self._mvcc_base().new_instance()
        return self._instance(self, base, self._load_before_of(base))

    def undo_instance(self) -> S3BlobInstance:
        mvcc = self._mvcc_base()
        base = UndoInstance(mvcc) if self._mvcc is None else getattr(mvcc, "undo_instance", mvcc.new_instance)()
        return S3BlobInstance(self, base, self._load_before_of(base))

    def before_instance(self, before: bytes) -> S3BlobInstance:
        return self._instance(self, self._mvcc_base().before_instance(before), self.load_before)

    def _load_before_of(self, instance: Any) -> Callable[..., Any]:
        # An MVCC base's instance reads in its connection's snapshot; any other base has one thread-safe loadBefore.
        # Looked up at each call: RelStorage replaces the method of an instance whose snapshot is stale.
        reading = self._base if self._mvcc is None else instance
        return lambda oid, tid: reading.loadBefore(oid, tid)

    def load(self, oid: bytes, version: str = "") -> tuple[bytes, bytes]:
        load = getattr(self._base, "load", None)
        return load_current(self._base, oid) if load is None else load(oid)

    def poll_invalidations(self) -> Any:
        return [] if self._mvcc is None else self._mvcc.poll_invalidations()

    def sync(self, force: bool = True) -> None:
        if self._mvcc is not None:
            self._mvcc.sync(force)
        elif force and hasattr(self._base, "sync"):
            self._base.sync()

    def release(self) -> None:
        if self._mvcc is not None:
            self._mvcc.release()

    def registerDB(self, wrapper: Any) -> None:
        """A ZEO server, or another emulation of a database, wants to hear of invalidations.

        Raises ConfigurationError where a storage puts itself around this one: it would change the records that tell
        where the blobs are (``zlib(s3(…))`` destroys reading; ``s3(zlib(…))`` works).
        """
        if zodb.IStorageWrapper.providedBy(wrapper) and not zodb.IDatabase.providedBy(wrapper):
            raise ConfigurationError(
                f"{type(wrapper).__name__} is around <s3blobstorage>: put <s3blobstorage> outermost, with that section"
                " inside it"
            )
        self._base.registerDB(wrapper)

    @property
    def tryToResolveConflict(self) -> Any:
        # A ZEO server whose clients resolve conflicts replaces it on the storage it serves; the base calls it.
        return self._base.tryToResolveConflict

    @tryToResolveConflict.setter
    def tryToResolveConflict(self, resolve: Any) -> None:
        self._base.tryToResolveConflict = resolve

    def isReadOnly(self) -> bool:
        return self.read_only or bool(self._base.isReadOnly())

    # Reading

    def load_before(self, oid: bytes, tid: bytes) -> Any:
        """``loadBefore`` on the newest committed state, from any thread."""
        if self._mvcc is None:
            return self._base.loadBefore(oid, tid)
        return self._in_view(lambda view: view.loadBefore(oid, tid))

    def _in_view(self, ask: Callable[[Any], Any]) -> Any:
        """``ask`` an instance of an MVCC base that sees what is committed by now."""
        assert self._mvcc is not None
        with self._view_lock:
            if self._view is None:
                self._view = self._mvcc.new_instance()
            self._view.poll_invalidations()
            try:
                return ask(self._view)
            finally:
                # An open snapshot would hold back the database's vacuum.
                getattr(self._view, "afterCompletion", lambda: None)()

    def read_record(self, oid: bytes, tid: bytes) -> bytes:
        return read_exact(self.load_before, oid, tid)

    def locate(self, oid: bytes, tid: bytes) -> Location:
        return self.reader.locate(self.load_before, oid, tid)

    def space(self, name: str, *, writable: bool = True) -> ObjectSpace:
        return ObjectSpace(
            self.store_,
            name,
            prefix=self._settings.store.prefix,
            delivery=self._settings.delivery,
            folder=lambda: self.staging,
            writable=writable,
        )

    def key_ring(self, *, writable: bool = True) -> StoreKeys:
        from ..maintenance.key_ring import StoreKeys  # here: most processes never need it

        return StoreKeys(self.store_, writable=writable and not self.isReadOnly())

    def upload_area(self, *, writable: bool = True) -> UploadArea:
        with self._known_lock:
            area = self._areas.get(writable)
            if area is None:
                from ..directupload.area import UploadArea  # here: most processes never need it

                allowed = writable and not self.isReadOnly()
                area = self._areas[writable] = UploadArea(
                    self.store_, self._settings.uploads, writable=allowed, begun=self.upload_sweeper.soon
                )
            return area

    def sources(self) -> StorageSources:
        from .sources import StorageSources  # here: most processes never need it

        return StorageSources(self.reader, self.read_record, self._settings.sources)

    def status(self, name: str = "", *, writable: bool = True) -> Status:
        from ..status.status import Known, Status  # here: most processes never need it

        with self._known_lock:
            if self._known is None:
                self._known = Known(self)
        return Status(self, self._known, name, writable=writable)

    def jobs(self, *, writable: bool = True) -> Jobs:
        """The jobs of this storage: an ``IJobs``. ``writable``: False below a DemoStorage."""
        from ..maintenance.jobs.jobs import Jobs  # here: most processes never need it
        from ..maintenance.jobs.work import WORKS

        writable = writable and not self.isReadOnly()
        with self._known_lock:
            if writable not in self._jobs:
                self._jobs[writable] = Jobs(
                    self.store_, WORKS, self.operated(), writable=writable, when_ended=self._job_ended
                )
            return self._jobs[writable]

    def holds(self, *, writable: bool = True) -> Holds:
        from ..maintenance.holds import Holds  # here: most processes never need it

        return Holds(self.store_, self.reader, self.load_before, writable=writable and not self.isReadOnly())

    def _job_ended(self) -> None:
        known = self._known
        if known is not None:  # who looks next sees what it found
            known.forget()

    def operated(self) -> Operated:
        """What jobs work on. Any thread."""
        from ..maintenance.looks import looked_at
        from ..maintenance.operated import Operated

        return Operated(
            store=self.store_,
            marker=self.marker,
            settings=self._settings,
            look=lambda: looked_at(self._base),
            overlay=self.overlay,
            cache=self.cache,
            collection=self.garbage,
        )

    def loadBlob(self, oid: bytes, serial: bytes) -> str:
        path = self.reader.path(oid, serial, partial(self.read_record, oid, serial))
        self.cache.keep(path)
        return path

    def openCommittedBlobFile(self, oid: bytes, serial: bytes, blob: Any = None) -> BinaryIO:
        return self.reader.open(oid, serial, partial(self.read_record, oid, serial), blob)

    def temporaryDirectory(self) -> str:
        # A blob that outlives its database still asks for a place, as it may of ZODB's own storages.
        return tempfile.gettempdir() if self.closed else os.fspath(self.cache.uncommitted())

    # Writing: straight to the base

    def new_oid(self) -> bytes:
        self._refuse_read_only()
        return self._base.new_oid()

    def _refuse_read_only(self) -> None:
        if self.read_only:
            raise ReadOnlyError

    def tpc_begin(self, transaction: Any, *args: Any, **kwargs: Any) -> None:
        self._refuse_read_only()
        if self.witness is not None and (kwargs.get("tid") or any(args[:1])):
            self.witness.void()  # a transaction of another time is restored
        self._base.tpc_begin(transaction, *args, **kwargs)
        self._transactions[id(transaction)] = BlobTransaction(transaction, self.cache.staging)

    def _current(self, transaction: Any) -> BlobTransaction:
        current = self._transactions.get(id(transaction))
        if current is None:
            raise StorageTransactionError(self, transaction)
        return current

    def store(self, oid: bytes, serial: bytes, data: bytes, version: str, transaction: Any) -> Any:
        self._refuse_read_only()
        current = self._transactions.get(id(transaction))
        if current is not None:
            current.note_change(oid, serial)
        return self._base.store(oid, serial, data, version, transaction)

    def storeBlob(
        self, oid: bytes, oldserial: bytes, data: bytes, blobfilename: str, version: str, transaction: Any
    ) -> Any:
        assert not version, "Versions aren't supported."
        self._refuse_read_only()
        current = self._current(transaction)
        check_blob(data)
        blob = stage(oid, blobfilename, self.cache, inline_size=self.inline_size, shares=self.shares)
        current.add(blob)
        current.note_change(oid, oldserial)
        if blob.shares:
            self.uploads.reserve(blob)  # the base wants the record now, which names the object
        elif not blob.inline:
            blob.hash_file()
        record = with_state(data, blob.state())
        if self.base_blobs is None:
            result = self._base.store(oid, oldserial, record, "", transaction)
        else:
            with self.base_blobs.copied(blob.file) as copy:
                result = self._base.storeBlob(oid, oldserial, record, copy, "", transaction)
        self.uploads.start(blob)
        return result

    def restoreBlob(
        self, oid: bytes, serial: bytes, data: bytes, blobfilename: str, prev_txn: bytes | None, transaction: Any
    ) -> Any:
        """As IBlobStorageRestoreable: the record is kept as it is; its object is uploaded unless it is there.

        A file that does not match the record, or other bytes under the key, raise Corrupt from ``tpc_vote``.
        """
        self._refuse_read_only()
        current = self._current(transaction)
        state = read_state(data)
        if state is None:
            raise Unsupported("restoreBlob was called with a record that is not a ZODB.blob.Blob's")
        if state.inline is not None:
            with taking_inline(blobfilename, state.inline):
                return self._restore(oid, serial, data, PlainStaged(blobfilename), prev_txn, transaction)
        blob = stage(oid, blobfilename, self.cache, state.name_at(serial))
        current.add(blob)
        result = self._restore(oid, serial, data, blob.file, prev_txn, transaction)
        self.uploads.start_restored(blob, state, serial)
        return result

    def _restore(
        self, oid: bytes, serial: bytes, data: bytes, file: Staged, prev_txn: bytes | None, transaction: Any
    ) -> Any:
        """Restore in the base, which gets its own copy of the file where ``keep-in-base`` is on."""
        if self.base_blobs is None:
            return self._base.restore(oid, serial, data, "", prev_txn, transaction)
        with self.base_blobs.copied(file) as copy:
            return self._base.restoreBlob(oid, serial, data, copy, prev_txn, transaction)

    def undo(self, transaction_id: bytes, transaction: Any) -> Any:
        self._refuse_read_only()
        result = undo_in(self._base, transaction_id, transaction)
        current = self._transactions.get(id(transaction))
        if current is not None:
            current.note_undo(self.load_before, transaction_id, result)
        return result

    def tpc_vote(self, transaction: Any) -> Any:
        current = self._transactions.get(id(transaction))
        if current is None:
            return self._base.tpc_vote(transaction)
        wait_for_uploads_of_this_thread(current)
        if current.undone is None:
            return self._base.tpc_vote(transaction)
        current.undone.copy_objects(self.load_before, self.reader)
        resolved = vote_in(self._base, transaction)
        current.undone.check_resolved(self.load_before, self.reader, resolved)
        return resolved

    def tpc_finish(self, transaction: Any, *args: Any, **kwargs: Any) -> bytes:
        current = self._transactions.get(id(transaction))
        if current is not None:
            current.finish_attempted = True
        tid = self._base.tpc_finish(transaction, *args, **kwargs)
        if current is not None:
            self.adopt(current, tid)
            self._end(current, committed=True)
        return tid

    def tpc_abort(self, transaction: Any, *args: Any, **kwargs: Any) -> None:
        current = self._transactions.get(id(transaction))
        try:
            # A foreign transaction goes to the base too, which ignores it in its own way.
            self._base.tpc_abort(transaction, *args, **kwargs)
        finally:
            if current is not None:
                self._end(current, committed=False)

    def _end(self, current: BlobTransaction, *, committed: bool) -> None:
        self._transactions.pop(id(current.metadata), None)
        current.close(self.uploads, committed=committed)

    def adopt(self, current: BlobTransaction, tid: bytes) -> None:
        """Committed: what was staged becomes cached. No request, no error."""
        if self.witness is not None and current.has_blobs:
            self.witness.committed(tid, current.changed)
        for blob in current.blobs:
            if not (blob.cached and self.cache.adopt(blob.oid, tid, blob.file.text, prepared=blob.prepared)):
                blob.remove_file()

    def copyTransactionsFrom(self, other: Any, verbose: int = 0) -> None:
        """Copy all transactions of ``other``, blobs included. BlobMissing at the first blob that is nowhere."""
        self._refuse_read_only()
        copy_transactions(other, self)

    def pack(self, pack_time: float, referencesf: Any, *args: Any, **kwargs: Any) -> Any:
        """Pack the base, then one round of garbage collection in the bucket (``gc-on-pack``).

        What the round does not do is no error of the pack. Not after RelStorage's ``prepack_only``, which packs
        nothing.
        """
        self._refuse_read_only()
        result = self._base.pack(pack_time, referencesf, *args, **kwargs)
        mode = self._settings.gc_on_pack
        if mode != "off" and not kwargs.get("prepack_only"):
            from ..maintenance.gc.packing import after_pack  # here, since it is a tool around the storage

            after_pack(self.garbage(), execute=mode == "execute" and self.marker.owner is not None)
        return result

    def garbage(self) -> Collection:
        """What garbage collection works on: the bucket, and looks at the base. Any thread."""
        from ..maintenance.gc.margins import Margins
        from ..maintenance.gc.references import view_of
        from ..maintenance.gc.runs import Collection

        margins = Margins(
            grace=self._settings.gc_grace, keep=self._settings.gc_keep, upload_expiry=self._settings.uploads.expiry
        )
        return Collection(self.store_, lambda: view_of(self._base), margins, self.marker)

    def last_known(self) -> bytes | None:
        """The last transaction of the base as it is now; None where that cannot be told. Any thread."""
        if not getattr(self._base, "is_connected", lambda: True)():
            return None
        last = (
            self._base.lastTransaction() if self._mvcc is None else self._in_view(lambda view: view.lastTransaction())
        )
        return last if last and last != z64 else None

    # Closing

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        for current in list(self._transactions.values()):
            self._end(current, committed=False)
        for jobs in self._jobs.values():
            jobs.close()  # before the base and the store, which they use
        self.upload_sweeper.finish()
        self.reader.notes.finish()
        if self.witness is not None:
            self.witness.finish()  # before the base and the store, which it asks
        try:
            try:
                if self._view is not None:
                    self._view.release()
                self.overlay.close()  # before the base, of which it may have views
            finally:
                # The adapter closes the base.
                (self._base if self._adapter is None else self._adapter).close()
        finally:
            self.uploads.close()
            self.cache.close()
            self.store_.close()
            self.upload_sweeper.join()
            self.reader.notes.join()
            if self.witness is not None:
                self.witness.join()
            if self._known is not None:
                self._known.join()
