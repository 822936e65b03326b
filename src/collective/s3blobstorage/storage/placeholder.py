"""``missing-blob placeholder``: in a copy for developers, a small file in the place of a blob that is nowhere.

Only what a connection reads is replaced. The root storage, which tools and ZEO servers use, says BlobMissing as ever,
so that nothing copies a placeholder as if it were a file of the site. It is no file of the cache, and it is told before
a byte is read whether it is one: its size is its own.

A blob's record does not know the type of its bytes. The object that holds the blob does, and a connection loads it
first: what it says of ``contentType`` is kept for the blobs that it refers to.
"""

from __future__ import annotations

import logging
import os
import pickle
import threading
from collections.abc import Callable
from functools import cache
from importlib import resources
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO

from ZODB.serialize import referencesf
from ZODB.utils import oid_repr, tid_repr

from ..errors import BlobMissing
from .instance import S3BlobInstance
from .promise import BlobPath
from .reading import opened, state_of

if TYPE_CHECKING:
    from pathlib import Path

    from .reading import BlobReader
    from .root import S3BlobStorage

logger = logging.getLogger(__name__)

ENDINGS = {
    "image/png": "png",
    "image/gif": "gif",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "image/svg+xml": "svg",
    "application/pdf": "pdf",
    "application/zip": "zip",
    "text/html": "html",
}
DEFAULT = "txt"  # of text, and of what no file of ours is of: it says so to whoever looks

# Blobs whose type a connection keeps: as many as objects in a large connection cache. About 100 bytes each.
_MOST = 100_000

_HOLDER = b"contentType"  # of plone.namedfile's fields, and of those made after them


_NAME = "s3blobs-missing."  # of our files only


@cache
def data_of(ending: str) -> bytes:
    """The bytes of the placeholder of that ending."""
    return resources.files(__package__).joinpath("placeholders", f"missing.{ending}").read_bytes()


class Types:
    """What the objects that a connection loaded say of the blobs they refer to. In the connection's thread."""

    def __init__(self) -> None:
        self._of_oid: dict[bytes, str] = {}

    def note(self, record: bytes) -> None:
        """Look at a loaded record. Raises nothing: what cannot be read tells nothing."""
        if _HOLDER not in record:
            return
        try:
            kind = _content_type(record)
            oids = referencesf(record)
        except Exception:
            return
        if kind is not None:
            if len(self._of_oid) + len(oids) > _MOST:
                self._of_oid.clear()
            self._of_oid.update(dict.fromkeys(oids, kind))

    def ending(self, oid: bytes) -> str:
        kind = self._of_oid.get(oid, "").partition(";")[0].strip().lower()
        return ENDINGS.get(kind, DEFAULT)


class _Anything:
    """Stands for every class and object of a pickle: takes what is done to it, and does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Anything:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __hash__(self) -> int:
        return id(self)

    def append(self, item: Any) -> None:
        pass

    def extend(self, items: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


class _Plain(pickle.Unpickler):
    """Reads the plain values of a record; imports no class and loads no object."""

    def find_class(self, module: str, name: str) -> Any:
        return _Anything

    def persistent_load(self, reference: object) -> object:
        return None


def _content_type(record: bytes) -> str | None:
    stream = BytesIO(record)
    for _ in range(2):  # the class, then the state
        state = _Plain(stream, encoding="ASCII", errors="replace").load()
    kind = state.get("contentType") if isinstance(state, dict) else None
    return kind.decode("ascii", "replace") if isinstance(kind, bytes) else kind if isinstance(kind, str) else None


class Placeholders:
    """The files of a storage's placeholders, made when one is wanted. Any thread."""

    def __init__(self, folder: Callable[[], Path]) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._told = False

    def path(self, ending: str) -> str:
        """A file that nobody else changes, read-only, until the storage is closed."""
        path = self._folder() / f"{_NAME}{ending}"
        with self._lock:
            if not path.exists():
                temporary = path.with_name(f"{path.name}.new")
                temporary.write_bytes(data_of(ending))
                temporary.chmod(0o400)
                temporary.rename(path)
        return os.fspath(path)

    def tell(self, error: BlobMissing, oid: bytes, tid: bytes) -> None:
        level = logging.DEBUG if self._told else logging.WARNING
        self._told = True
        where = f"{oid_repr(oid)} at {tid_repr(tid)}"
        logger.log(level, "blob %s is missing, a placeholder is shown (missing-blob); said once per storage", where)


class PlaceholderReader:
    """A ``BlobReader`` of one connection that answers with a placeholder where the blob is nowhere."""

    def __init__(self, reader: BlobReader, placeholders: Placeholders, types: Types) -> None:
        self._reader = reader
        self._placeholders = placeholders
        self._types = types

    # Promises of one storage are equal, whichever connection made them.

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlaceholderReader) and self._reader is other._reader

    def __hash__(self) -> int:
        return hash(self._reader)

    def expected(self, oid: bytes, tid: bytes) -> str:
        return self._reader.expected(oid, tid)

    def path(self, oid: bytes, tid: bytes, record: Callable[[], bytes]) -> str:
        state_of(record(), oid, tid)  # a revision that does not exist is missing in any case
        try:
            return self._reader.path(oid, tid, record)
        except BlobMissing as error:
            return self._instead(error, oid, tid)

    def open_lazily(
        self, oid: bytes, tid: bytes, record: Callable[[], bytes], name: os.PathLike[str], blob: Any = None
    ) -> BinaryIO:
        """As the reader's, after a look at whether there is anything: a request where the cache does not have it."""
        try:
            return self._reader.open_lazily(oid, tid, record, name, blob, look=True)
        except BlobMissing as error:
            return opened(self._instead(error, oid, tid), blob)

    def _instead(self, error: BlobMissing, oid: bytes, tid: bytes) -> str:
        self._placeholders.tell(error, oid, tid)
        return self._placeholders.path(self._types.ending(oid))


def placeholder_at(name: Any) -> str | None:
    """The path of the placeholder that a file of this name, a path or a promise, is open on; None: it is another file.

    Makes no request where ``missing-blob`` is not ``placeholder``.
    """
    if isinstance(name, BlobPath) and isinstance(name.reader, PlaceholderReader):
        name = os.fspath(name)
    return name if isinstance(name, str) and os.path.basename(name).startswith(_NAME) else None


class PlaceholderInstance(S3BlobInstance):
    """A connection's storage that shows placeholders."""

    def __init__(self, root: S3BlobStorage, base: Any, load_before: Callable[..., Any]) -> None:
        super().__init__(root, base, load_before)
        self._types = Types()
        self._reader = PlaceholderReader(root.reader, root.placeholders, self._types)

    def load(self, oid: bytes) -> tuple[bytes, bytes]:
        loaded = super().load(oid)
        self._types.note(loaded[0])
        return loaded
