"""The blob record: which ZODB records are blobs, and what ours say about their data. Pure.

A ZODB record is two pickles, class and state. ``ZODB.blob.Blob`` has no state of its own (its ``__getstate__``
returns None and its ``__setstate__`` ignores the argument), so the second pickle is free to carry ours::

    {"s3blob": 1, "name": "<32 hex>", "size": 12345, "sha256": b"<32 bytes>" or None}
    {"s3blob": 1, "name": "<32 hex>", "size": 12345, "sha256": b"<32 bytes>", "object": "<sha256>.<generation>"}
    {"s3blob": 1, "inline": b"<the bytes>"}

The second form is of a blob whose bytes are an object that equal ones share (``dedup``). The third is of one that was
at most ``inline-size`` bytes when it was committed: it has no object. ZODB,
FileStorage's pack, zodbconvert and stock Plone read such a record as the blob record it is.
"""

from __future__ import annotations

import pickle
import re
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from ZODB.blob import Blob

from ..errors import RecordError
from ..keys import is_name, is_shared_name, read_shared_name, tid_name

FORMAT = 1
_FIELDS = {"s3blob", "name", "size", "sha256", "object"}
_INLINE_FIELDS = {"s3blob", "inline"}

# As ZODB.serialize writes records: readable by every ZODB 5 and 6.
_PROTOCOL = 3

# The class pickle as ZODB 5 and 6 write it for every blob.
_AS_WRITTEN = b"\x80\x03cZODB.blob\nBlob\nq\x00."

# A whole record as ``with_state`` makes it, of a blob that ZODB 5 or 6 wrote, of less than 2 GB: nearly every one. The
# opcodes of its size are BININT1, BININT2 and BININT.
_WRITTEN_HERE = re.compile(
    re.escape(_AS_WRITTEN + b"\x80\x03}q\x00(X\x06\0\0\0s3blobq\x01K\x01X\x04\0\0\0nameq\x02X \0\0\0")
    + rb"([0-9a-f]{32})"
    + re.escape(b"q\x03X\x04\0\0\0sizeq\x04")
    + rb"(?:K(.)|M(..)|J(...[\0-\x7f]))"
    + re.escape(b"X\x06\0\0\0sha256q\x05")
    + rb"(?:N|C (.{32})q\x06(?:X\x06\0\0\0objectq\x07X(.)\0\0\0([0-9a-f]{64}\.[0-9]{1,9})q\x08)?)u\.",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class BlobState:
    """What a blob's record says of its data.

    ``name`` is None for a record without our state and for one that holds the data itself, ``inline``; ``size`` (bytes)
    and ``sha256`` (32 raw bytes) are None where the record does not say. ``object``: the name of the shared object that
    has the bytes (``keys.shared_name``); None where the revision has one of its own.
    """

    name: str | None = None
    size: int | None = None
    sha256: bytes | None = None
    inline: bytes | None = None
    object: str | None = None

    @property
    def nameless(self) -> bool:
        """Whether the record does not say where its data is: the object is called after the tid."""
        return self.name is None and self.inline is None

    def name_at(self, tid: bytes) -> str:
        """The revision's name, given the tid of its record."""
        return tid_name(tid) if self.name is None else self.name


class _BlobClass:
    """Stands for ZODB.blob.Blob while a class pickle is read."""


class _NotABlob(Exception):
    pass


class _ClassReader(pickle.Unpickler):
    """Reads the class pickle of a record; knows one class and calls nothing."""

    def find_class(self, module: str, name: str) -> type:
        if (module, name) == (Blob.__module__, Blob.__name__):
            return _BlobClass
        raise _NotABlob

    def persistent_load(self, reference: object) -> object:
        raise _NotABlob


class _StateReader(pickle.Unpickler):
    """Reads the state pickle: plain values only, no class, no reference."""

    def find_class(self, module: str, name: str) -> type:
        raise RecordError("a blob record names a class in its state: it is damaged")

    def persistent_load(self, reference: object) -> object:
        raise RecordError("a blob record refers to another object in its state: it is damaged")


def _is_blob_class(described: Any) -> bool:
    """The forms that ZODB has written a class in: the global, ``(global, args)`` and ``((module, name), args)``."""
    if described is _BlobClass:
        return True
    if not (isinstance(described, tuple) and len(described) == 2):
        return False
    klass, args = described
    return (klass is _BlobClass or klass == (Blob.__module__, Blob.__name__)) and not args


def is_blob(record: bytes) -> bool:
    """Whether it is a blob's record. Whole databases go through this: it has to be cheap."""
    return _split(record) is not None


def _split(record: bytes) -> int | None:
    """Where the state pickle begins if this is a blob's record, else None."""
    if record.startswith(_AS_WRITTEN):  # nearly every blob's record
        return len(_AS_WRITTEN)
    if b"ZODB.blob" not in record:  # nearly every other record of a site
        return None
    stream = BytesIO(record)
    try:
        described = _ClassReader(stream, encoding="ASCII", errors="replace").load()
    except _NotABlob:
        return None
    except Exception:  # not a pickle: another wrapper's bytes, or damage; whoever loads it will say so
        return None
    return stream.tell() if _is_blob_class(described) else None


def read_state(record: bytes | None) -> BlobState | None:
    """What the record says of its blob, or None where it is not a blob's record.

    Raises RecordError where it is a blob's record whose state is damaged or was written by a newer release.
    """
    if not record:
        return None
    plain = _WRITTEN_HERE.fullmatch(record)  # a fifth of what the pickle takes: whole databases go through this, too
    if plain is not None:
        name, one, two, four, sha256, length, shared = plain.groups()
        size = int.from_bytes(one or two or four, "little")
        if shared is None:
            return BlobState(name.decode("ascii"), size, sha256)
        if length[0] == len(shared):
            return BlobState(name.decode("ascii"), size, sha256, object=_checked_object(shared.decode("ascii"), sha256))
    return _unpickled(record)


def written_name(record: bytes) -> str | None:
    """The name in a record that was written by this release in its most common form; None says nothing."""
    plain = _WRITTEN_HERE.fullmatch(record)
    return None if plain is None else plain[1].decode("ascii")


def _unpickled(record: bytes) -> BlobState | None:
    start = _split(record)
    if start is None:
        return None
    try:
        state = _StateReader(BytesIO(record[start:]), encoding="ASCII", errors="replace").load()
    except RecordError:
        raise
    except Exception as error:
        raise RecordError(f"the state of a blob record is damaged ({type(error).__name__})") from None
    return _checked(state)


def _checked(state: object) -> BlobState:
    if not isinstance(state, dict) or "s3blob" not in state:
        return BlobState()  # None, or what another package left there: not ours to judge
    version = state["s3blob"]
    if not isinstance(version, int) or version < 1:
        raise RecordError("the state of a blob record is damaged: its format is not a number")
    fields = _INLINE_FIELDS if "inline" in state else _FIELDS
    if version > FORMAT or not fields.issuperset(state):
        raise RecordError(
            "a blob record was written by a newer release of collective.s3blobstorage: upgrade this process"
        )
    if "inline" in state:
        inline = state["inline"]
        if not isinstance(inline, bytes):
            raise RecordError("the state of a blob record is damaged: its inline data are not bytes")
        return BlobState(size=len(inline), inline=inline)
    name, size, sha256 = state.get("name"), state.get("size"), state.get("sha256")
    if not is_name(name):
        raise RecordError("the state of a blob record is damaged: its name is not 16 or 32 hex digits")
    if not (isinstance(size, int) and size >= 0):
        raise RecordError("the state of a blob record is damaged: its size is not a number of bytes")
    if sha256 is not None and not (isinstance(sha256, bytes) and len(sha256) == 32):
        raise RecordError("the state of a blob record is damaged: its SHA-256 is not 32 bytes")
    if "object" not in state:
        return BlobState(name, size, sha256)
    return BlobState(name, size, sha256, object=_checked_object(state["object"], sha256))


def _checked_object(shared: Any, sha256: bytes | None) -> str:
    if not is_shared_name(shared) or read_shared_name(shared)[0] != sha256:
        raise RecordError("the state of a blob record is damaged: its object is not one of its SHA-256")
    return shared


def check_blob(record: bytes) -> int:
    """Raises RecordError where the record is not a blob's, before a byte of it is sent. Where its state begins."""
    start = _split(record)
    if start is None:
        raise RecordError("storeBlob was called with a record that is not a ZODB.blob.Blob's")
    return start


def with_state(record: bytes, state: BlobState) -> bytes:
    """The same blob's record saying where its data is. Raises as ``check_blob``."""
    start = check_blob(record)
    written: dict[str, Any]
    if state.inline is not None:
        written = {"s3blob": FORMAT, "inline": state.inline}
    else:
        written = {"s3blob": FORMAT, "name": state.name, "size": state.size, "sha256": state.sha256}
        if state.object is not None:
            written["object"] = state.object
    return record[:start] + pickle.dumps(written, _PROTOCOL)


def record_of(state: BlobState) -> bytes:
    """A record of a blob as ZODB writes them, that says where its data is: of one that is not committed yet."""
    return with_state(_AS_WRITTEN, state)
