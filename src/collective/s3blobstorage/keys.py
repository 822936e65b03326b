"""Names of revisions and keys of objects. Pure.

A revision has a name of its own, 32 hex digits drawn at random, which its ZODB record carries. A record without a name
(migrated, or restored from elsewhere) has the name ``{tid:016x}``. Keys are relative to the store's prefix::

    blobs/{oid:016x}/{name}          ours
    blobs/{oid:016x}/{name}.{shared} a reference, of no bytes: that revision's bytes are the shared object's
    objects/{aa}/{bb}/{shared}       a shared object: ``{sha256}.{generation}``, of which these are the first digits
    condemned/{shared}               a mark, of no bytes: no revision begins to share it any more
    blobs/{oid:x}/{tid:x}.blob       zodb-s3blobs 1.x, leading zeros stripped
    blobs/{oid:016x}/{tid:016x}.blob zodb-s3blobs, leading zeros kept
    .s3blobs.json                    the owner marker
    .s3blobs-mirrored.json           up to when nothing is only in a source
    .s3blobs-check/…                 what checks of the store write and delete again
    gc/…                             what garbage collection remembers, and what processes tell it
    gc-log/…                         what it deleted
    manifests/{date}-{tid}           what the database referred to at that transaction
    jobs/…                           what runs, and what came of it
    status/…                         figures of the last listing, and the last check
    keys/{id}                        what is known of a key of the ring: state, canary; never the key
    keys/.rotation                   how far a rotation of keys has got; no id of a key begins with a dot
    keys/.usage                      how many objects were encrypted with which key when they were counted last
    uploads/{id}                     what a browser sent, until it becomes a blob
    reads/{yyyymmdd}/{id}            which blobs a process read that day, as far as it wrote it down
    addons/{name}/…                  objects of an add-on's own, of which the database says nothing

All our digits have a fixed width, so that a listing sorts by oid.
"""

from __future__ import annotations

import re
import secrets

BLOBS = "blobs/"
OBJECTS = "objects/"
CONDEMNED = "condemned/"
MARKER = ".s3blobs.json"
MIRRORED = ".s3blobs-mirrored.json"
SCRATCH = ".s3blobs-check/"
CONTROL = "gc/"
LEDGER = "gc/ledger"
LOCKED = "gc/locked"
LEASE = "gc/lease/"
CLAIM = "gc/claim/"
PLAN = "gc/plan/"
WITNESS = "gc/witness/"
GC_LOG = "gc-log/"
JOBS = "jobs/"
MANIFESTS = "manifests/"
STATUS = "status/"
KEYS = "keys/"
ROTATION = "keys/.rotation"
USAGE = "keys/.usage"
ADDONS = "addons/"
UPLOADS = "uploads/"
READS = "reads/"

# Below which the bytes of blobs are: what require-encryption is about.
BYTES = (BLOBS, OBJECTS)
# What client-side encryption encrypts: content, and manifests, which have its paths. Nothing begins to be shared where
# that is on; what was shared before is encrypted too, by `keys rotate --convert`.
SEALED_PREFIXES = (*BYTES, ADDONS, MANIFESTS)

_NAME = re.compile(r"[0-9a-f]{16}|[0-9a-f]{32}")
_KEY = re.compile(r"blobs/([0-9a-f]{16})/([0-9a-f]{32}|[0-9a-f]{16})")
# A generation is counted up when its content comes again after a mark: a billion of them do not come.
_SHARED = r"[0-9a-f]{64}\.(?:0|[1-9][0-9]{0,8})"
_SHARED_NAME = re.compile(_SHARED)
_REFERENCE = re.compile(rf"blobs/([0-9a-f]{{16}})/([0-9a-f]{{32}}|[0-9a-f]{{16}})\.({_SHARED})")
_FOREIGN_KEY = re.compile(r"blobs/([0-9a-f]{1,16})/([0-9a-f]{1,16})\.blob")
_ADDON_NAME = r"[a-z0-9][a-z0-9._-]{0,63}"
_MANIFEST = re.compile(r"manifests/\d{8}T\d{6}Z-[0-9a-f]{16}")
_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")
_READ_NOTE = re.compile(r"reads/(\d{8})/([0-9a-f]{32})")
_ADDON_KEY = re.compile(rf"addons/{_ADDON_NAME}/.+", re.DOTALL)


def draw_name() -> str:
    """A name for a new revision: 128 random bits, so that two never meet, in any process on any machine."""
    return secrets.token_hex(16)


def tid_name(tid: bytes) -> str:
    """The name of a revision whose record has none."""
    return tid.hex()


def is_name(name: object) -> bool:
    """Whether this may be part of a key. Anything else is a damaged record, never a path."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def blob_key(oid: bytes, name: str) -> str:
    """The key of a revision's object.

    Raises ValueError where oid or name have the wrong form: a key is never built from anything else.
    """
    if len(oid) != 8 or not is_name(name):
        raise ValueError("not an oid of 8 bytes and a name of 16 or 32 hex digits")
    return f"{BLOBS}{oid.hex()}/{name}"


def foreign_keys(oid: bytes, tid: bytes) -> tuple[str, ...]:
    """Where zodb-s3blobs keeps that revision: its present form, then the one with all digits."""
    return (
        f"{BLOBS}{int.from_bytes(oid, 'big'):x}/{int.from_bytes(tid, 'big'):x}.blob",
        f"{BLOBS}{oid.hex()}/{tid.hex()}.blob",
    )


def read_key(key: str) -> tuple[bytes, str] | None:
    """Oid and name, where it is a key of ours: what ``blob_key`` makes."""
    found = _KEY.fullmatch(key)
    return None if found is None else (bytes.fromhex(found[1]), found[2])


def is_key(key: str) -> bool:
    """Whether ``read_key`` knows it, at a third of the cost."""
    return _KEY.fullmatch(key) is not None


def shared_name(sha256: bytes, generation: int) -> str:
    """What a blob's record calls the object that its bytes share with equal ones: ``{sha256}.{generation}``."""
    name = f"{sha256.hex()}.{generation}"
    if not is_shared_name(name):
        raise ValueError("not a SHA-256 of 32 bytes and a generation from 0 to 999,999,999")
    return name


def is_shared_name(name: object) -> bool:
    """Whether ``shared_name`` makes it. Anything else is a damaged record, never a path."""
    return isinstance(name, str) and _SHARED_NAME.fullmatch(name) is not None


def _checked_shared(name: str) -> str:
    if not is_shared_name(name):
        raise ValueError("not the name of a shared object")
    return name


def read_shared_name(name: str) -> tuple[bytes, int]:
    """SHA-256 and generation. Raises ValueError where it is no shared object's name."""
    digest, _, generation = _checked_shared(name).partition(".")
    return bytes.fromhex(digest), int(generation)


def object_key(shared: str) -> str:
    """The key of a shared object, given its name. Raises ValueError where it is none."""
    return f"{OBJECTS}{_checked_shared(shared)[:2]}/{shared[2:4]}/{shared}"


def read_object_key(key: str) -> str | None:
    """The name of the shared object, where it is the key of one: what ``object_key`` makes."""
    name = key.rpartition("/")[2]
    return name if is_shared_name(name) and key == object_key(name) else None


def condemned_key(shared: str) -> str:
    """The key of the mark that nothing begins to share that object any more. It stays for good: a generation that was
    given up is never begun again, so that a late delete of it deletes nothing that is in use. Raises ValueError."""
    return CONDEMNED + _checked_shared(shared)


def read_condemned_key(key: str) -> str | None:
    """The name of the shared object that the mark is of, where it is one."""
    name = key[len(CONDEMNED) :]
    return name if key.startswith(CONDEMNED) and is_shared_name(name) else None


def reference_key(oid: bytes, name: str, shared: str) -> str:
    """The key of the reference from a revision to the object that has its bytes.

    It says all that garbage collection, fsck and recovery need, so that these read a listing and no object. In a
    listing it stands behind the revision's own key. Raises ValueError as ``blob_key``.
    """
    return f"{blob_key(oid, name)}.{_checked_shared(shared)}"


def read_reference_key(key: str) -> tuple[bytes, str, str] | None:
    """Oid, name and the shared object's name, where it is the key of a reference."""
    found = _REFERENCE.fullmatch(key)
    return None if found is None else (bytes.fromhex(found[1]), found[2], found[3])


def is_reference_key(key: str) -> bool:
    """Whether ``read_reference_key`` knows it, at a third of the cost."""
    return _REFERENCE.fullmatch(key) is not None


def has_bytes(key: str) -> bool:
    """Whether it is the key of an object that has a blob's bytes, of any form: no reference, no mark."""
    return is_key(key) or read_object_key(key) is not None or read_foreign_key(key) is not None


def is_bookkeeping(key: str) -> bool:
    """Whether it is what this package keeps beside the blobs: markers, notes of gc and of reads, keys, jobs, manifests,
    status and checks."""
    return key in (MARKER, MIRRORED) or key.startswith((CONTROL, GC_LOG, JOBS, MANIFESTS, STATUS, KEYS, SCRATCH, READS))


def addon_prefix(name: str) -> str:
    """What the keys of that add-on begin with. Raises ValueError where it is no name for one."""
    if not isinstance(name, str) or re.fullmatch(_ADDON_NAME, name) is None:
        raise ValueError(
            "an add-on's name is 1 to 64 lower-case letters, digits, dots, hyphens and underscores, of which the first"
            " is a letter or a digit; example: collective.reports"
        )
    return f"{ADDONS}{name}/"


def is_addon_key(key: str) -> bool:
    """Whether it lies where an add-on keeps objects of its own: nobody but that add-on knows what is in use."""
    return _ADDON_KEY.fullmatch(key) is not None


def upload_key(id: str) -> str:
    """The key of an upload. Raises ValueError where it is no id of one: a key is never built from anything else."""
    if not isinstance(id, str) or _UPLOAD_ID.fullmatch(id) is None:
        raise ValueError("not an id of 32 hex digits")
    return UPLOADS + id


def is_upload_key(key: str) -> bool:
    """Whether ``upload_key`` makes it."""
    return key.startswith(UPLOADS) and _UPLOAD_ID.fullmatch(key[len(UPLOADS) :]) is not None


def reads_key(day: str, id: str) -> str:
    """The key of what a process read that day, as ``20261127``."""
    return f"{READS}{day}/{id}"


def read_note_key(key: str) -> tuple[str, str] | None:
    """Day and id of the process, where it is one."""
    found = _READ_NOTE.fullmatch(key)
    return None if found is None else (found[1], found[2])


def is_manifest_key(key: str) -> bool:
    """Whether it is the key of a manifest. They sort by date."""
    return _MANIFEST.fullmatch(key) is not None


def read_foreign_key(key: str) -> tuple[bytes, bytes] | None:
    """Oid and tid, where it is a key of zodb-s3blobs: one of those that ``foreign_keys`` makes."""
    found = _FOREIGN_KEY.fullmatch(key)
    if found is None:
        return None
    oid, tid = (bytes.fromhex(digits.rjust(16, "0")) for digits in found.groups())
    return (oid, tid) if key in foreign_keys(oid, tid) else None
