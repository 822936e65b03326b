"""The promise of a path: what ``loadBlob`` of a connection returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ZODB.blob import SAVEPOINT_SUFFIX
from ZODB.utils import oid_repr, tid_repr

if TYPE_CHECKING:
    from .placeholder import PlaceholderReader
    from .reading import BlobReader


class BlobPath:
    """The path of one revision's file, which is fetched when somebody uses the path.

    ZODB keeps it as ``Blob._p_blob_committed`` from the moment at which a blob is un-ghosted, and in most requests
    nobody reads the blob. Using it as a path (``open``, ``os.stat``, ``os.fspath``) or as text (``str``, formatting,
    ``+``, slicing, any method of ``str``) makes sure that the file is in the cache, complete and checked, each time: it
    may have been evicted since. ``repr``, ``==``, ``hash``, truth and the test for ZODB's ``.spb`` suffix do not.

    It holds the record that its connection loaded, so it works from any thread, after the end of the transaction, and
    after a pack that removed the record. Whoever needs the file for longer than the cache protects one that was handed
    out (five minutes) opens it, or uses the promise again.

    Where the cache is encrypted (``cache-encrypt``) the path is that of a decrypted file of this process's own, which
    is removed when the promises that were used as paths are gone.

    Equal are promises of one revision of one storage, and a promise and the path of its file.

    Using it raises what fetching raises: BlobMissing, Unavailable, Refused, Corrupt.
    """

    __slots__ = ("oid", "tid", "reader", "_path", "_record", "__weakref__")

    def __init__(self, reader: BlobReader | PlaceholderReader, oid: bytes, tid: bytes, record: bytes) -> None:
        self.oid = oid
        self.tid = tid
        self.reader = reader
        self._record = record
        self._path: str | None = None  # kept, since a decrypted file lives as long as this object

    def record(self) -> bytes:
        return self._record

    def __fspath__(self) -> str:
        path = self._path = self.reader.path(self.oid, self.tid, self.record)
        return path

    __str__ = __fspath__

    def __repr__(self) -> str:
        return f"<BlobPath {oid_repr(self.oid)} {tid_repr(self.tid)}>"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, BlobPath):
            return (self.oid, self.tid, self.reader) == (other.oid, other.tid, other.reader)
        return other in (self._expected(), self._path) if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._expected())

    def _expected(self) -> str:
        return self.reader.expected(self.oid, self.tid)

    def __bool__(self) -> bool:
        return True

    # What a str can do

    def endswith(self, suffix: Any, *span: Any) -> bool:
        # Blob.open and Blob.committed ask whether it is a savepoint's file, which it never is.
        return suffix != SAVEPOINT_SUFFIX and str(self).endswith(suffix, *span)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(str, name):
            raise AttributeError(name)
        return getattr(str(self), name)

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __len__(self) -> int:
        return len(str(self))

    def __iter__(self) -> Any:
        return iter(str(self))

    def __contains__(self, part: str) -> bool:
        return part in str(self)

    def __getitem__(self, index: Any) -> str:
        return str(self)[index]

    def __add__(self, other: str) -> str:
        return str(self) + other

    def __radd__(self, other: str) -> str:
        return other + str(self)

    def __mod__(self, values: Any) -> str:
        return str(self) % values

    def __reduce__(self) -> Any:
        return (str, (str(self),))
