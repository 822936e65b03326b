"""A closer look at one object: what a HEAD tells, and what reading it does. Any thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ...encryption.envelope import key_name
from ...encryption.segments import sealed_size, unsealed_size
from ...errors import Corrupt, EncryptionKeyMissing, EncryptionNotHonoured, ObjectMissing
from ...keys import OBJECTS, read_object_key, read_shared_name
from ...objectstore.connection import recorded_sha256, recorded_size
from ...objectstore.interfaces import IObjectStore, Stored
from ..kept import KeptRevision
from ..reading import read_whole
from ..usage import reason
from .finding import MISSING, WRONG_BYTES, WRONG_ENCRYPTION, WRONG_METADATA
from .judge import RIGHT, Wanted

BY_RECORD, BY_METADATA, BY_SIZE = "record", "metadata", "size"

_CLEAR = "it is in clear, and require-encryption is on: `s3blobs keys rotate --convert` encrypts it"


@dataclass(frozen=True, slots=True)
class Looked:
    """``kind``: what is wrong, or ``RIGHT``. ``size``, ``etag``, ``detail`` as of a ``Finding``. ``proof``: by what
    its bytes are known to be right, where they were read. ``waits``: ``keys rotate`` would rewrite it."""

    kind: str
    key: str
    size: int | None = None
    etag: str = ""
    detail: str = ""
    proof: str = ""
    waits: bool = False


def digest_of(key: str) -> bytes | None:
    """The SHA-256 of what lies there, where the key tells it: that of a shared object."""
    shared = read_object_key(key)
    return None if shared is None else read_shared_name(shared)[0]


def look(store: IObjectStore, revision: KeptRevision, keys: Iterable[str]) -> Looked:
    """By one HEAD, or one for each key that is not there. ``keys``: see ``maintenance/sought.py``. Raises Refused,
    which may mean that it needs another key, and Unavailable."""
    return _looked(store, revision, keys)[0]


def _looked(store: IObjectStore, revision: KeptRevision, keys: Iterable[str]) -> tuple[Looked, Stored | None]:
    lacking = ""  # what is missing: the shared object, where it has a reference to one
    for key in keys:
        try:
            stored = store.stored(key)
        except EncryptionNotHonoured:
            return Looked(WRONG_ENCRYPTION, key, detail=_CLEAR.replace("in clear", "not encrypted as it must be")), None
        except Corrupt as error:  # metadata that are hidden with a key of ours
            return Looked(WRONG_METADATA, key, detail=str(error)), None
        if stored is not None:
            return _judged(Wanted.of(store.encryption), revision, stored), stored
        if not lacking or key.startswith(OBJECTS):
            lacking = key
    return Looked(MISSING, lacking, detail="it is neither in the bucket nor in a source"), None


def _judged(wanted: Wanted, revision: KeptRevision, stored: Stored) -> Looked:
    info = stored.info
    key, there = info.key, info.size
    if stored.protection is None:
        return Looked(WRONG_METADATA, key, there, info.etag, "its envelope is damaged, or of a newer release")
    is_sealed = key_name(info.metadata) is not None
    size = unsealed_size(there) if is_sealed else there
    told = recorded_size(info.metadata)
    if is_sealed and not wanted.opens:
        missing = EncryptionKeyMissing(stored.protection.key.partition("/")[0])
        return Looked(WRONG_ENCRYPTION, key, size, info.etag, reason(missing))
    expected = revision.size if revision.size is not None or is_sealed else told
    if expected is not None and size != expected:
        if not is_sealed and there == sealed_size(expected):
            detail = "it is encrypted, and has lost the metadata that say so"
            return Looked(WRONG_METADATA, key, there, info.etag, detail)
        said = "its record says" if revision.size is not None else "its metadata say"
        shown = there if size is None else size
        detail = f"it has {shown} bytes, and {said} {expected}"
        return Looked(wanted.of_size(expected, there), key, shown, info.etag, detail)
    if size is None:  # of a blob whose record has no size
        detail = f"no encrypted object has {there} bytes"
        return Looked(wanted.of_size(told or there, there) or WRONG_METADATA, key, there, info.etag, detail)
    if wanted.seals and wanted.required and not is_sealed:
        return Looked(WRONG_ENCRYPTION, key, size, info.etag, _CLEAR)
    return Looked(RIGHT, key, size, info.etag, waits=not stored.current)


def read(store: IObjectStore, revision: KeptRevision, keys: Iterable[str], moved: Callable[[int], None]) -> Looked:
    """The same, and then by reading it whole. ``moved(bytes)``: what came. One GET; of a wrong one a second time."""
    looked, stored = _looked(store, revision, keys)
    if looked.kind or stored is None:
        return looked
    key, etag, size = looked.key, looked.etag, looked.size

    def wrong(kind: str, detail: str) -> Looked:
        return Looked(kind, key, size, etag, detail, waits=looked.waits)

    sha256 = digest_of(key) or revision.sha256
    contradicted = _contradiction(revision, stored)
    try:
        told = read_whole(store, key, moved, size=revision.size)
    except ObjectMissing:
        return Looked(MISSING, key, detail="it was deleted while it was read")
    except EncryptionKeyMissing as error:
        return wrong(WRONG_ENCRYPTION, reason(error))
    except EncryptionNotHonoured:
        return wrong(WRONG_ENCRYPTION, _CLEAR)
    except Corrupt as error:
        if sha256 is not None and _is_right(store, key, revision.size, sha256, moved):
            return wrong(WRONG_METADATA, "its metadata name another SHA-256 than its record and its bytes have")
        return wrong(WRONG_BYTES, f"its bytes are not those that were stored: {error}")
    if sha256 is not None and told.sha256 != sha256:
        said = "its record" if revision.sha256 == sha256 else "its key"
        return wrong(WRONG_BYTES, f"its SHA-256 is not the one of {said}")
    if contradicted:
        return wrong(WRONG_METADATA, contradicted)
    proof = BY_SIZE
    if revision.sha256 is not None:
        proof = BY_RECORD
    elif sha256 is not None or recorded_sha256(told.metadata) is not None:
        proof = BY_METADATA
    return Looked(RIGHT, key, size, etag, proof=proof, waits=looked.waits)


def _is_right(store: IObjectStore, key: str, size: int | None, sha256: bytes, moved: Callable[[int], None]) -> bool:
    try:
        read_whole(store, key, moved, size=size, sha256=sha256)
    except (Corrupt, ObjectMissing):
        return False
    return True


def _contradiction(revision: KeptRevision, stored: Stored) -> str:
    """What metadata say that is not so. Those that are lacking say nothing: another tool may have copied the object."""
    metadata = stored.info.metadata
    if metadata.get("oid") not in (None, revision.oid.hex()) and not stored.info.key.startswith(OBJECTS):
        return f"its metadata say that it is of blob 0x{metadata['oid']}"
    if recorded_size(metadata) not in (None, stored.info.size):
        return f"its metadata say that it has {metadata['size']} bytes"
    return ""
