"""How a blob's bytes come to be an object that equal ones share (``dedup``): the writer's part of the protocol.

Nothing here makes a request. A writer is a generator: it yields what is to be asked of the store, one after the other,
and is sent the answer. ``carry_out`` runs one on a store; the tests step several of them, and gc's part
(``maintenance/gc/sharing.py``), through every interleaving.

Why no record ever names an object that is gone
    A record names ``H.g`` only if its writer's reference to ``H.g`` was in the bucket *before* the writer looked and
    saw no mark of ``H.g`` (``announce``). The store is strongly consistent, so the mark, if there ever is one, was
    written after the reference was there. gc deletes ``H.g`` only if a listing of all references that *began after* the
    mark was there shows none. A key that is there all the time is in every listing; so the reference was deleted
    before: by the abort of the very transaction, whose record is not committed, or by gc, after the database did not
    refer to the revision for as long as an object of its own would have been kept (``gc-grace``, ``gc-keep``).

Why a late request does no harm
    A mark stays for good, and who sees it goes on with a generation above all that are marked. So ``H.g`` is never
    begun again after it was given up, and a DELETE of it that hung for days hits nothing that is in use. A late PUT of
    its bytes brings back an object that no record names: it has a mark and no reference, and gc deletes it again. A
    late PUT or DELETE of a reference is of a name that only its own transaction drew.

Why no request tells what is there
    The bytes are always sent, and the object is always looked at afterwards (``Bytes``, ``Look``): neither the number
    of requests nor their size says whether somebody has stored the same file. What was given up, or lies in clear where
    it is to be encrypted, takes more of them; a store may be done sooner with bytes that it need not keep:
    docs/dedup.md says so.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, TypeVar

from ..errors import Corrupt, EncryptionNotHonoured, PreconditionFailed, StoreError
from ..keys import object_key, read_shared_name, reference_key, shared_name
from ..objectstore.connection import recorded_sha256
from ..objectstore.interfaces import IObjectStore, ObjectInfo
from ..shared import marked_generations

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reference:
    """PUT that reference, of no bytes. ``tid``: in hex, for its metadata, where it is known; for a rebuild from the
    bucket. The answer is None."""

    key: str
    oid: bytes
    tid: str | None = None


@dataclass(frozen=True, slots=True)
class Marks:
    """LIST the marks of that content. The answer is a set of the generations that are marked."""

    sha256: bytes


@dataclass(frozen=True, slots=True)
class Bytes:
    """PUT the bytes under that key if nothing is there (``If-None-Match: *``). Whether it was there is not answered:
    the answer is None in either case."""

    key: str


@dataclass(frozen=True, slots=True)
class Look:
    """HEAD. The answer is ``(size, SHA-256 or None, whether it is encrypted as a new object would be)``, or None where
    nothing is there."""

    key: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Let so many seconds pass. The answer is None."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Forget:
    """DELETE references that were put and are not used. The answer is None."""

    keys: tuple[str, ...]


Request = Reference | Marks | Bytes | Look | Wait | Forget
Steps = Generator[Request, Any, T]

# S3 answers 409 (ConditionalRequestConflict) to a conditional PUT while another one to that key is under way: then the
# bytes are not there yet, and may have to be sent again. Seconds between such attempts.
_CONFLICTS = (0.2, 1.0, 3.0)

_IN_CLEAR = "A file is in the object store already, and is not encrypted there as it is to be."
_UNREADABLE = (0, None, False)


def announce(references: Sequence[Reference], sha256: bytes) -> Steps[set[int]]:
    """Put references to an object of that content, and then look. Returns the generations that are marked.

    Not the other way round: a mark that comes between a look and a reference would not be seen, and gc would not have
    seen the reference.
    """
    yield from references
    return (yield Marks(sha256))


def settle(
    refer: Callable[[str], Sequence[Reference]], sha256: bytes, *, first: int = 0, encrypted: bool = False
) -> Steps[str]:
    """Put references to a generation of that content which had no mark once they were there.

    ``refer`` gives the references to a shared object, by its name; it is asked anew for each generation, from ``first``
    on. ``encrypted``: new objects are to be (``asks_encryption``), so nothing is shared that is in clear, or as another
    key of the store's has it: the next generation is begun. Returns the name of the shared object, whose bytes may be
    there or not.
    """
    generation = first
    unused: list[str] = []
    while True:
        shared = shared_name(sha256, generation)
        references = refer(shared)
        marked = yield from announce(references, sha256)
        if generation not in marked:
            found = (yield Look(object_key(shared))) if encrypted else None
            if found is None or found[2]:
                break
            marked = {*marked, generation}
        unused += (reference.key for reference in references)
        generation = max(marked) + 1
    if unused:
        yield Forget(tuple(unused))
    return shared


def reserve(
    oid: bytes, name: str, sha256: bytes, draw: Callable[[], str] | None = None, *, encrypted: bool = False
) -> Steps[tuple[str, str]]:
    """Begin to share, for one revision (``settle``).

    ``draw`` gives a revision that is not committed yet another name with each generation: a reference that cannot be
    deleted again (a site need not have the right) is then of a name that no record has, and gc takes it. Without it
    ``name`` stays. Returns the name and that of the shared object.
    """
    names = repeat(name) if draw is None else chain((name,), iter(draw, None))

    def refer(shared: str) -> tuple[Reference]:
        nonlocal name
        name = next(names)
        return (Reference(reference_key(oid, name, shared), oid),)

    shared = yield from settle(refer, sha256, encrypted=encrypted)
    return name, shared


def fill(shared: str, size: int, *, encrypted: bool = False) -> Steps[None]:
    """See to it that the bytes are there; a reference is. Raises Corrupt where other ones are, and StoreError.

    ``encrypted``: EncryptionNotHonoured where somebody who does not encrypt was faster.
    """
    sha256, _ = read_shared_name(shared)
    key = object_key(shared)
    for pause in (*_CONFLICTS, None):
        yield Bytes(key)
        found = yield Look(key)
        if found is not None or pause is None:
            break
        yield Wait(pause)
    if encrypted and found is not None and not found[2]:
        raise EncryptionNotHonoured(_IN_CLEAR)
    _check(found, size, sha256)


def renew(oid: bytes, name: str, shared: str, draw: Callable[[], str] | None = None) -> Steps[str]:
    """After an upload that took long: gc may not take the reference for that of a transaction which ended long ago.

    The revision gets another name, and with it a reference that is young; ``shared`` is there still where it has no
    mark then. Without ``draw`` the name has to stay, and the reference has to be there. Returns the name. Raises
    StoreError where gc was faster.
    """
    sha256, generation = read_shared_name(shared)
    if draw is None:
        if (yield Look(reference_key(oid, name, shared))) is None:
            raise _too_slow()
        return name
    new = draw()
    if generation in (yield from announce([Reference(reference_key(oid, new, shared), oid)], sha256)):
        raise _too_slow()
    yield Forget((reference_key(oid, name, shared),))
    return new


def _too_slow() -> StoreError:
    return StoreError(
        "A file took longer to be stored than garbage collection waits for: set gc-grace. Example: gc-grace 48h"
    )


def share_again(oid: bytes, name: str, shared: str, size: int) -> Steps[bool]:
    """As ``reserve`` and ``fill``, for a record that is committed elsewhere and names that very object.

    False where the generation is marked: it must not be begun again, and the revision needs an object of its own. No
    reference is taken back: the name is not ours alone. The bytes are sent only where they are not there.
    """
    sha256, generation = read_shared_name(shared)
    if generation in (yield Marks(sha256)):  # so that no reference is left to what is given up
        return False
    if generation in (yield from announce([Reference(reference_key(oid, name, shared), oid)], sha256)):
        return False
    found = yield Look(object_key(shared))
    if found is None:
        yield from fill(shared, size)
    else:
        _check(found, size, sha256)
    return True


def _check(found: tuple[int, bytes | None, bool] | None, size: int, sha256: bytes) -> None:
    if found is None:
        # It was put, or was there, and our reference keeps it: somebody else deletes in this prefix.
        raise StoreError("A file that was just stored is not in the object store any more.")
    if found is _UNREADABLE:
        raise EncryptionNotHonoured(_IN_CLEAR)
    if found[0] != size or found[1] not in (None, sha256):
        raise Corrupt(
            "The object store holds other bytes than those of a file that is stored again: `s3blobs fsck --deep` finds"
            " and repairs it."
        )


def carry_out(
    steps: Steps[T],
    store: IObjectStore,
    send: Callable[[str], object] | None = None,
    *,
    put: Callable[[str], None] = lambda reference: None,
    forget: Callable[[tuple[str, ...]], object] | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> T:
    """Run a writer on a store, and return what it returns. In the caller's thread.

    ``send`` puts the bytes under the key it is given, with ``if_absent`` and ``shared`` (``IObjectStore.put_file``);
    None for steps that send none. ``put`` is told the key of each reference before it is put, so that an abort can
    delete it. ``forget`` deletes those that are not used; None: it is tried, and gc takes what stays. ``pause`` lets
    seconds pass. Raises what the store and these raise: then the transaction has to be aborted.
    """
    answer: Any = None
    while True:
        try:
            request = steps.send(answer)
        except StopIteration as ended:
            return ended.value
        answer = None
        match request:
            case Reference(key, oid, tid):
                put(key)
                store.put_bytes(key, b"", metadata={"oid": oid.hex()} | ({} if tid is None else {"tid": tid}))
            case Marks():
                answer = marked_generations(store, request.sha256)
            case Bytes(key):
                assert send is not None
                with suppress(PreconditionFailed):
                    send(key)
            case Look(key):
                answer = looked(store, key)
            case Wait(seconds):
                pause(seconds)
            case Forget(keys):
                _try_to_forget(store, keys) if forget is None else forget(keys)


def asks_encryption(store: IObjectStore) -> bool:
    """Whether the store is asked to encrypt new objects (``<sse-s3>``, ``<sse-kms>``)."""
    return bool(store.encryption.server_side.write_parameters())


def looked(store: IObjectStore, key: str) -> tuple[int, bytes | None, bool] | None:
    """The answer to ``Look``."""
    if not asks_encryption(store):
        info = store.head(key)
        return None if info is None else _told(info, True)
    try:
        stored = store.stored(key)
    except EncryptionNotHonoured:  # require-encryption is on
        return _UNREADABLE
    return None if stored is None else _told(stored.info, stored.current)


def _told(info: ObjectInfo, current: bool) -> tuple[int, bytes | None, bool]:
    return info.size, recorded_sha256(info.metadata), current


def _try_to_forget(store: IObjectStore, keys: tuple[str, ...]) -> None:
    try:
        store.delete(keys)
    except StoreError as error:
        logger.info("%d references to what nobody begins to share stay until gc: %s", len(keys), error)
