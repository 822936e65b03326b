"""Blobs whose bytes are in the bucket before their transaction commits: what was uploaded directly.

ZODB takes an uncommitted blob to be a file. Here it is a link that leads nowhere, in this process's staging folder: a
savepoint moves it as it moves a file, and ``storeBlob`` knows it again. Whatever takes it for the file that it is not,
fails loudly; no byte that is not the blob's is ever read. ``Blob.open`` never does: it is answered by the object.
"""

from __future__ import annotations

import os
import secrets
import weakref
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ZODB.blob import SAVEPOINT_SUFFIX, Blob, BlobError

from ..directupload.interfaces import IAttachable
from ..errors import StagingError
from ..keys import blob_key, draw_name
from ..objectstore.interfaces import ObjectInfo
from .interfaces import IBlobAttaching
from .promise import BlobPath
from .record import record_of
from .upload import StagedBlob

if TYPE_CHECKING:
    from .instance import S3BlobInstance
    from .placeholder import PlaceholderReader
    from .reading import BlobReader

_NOWHERE = ".in-the-bucket"  # what the links lead to, in a folder in which there is no such file


def attach(blob: Blob, connection: Any, staged: IAttachable) -> None:
    """Make what is staged the blob's new revision, in the transaction of the connection, without its bytes coming here.

    The copy inside the store is made now, and may take its time: no lock is held, of this database or of another one.
    Until the commit the blob can be read as any: what is read is fetched. It can also be written again; then nothing is
    attached any more. A savepoint that is rolled back brings back what was there then. Where the connection's storage
    takes no copy (a DemoStorage, ``keep-in-base``, no bucket) the bytes come here, into the blob's file.

    In the connection's thread. Raises what ``staged.copy_to`` or ``download`` raise: then abort the transaction, of
    which the blob may be a part. BlobError where it is open, or the storage is another one than the staged object's.
    """
    if blob.opened():
        raise BlobError("a blob that is open cannot be replaced")
    storage = connection._normal_storage  # not ``_storage``, which is a savepoint's after a savepoint
    if not (IBlobAttaching.providedBy(storage) and storage.attaches):
        with blob.open("w") as file:
            staged.download(file)
        return
    connection.add(blob)
    blob._p_changed = True  # before what may fail: a blob of this transaction in either case
    _Savepoints.of(connection, storage)
    attachment = storage.attach(blob._p_oid, staged)
    discard(blob)
    blob._p_blob_uncommitted = attachment.link
    blob._p_blob_committed = attachment.promise
    # Blob.open would open the link. It is a method of the class, and Blob allows no subclass.
    vars(blob)["open"] = _Opening(blob, storage, attachment)


def discard(blob: Blob) -> None:
    """Its uncommitted file, or what was attached before."""
    earlier, blob._p_blob_uncommitted = blob._p_blob_uncommitted, None
    vars(blob).pop("open", None)
    if earlier is not None:
        with suppress(FileNotFoundError):
            os.remove(earlier)


class _Savepoints:
    """A resource of the connection's transaction: where a savepoint is rolled back, what was attached behind it is
    forgotten, and what was attached before it is there again. All else is the connection's."""

    transaction_manager = None

    def __init__(self, connection: Any, storage: S3BlobInstance) -> None:
        self._storage = storage
        self._sort_key = f"{connection.sortKey()}:attached"  # behind the connection

    @classmethod
    def of(cls, connection: Any, storage: S3BlobInstance) -> None:
        """Have one in the transaction, behind the connection, which is in it by now."""
        current = connection.transaction_manager.get()
        try:
            joined = current.data(storage)
        except KeyError:
            joined = False
        if not joined:
            current.join(cls(connection, storage))
            current.set_data(storage, True)

    def sortKey(self) -> str:
        return self._sort_key

    def savepoint(self) -> _Savepoint:
        return _Savepoint(self._storage)

    def abort(self, transaction: Any) -> None:
        """Of all of it, or back to a savepoint from before anything was attached, which takes this one out again."""
        self._storage.restore_attached({})
        transaction.set_data(self._storage, False)

    def _nothing(self, transaction: Any) -> None:
        pass

    tpc_begin = commit = tpc_vote = tpc_finish = tpc_abort = _nothing


class _Savepoint:
    def __init__(self, storage: S3BlobInstance) -> None:
        self._storage = storage
        self._attached = storage.attached()

    def rollback(self) -> None:
        self._storage.restore_attached(self._attached)


class Attachment(StagedBlob):
    """A revision whose object is there already. ``link``: what its blob has in the place of a file; ``promise``: the
    path of a file with its bytes."""

    __slots__ = ("link", "promise")

    def __init__(
        self, oid: bytes, name: str, info: ObjectInfo, link: Path, reader: BlobReader | PlaceholderReader
    ) -> None:
        super().__init__(oid, _Link(link, info), name, drawn=True)
        self.link = os.fspath(link)
        self.cached = False  # nothing is here that the cache could take
        self._future = Future()
        self._future.set_result(info)
        # The cache knows files by oid and tid. There is no tid yet, and an oid that was not committed is given again:
        # so these are random bits of the name, which no other revision of that oid has.
        self.promise = AttachedPath(reader, oid, bytes.fromhex(name)[:8], record_of(self.state()))

    def is_at(self, filename: Any) -> bool:
        """Whether that is what ``attach`` gave to the blob, and not a file that was put in its place."""
        return filename is self.promise or (filename == self.link and os.path.islink(self.link))


class _Link:
    """Stands for the staged file, of which only path, size and hash are asked: there is nothing to be sent."""

    def __init__(self, path: Path, info: ObjectInfo) -> None:
        self.path = path
        self.text = os.fspath(path)
        self.size = info.size
        self.sha256 = info.sha256

    @property
    def content(self) -> Path:
        return self.path

    def blocks(self) -> Iterator[bytes]:
        raise FileNotFoundError(self.path)

    def copy_to(self, target: Path) -> None:
        raise FileNotFoundError(self.path)


class AttachedPath(BlobPath):
    """A promise that is not committed yet."""

    __slots__ = ()

    def endswith(self, suffix: Any, *span: Any) -> bool:
        # Blob.open and Blob.committed take it for a savepoint's, and say that there are uncommitted changes.
        return suffix == SAVEPOINT_SUFFIX or super().endswith(suffix, *span)


class _Opening:
    """``open`` of a blob with an attachment, until it is committed or written again."""

    def __init__(self, blob: Blob, storage: S3BlobInstance, attachment: Attachment) -> None:
        self._blob = weakref.ref(blob)
        self._storage = storage
        self._attachment = attachment

    def __call__(self, mode: str = "r") -> BinaryIO:
        blob = self._blob()
        assert blob is not None  # it is asked for by its attribute
        if not self._attachment.is_at(blob._p_blob_uncommitted):  # ``consumeFile`` put a file there
            vars(blob).pop("open", None)
        elif mode == "r":
            return self._read(blob)
        elif mode != "c" and not blob.opened():
            # From here on it is a file. ``r+`` and ``a`` copy what ``_p_blob_committed`` has.
            discard(blob)
        return Blob.open(blob, mode)

    def _read(self, blob: Blob) -> BinaryIO:
        if blob.writers:
            raise BlobError("Already opened for writing.")
        reader = self._storage.openCommittedBlobFile(blob._p_oid, blob._p_serial, blob)
        readers = blob.readers = blob.readers or []

        def gone(reference: Any) -> None:
            with suppress(ValueError):
                readers.remove(reference)

        readers.append(weakref.ref(reader, gone))
        return reader


def copied(oid: bytes, staged: IAttachable, folder: Path, reader: BlobReader | PlaceholderReader) -> Attachment:
    """Copy what is staged to the key of a new revision of that oid.

    Raises what ``copy_to`` raises, and StagingError where the disk takes no link; then nothing was copied.
    """
    name = draw_name()
    link = folder / f"{oid.hex()}-{secrets.token_hex(8)}.attached"
    try:
        os.symlink(_NOWHERE, link)
    except OSError as error:
        raise StagingError(f"no link could be made in staging-dir: {error.strerror}") from None
    try:
        info = staged.copy_to(blob_key(oid, name), {"oid": oid.hex(), "size": str(staged.size)})
    except BaseException:
        link.unlink(missing_ok=True)
        raise
    return Attachment(oid, name, info, link, reader)
