"""Blobs on their way into the bucket.

``storeBlob`` stages a file and starts its upload; ``tpc_vote`` waits for it. One pool per root storage, so that one
process never opens more connections than ``upload-concurrency`` asks for.
"""

from __future__ import annotations

import io
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ZODB.blob import rename_or_copy_blob
from ZODB.utils import oid_repr

from ..cache.interfaces import IBlobCache
from ..cache.staged import PlainStaged, Staged
from ..errors import Corrupt, PreconditionFailed, Refused, StagingError, StoreError
from ..keys import blob_key, draw_name, object_key
from ..objectstore.content import Openable, sha256_of
from ..objectstore.interfaces import Cancelled, IObjectStore, ObjectInfo
from ..objectstore.upload import opened
from ..overlay.interfaces import Revision
from .record import BlobState
from .sharing import asks_encryption, carry_out, fill, renew, reserve

if TYPE_CHECKING:
    from .base_blobs import BaseBlobs

logger = logging.getLogger(__name__)

# Seconds. A reference is put before the bytes are sent, and gc spares it, as that of a transaction under way, for
# gc-grace: an hour at least.
_SLOW = 1800.0

# While no more uploads than this are under way, the thread that commits pauses after each that it starts. It lets go of
# the GIL only in short calls of the disk, and is back from them before a thread that was woken for an upload has begun:
# of 32 small blobs the second request left when all were staged and the interpreter's switch interval (5 ms) was over,
# and the store had nothing to do meanwhile. In a pause one request gets ready; four keep a store busy until the thread
# has staged the others. The pauses are no loss: tpc_vote waits for the same uploads.
_FIRST = 4
_PAUSE = 0.0005  # seconds


class StagedBlob:
    """One blob revision that is not committed yet: its file, its name, its upload.

    ``drawn`` says whether the name was drawn by ``storeBlob``; only then may an abort delete the object, since nobody
    else can have written that key. ``inline``: it goes into its record instead of the bucket; there is no upload.
    ``shares``: its bytes become an object that equal ones share, ``object``, and its record says ``shared_as`` instead
    of ``name``; ``references``: every reference that was put for it, since ``reserved`` (``time.monotonic()``).
    ``cached``: the cache takes the file when it is committed; ``prepared``: what takes time of that is done.
    ``for_base``: the file that the base gets in ``tpc_vote`` where it keeps the blob too (``BaseBlobs``).
    """

    __slots__ = (
        "oid",
        "file",
        "name",
        "drawn",
        "inline",
        "shares",
        "object",
        "shared_as",
        "references",
        "reserved",
        "cached",
        "prepared",
        "for_base",
        "size",
        "sha256",
        "_cancelled",
        "_future",
    )

    def __init__(self, oid: bytes, file: Staged, name: str, *, drawn: bool):
        self.oid = oid
        self.file = file
        self.name = name
        self.drawn = drawn
        self.inline = False
        self.shares = False
        self.object: str | None = None
        self.shared_as = name
        self.references: list[str] = []
        self.reserved = 0.0
        self.cached = True
        self.prepared = False
        self.for_base: Path | None = None
        self.size = file.size
        self.sha256 = file.sha256
        self._cancelled = threading.Event()
        self._future: Future[ObjectInfo] | None = None

    @property
    def key(self) -> str:
        return blob_key(self.oid, self.name)

    def __repr__(self) -> str:
        return f"<StagedBlob {oid_repr(self.oid)} {self.name} {self.size} bytes>"

    def state(self) -> BlobState:
        """What the record is to say. Only after ``wait``, or with the SHA-256 known before."""
        if not self.inline:
            return BlobState(self.shared_as, self.size, self.sha256, object=self.object)
        # Read here and not before: a transaction may have thousands of them.
        with self.reading():
            data = b"".join(self.file.blocks())
        return BlobState(size=len(data), inline=data)

    def reading(self) -> _Reading:
        """Around everything that reads the file: StagingError where the disk does not let us (EMFILE, EIO, …)."""
        return _Reading(self)

    def hash_file(self) -> None:
        """Have the SHA-256 now. For the root storage, whose base wants the record in ``storeBlob``."""
        if self.sha256 is None:
            with self.reading():
                self.sha256 = sha256_of(self.file.blocks())

    def wait(self) -> None:
        """Until the object is in the bucket. Raises what the upload raised."""
        if self._future is None:
            return
        info = self._future.result()
        if info.size != self.size or (self.sha256 is not None and info.sha256 not in (None, self.sha256)):
            raise Corrupt("the store holds other bytes than the blob that was committed")
        self.sha256 = self.sha256 or info.sha256

    def settle(self) -> None:
        """Until the upload has ended, one way or the other."""
        if self._future is not None:
            wait([self._future])

    @property
    def written(self) -> list[str]:
        """The keys that may have been written for it alone: what an abort deletes, as nobody else has drawn its name.

        Never that of a shared object, be it the one that was created for it: others may have found it there.
        """
        if not self.drawn:
            return []
        return self.references if self.shares else [self.key]

    def remove_file(self) -> None:
        """Remove the staged file, and the base's where the base did not take it."""
        for path in (self.file.path, self.for_base):
            try:
                if path is not None:
                    path.unlink(missing_ok=True)
            except OSError:
                logger.warning("could not remove the staged file %s", path, exc_info=True)


class _Reading:
    """No generator, as ``lanes.py`` says."""

    __slots__ = ("_blob",)

    def __init__(self, blob: StagedBlob):
        self._blob = blob

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, OSError):
            logger.warning("the staged file of blob %s cannot be read: %s", oid_repr(self._blob.oid), error)
            raise StagingError(f"a blob could not be read from staging-dir: {error.strerror}") from None


class Discard(io.RawIOBase):
    """A file that forgets: for bytes that are only to be checked."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return offset

    def truncate(self, size: int | None = None) -> int:
        return size or 0


class Uploads:
    """The pool that sends staged blobs, and the one that takes back what an abort leaves.

    Both belong to a root storage, which joins them in ``close``.
    """

    def __init__(
        self,
        store: IObjectStore,
        cache: IBlobCache,
        concurrency: int,
        *,
        share_again: Callable[[Revision, Callable[[str], object]], bool] = lambda revision, send: False,
    ):
        self._store = store
        self._cache = cache
        self._share_again = share_again  # ``BlobReader.share_again``
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="s3blobs-upload")
        # Of its own, so that an abort never waits behind another transaction's gigabytes.
        self._undo_pool = ThreadPoolExecutor(1, thread_name_prefix="s3blobs-take-back")
        self._lock = threading.Lock()
        self._taking_back: set[Future[None]] = set()
        self._refusal_told = False  # touched by the one thread of _undo_pool only
        self._running = 0

    @property
    def running(self) -> int:
        """How many blobs are being sent, or wait for that."""
        return self._running

    def _submit(self, send: Callable[..., ObjectInfo], *arguments: Any) -> Future[ObjectInfo]:
        with self._lock:
            self._running += 1
        try:
            future = self._pool.submit(send, *arguments)
        except BaseException:
            self._ended()
            raise
        future.add_done_callback(self._ended)
        return future

    def _ended(self, future: Future[ObjectInfo] | None = None) -> None:
        with self._lock:
            self._running -= 1

    def start(self, blob: StagedBlob, base_blobs: BaseBlobs | None = None) -> None:
        """Send a blob under the name drawn for it, unless it goes into its record; ``base_blobs`` gets its file too."""
        if not blob.inline:
            blob._future = self._submit(self._send, blob, base_blobs)
            if self._running <= _FIRST:
                time.sleep(_PAUSE)
        elif base_blobs is not None:
            base_blobs.give(blob)

    def start_restored(self, blob: StagedBlob, expected: BlobState, tid: bytes) -> None:
        """Send a blob whose record already names its object, unless it is there."""
        blob._future = self._submit(self._send_restored, blob, expected, tid)

    def _send(self, blob: StagedBlob, base_blobs: BaseBlobs | None) -> ObjectInfo:
        if base_blobs is not None and blob.cached:
            base_blobs.give(blob)  # before the request: its disk may be full
        with blob.reading():
            info = self._send_shared(blob) if blob.shares else self._send_own(blob)
        if blob.cached:
            blob.prepared = self._cache.prepare(blob.file.text, blob.size)
        elif base_blobs is not None:
            base_blobs.give(blob)
        else:
            # Nobody reads the file any more. It goes while the base votes: removing gigabytes takes its time, and what
            # the disk did not write yet it need not write for the base's fsync.
            with suppress(RuntimeError):  # the pool is being closed: then whoever ends the transaction removes it
                self._pool.submit(blob.remove_file)
        return info

    def _send_own(self, blob: StagedBlob) -> ObjectInfo:
        return self._store.put_file(
            blob.key,
            blob.file.content,
            metadata={"oid": blob.oid.hex()},
            sha256=blob.sha256,
            cancelled=blob._cancelled.is_set,
        )

    def _send_shared(self, blob: StagedBlob) -> ObjectInfo:
        draw = draw_name if blob.object is None else None  # the root's base has the record already
        if blob.object is None:
            self.reserve(blob)
        assert blob.object is not None
        sending = self._sending(blob)
        carry_out(fill(blob.object, blob.size, encrypted=asks_encryption(self._store)), self._store, sending)
        if time.monotonic() - blob.reserved > _SLOW:
            steps = renew(blob.oid, blob.shared_as, blob.object, draw)
            blob.shared_as = carry_out(steps, self._store, sending, put=blob.references.append)
        return ObjectInfo(object_key(blob.object), blob.size, "", sha256=blob.sha256)

    def reserve(self, blob: StagedBlob) -> None:
        """Have what its record is to name as ``object``: reads its file for the hash, and makes two requests.

        In the caller's thread. Raises StagingError, and what the store raises: then the transaction has to be aborted.
        """
        blob.hash_file()
        assert blob.sha256 is not None
        if blob._cancelled.is_set():
            raise Cancelled
        blob.reserved = time.monotonic()
        steps = reserve(blob.oid, blob.name, blob.sha256, draw_name, encrypted=asks_encryption(self._store))
        reserved = carry_out(steps, self._store, self._sending(blob), put=blob.references.append)
        blob.shared_as, blob.object = reserved

    def _sending(self, blob: StagedBlob) -> Callable[[str], ObjectInfo]:
        """What puts its bytes under the key of a shared object, which has nothing of a single revision."""
        return lambda key: self._store.put_file(
            key,
            blob.file.content,
            metadata={},
            sha256=blob.sha256,
            if_absent=True,
            shared=True,
            cancelled=blob._cancelled.is_set,
        )

    def _send_restored(self, blob: StagedBlob, expected: BlobState, tid: bytes) -> ObjectInfo:
        with blob.reading():
            return self._send_unless_there(blob, expected, tid)

    def _send_unless_there(self, blob: StagedBlob, expected: BlobState, tid: bytes) -> ObjectInfo:
        blob.hash_file()
        if expected.size not in (None, blob.size) or expected.sha256 not in (None, blob.sha256):
            raise Corrupt(f"the file given for blob {oid_repr(blob.oid)} does not match its record")
        assert blob.sha256 is not None
        if self._share_again(Revision(blob.oid, tid, expected), self._sending(blob)):
            return ObjectInfo(blob.key, blob.size, "", sha256=blob.sha256)
        if self._store.head(blob.key) is not None:
            return check_same(self._store, blob.oid, tid, expected, blob.size, blob.sha256)
        content, stop = blob.file.content, blob._cancelled.is_set
        return send_once(self._store, blob.oid, tid, expected, content, blob.sha256, cancelled=stop)

    def take_back(self, blobs: Iterable[StagedBlob]) -> None:
        """Forget blobs of a transaction that aborted, in the background: stop, delete object and file.

        Raises nothing and waits for nothing: the transaction that is retried next should not wait for deletes.
        """
        blobs = list(blobs)
        if not blobs:
            return
        for blob in blobs:
            blob._cancelled.set()
            if blob._future is not None:
                blob._future.cancel()
        with self._lock:
            future = self._undo_pool.submit(self._take_back, blobs)
            self._taking_back.add(future)
        future.add_done_callback(self._taking_back.discard)

    def _take_back(self, blobs: list[StagedBlob]) -> None:
        keys = []
        for blob in blobs:
            if blob._future is not None and not blob._future.cancelled():
                # The PUT may be in flight: only when it has ended can its key be deleted for good.
                blob.settle()
                # Also after an error: a PUT whose answer was lost may have stored the object.
                if blob.shares or not isinstance(blob._future.exception(), Cancelled):
                    keys.extend(blob.written)
            elif blob.shares:
                keys.extend(blob.written)  # the root reserves before there is an upload
            blob.remove_file()
        if keys:
            try:
                self._store.delete(keys)
            except Refused:
                self._tell_refusal(len(keys))
            except StoreError as error:
                logger.warning("%d objects of an aborted transaction stay until gc: %s", len(keys), error)

    def _tell_refusal(self, count: int) -> None:
        # The policy with the least rights does not let a site delete: then this happens at each abort, and is no news.
        level = logging.DEBUG if self._refusal_told else logging.WARNING
        self._refusal_told = True
        logger.log(
            level,
            "%d objects of an aborted transaction stay until gc: the store refuses to delete below blobs/"
            " (s3:DeleteObject); said once per process and storage",
            count,
        )

    def settle(self) -> None:
        """Wait until everything that aborts left has been taken back."""
        with self._lock:
            pending = list(self._taking_back)
        wait(pending)

    def close(self) -> None:
        self._undo_pool.shutdown(wait=True)
        self._pool.shutdown(wait=True)


def send_once(
    store: IObjectStore,
    oid: bytes,
    tid: bytes,
    expected: BlobState,
    file: str | Path | Openable,
    sha256: bytes,
    *,
    cancelled: Callable[[], bool] | None = None,
    progress: Callable[[int], None] | None = None,
) -> ObjectInfo:
    """Put the file of a revision that is committed already under its key: one PUT where it is small, nothing else.

    ``expected`` is what the record says, ``sha256`` the file's. Whoever is second finds the object there, and it must
    be the same: else Corrupt. Nothing is ever overwritten.
    """
    try:
        return store.put_file(
            blob_key(oid, expected.name_at(tid)),
            file,
            metadata={"oid": oid.hex(), "tid": tid.hex()},
            sha256=sha256,
            if_absent=True,
            cancelled=cancelled,
            progress=progress,
        )
    except PreconditionFailed:
        with opened(file) as content:
            size = content.size
        return check_same(store, oid, tid, expected, size, sha256)


def check_same(
    store: IObjectStore, oid: bytes, tid: bytes, expected: BlobState, size: int, sha256: bytes
) -> ObjectInfo:
    """A key is write-once: what is there must be what would have been written. Corrupt where it is not."""
    key = blob_key(oid, expected.name_at(tid))
    present = store.head(key)
    different = Corrupt(f"the bucket already holds other bytes for blob {oid_repr(oid)}")
    if present is None or present.size != size:
        raise different
    digest = present.metadata.get("sha256")
    if digest is not None:
        if digest != sha256.hex():
            raise different
    elif expected.name is None:
        # A key made of a tid can have been written by anything, and carries no hash: read it.
        store.get_file(key, Discard(), size=size, sha256=sha256)  # type: ignore[arg-type]
    # else: 128 random bits and the size are the same, and only a large upload of ours carries no hash
    return ObjectInfo(key, size, "", sha256=sha256)


@contextmanager
def taking_inline(filename: str | os.PathLike[str], data: bytes) -> Iterator[None]:
    """Take a file over whose bytes the record to be restored holds already. Raises Corrupt where it has others."""
    path = Path(filename)
    try:
        same = path.stat().st_size == len(data) and path.read_bytes() == data
    except OSError as error:
        raise StagingError(f"a blob that is to be restored cannot be read: {error.strerror}") from None
    try:
        if not same:
            raise Corrupt("the file given for a blob does not match its record")
        yield
    finally:
        path.unlink(missing_ok=True)


def stage(
    oid: bytes,
    filename: str | os.PathLike[str],
    cache: IBlobCache,
    name: str | None = None,
    *,
    inline_size: int = 0,
    shares: bool = False,
) -> StagedBlob:
    """Take the file ``filename`` over into the cache's staging folder.

    A new blob of at most ``inline_size`` bytes, where that is not 0, is to go into its record. ``shares``: any other
    new one becomes an object that equal ones share.

    A rename where both are on one file system, else a copy, and an encrypted one where the cache is encrypted. Raises
    StagingError where no disk can take it, or may (``IBlobCache.make_room``). A file to be restored (``name`` is given)
    is then where it was. Any other is deleted: ZODB has given it away for this commit, which can only abort, and it
    would take the room that the next one needs."""
    drawn = name is None
    # Each call that lets go of the GIL waits for it behind the threads that send: a commit of many small blobs makes no
    # call here that it can do without.
    if name is None:
        name = draw_name()
        staged = f"{oid.hex()}.{name}"
    else:  # it is not unique: an undo's revision shares the name of the revision it brought back
        staged = f"{oid.hex()}.{name}.{secrets.token_hex(4)}"
    source = os.fspath(filename)
    try:
        try:
            file = _take_here(source, cache, staged, oid)
        except OSError as error:
            logger.warning("staging-dir does not take a blob (%s), the machine's temporary folder is tried", error)
            file = _take(source, cache, cache.staging(elsewhere=True), staged, oid)
    except OSError as error:
        _abandon(source, drawn)
        raise StagingError(f"a blob could not be moved into staging-dir: {error.strerror}") from None
    except StagingError:
        _abandon(source, drawn)
        raise
    blob = StagedBlob(oid, file, name, drawn=drawn)
    blob.inline = drawn and 0 < inline_size >= blob.size
    blob.shares = drawn and shares and not blob.inline
    blob.cached = not blob.inline and cache.adopts(blob.size)
    return blob


def _take_here(source: str, cache: IBlobCache, staged: str, oid: bytes) -> Staged:
    """Into the process's own folder, without a look whether it is there: where it is not, another one is made."""
    try:
        return _take(source, cache, cache.staging(known=True), staged, oid)
    except FileNotFoundError:
        return _take(source, cache, cache.staging(), staged, oid)


def _take(source: str, cache: IBlobCache, folder: Path, staged: str, oid: bytes) -> Staged:
    size = cache.make_room(source, folder)
    if cache.seals:
        return cache.stage(Path(source), folder / staged, oid)
    target = f"{folder}/{staged}"
    _move(source, target)
    return PlainStaged(target, size)


def _abandon(source: str, ours: bool) -> None:
    if ours:
        try:
            Path(source).unlink(missing_ok=True)
        except OSError:
            logger.warning("could not remove %s, the file of a commit that was refused", source, exc_info=True)


def _move(source: str, target: str) -> None:
    try:
        rename_or_copy_blob(source, target, chmod=False)
    except OSError:
        Path(target).unlink(missing_ok=True)  # half a copy
        raise
