"""Undo of blob revisions.

A record that carries its name brings its data along: undo copies the record, and the object is the same. Only a
record *without* a name (its object is called after its tid) needs an object under the tid of the undo.

Where the base's ``undo`` returns that tid (FileStorage), the object is copied before the base votes. Where it does not
(RelStorage, a ZEO client), such an undo is refused, by oid: nothing tells the tid before it is too late. Not where the
base keeps that blob itself and a ``<basesource>`` reads it: it then keeps what its undo brought back too.

A source that has a ``fork-tid`` is not asked for the undo's revision. So what only a source has comes into the bucket
under the name that the record keeps.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ZODB.mvccadapter import UndoAdapterInstance
from ZODB.POSException import POSKeyError, UndoError
from ZODB.utils import maxtid, oid_repr

from ..keys import blob_key, tid_name
from ..overlay.interfaces import Revision
from .reading import read_exact, state_of
from .record import BlobState, read_state

if TYPE_CHECKING:
    from .reading import BlobReader, LoadBefore


@dataclass(frozen=True, slots=True)
class _Copy:
    """The object of revision ``source_tid`` is needed under the name of ``undo_tid``."""

    oid: bytes
    source_tid: bytes
    undo_tid: bytes


class UndoInstance(UndoAdapterInstance):
    """ZODB's, whose ``tpc_vote`` keeps to itself which oids an undo changed."""

    def tpc_vote(self, transaction: Any) -> Any:
        oids = self._storage.tpc_vote(transaction)
        self._undone.update(oids or ())
        return oids


class Undone:
    """What the undos of one transaction brought back. Used by the thread that runs the transaction."""

    def __init__(self) -> None:
        self._copies: dict[bytes, _Copy] = {}
        self._tids: list[bytes] = []  # undone transactions whose undo's tid is not known
        self._undone: list[tuple[bytes, list[bytes]]] = []  # the others, with the oids that the undo changed

    def note(self, load_before: LoadBefore, transaction_id: bytes, result: Any) -> None:
        """Note an undo that the base has just done.

        ``transaction_id`` is what ``undo`` was called with (base64 of a tid), ``result`` what the base returned:
        ``(tid of the undo, oids)`` or None.
        """
        undone_tid = binascii.a2b_base64(transaction_id + b"\n")
        if not result:
            self._tids.append(undone_tid)
            return
        undo_tid, oids = result
        oids = list(oids)
        self._undone.append((undone_tid, oids))
        for oid in oids:
            # An earlier undo of this transaction has already brought back another revision of this oid.
            earlier = self._copies.pop(oid, None)
            source_tid = _nameless_before(load_before, oid, undone_tid, earlier and earlier.source_tid)
            if source_tid is not None:
                self._copies[oid] = _Copy(oid, source_tid, undo_tid)

    def copy_objects(self, load_before: LoadBefore, reader: BlobReader) -> None:
        """Before the base votes: give each undo of a nameless record its object.

        The key is made of the undo's tid, which the base draws once, under its commit lock. Raises UndoError where the
        source is gone.
        """
        for copy in self._copies.values():
            key = blob_key(copy.oid, tid_name(copy.undo_tid))
            state = state_of(read_exact(load_before, copy.oid, copy.source_tid), copy.oid, copy.source_tid)
            if not reader.give_key(copy.oid, copy.source_tid, state, key):
                raise UndoError("the file of the revision to go back to is missing", copy.oid)
        for undone_tid, oids in self._undone:
            _bring_named(load_before, reader, undone_tid, oids)

    def check_resolved(self, load_before: LoadBefore, reader: BlobReader, oids: Iterable[bytes] | None) -> None:
        """After the base's vote told which oids it changed, where ``undo`` itself did not tell."""
        if not self._tids:
            return
        changed = list(oids or ())
        for undone_tid in self._tids:
            for oid in changed:
                source_tid = _nameless_before(load_before, oid, undone_tid)
                if source_tid is not None and not reader.overlay.undone_by_base(Revision(oid, source_tid, BlobState())):
                    raise UndoError(
                        f"blob {oid_repr(oid)} was migrated, so its record does not name its file, and this base"
                        " storage does not tell the tid of an undo before it commits",
                        oid,
                    )
            _bring_named(load_before, reader, undone_tid, changed)


def undo_in(base: Any, transaction_id: bytes, transaction: Any) -> Any:
    """The base's ``undo``. UndoError where it has a blob directory that lacks the file to go back to."""
    with _saying_what_lacks():
        return base.undo(transaction_id, transaction)


def vote_in(base: Any, transaction: Any) -> Any:
    """The base's ``tpc_vote`` after an undo, in which a ZEO client hears what its server's ``undo`` raised."""
    with _saying_what_lacks():
        return base.tpc_vote(transaction)


@contextmanager
def _saying_what_lacks() -> Iterator[None]:
    try:
        yield
    except POSKeyError as error:
        if "No blob file" not in str(error):  # the words of ZODB.blob.BlobStorageMixin.loadBlob
            raise
        raise UndoError(
            "the storage inside has a blob-dir that lacks the file to go back to, which is in the bucket: take blob-dir"
            " out of its <filestorage>, in zeo.conf too, or, while keep-in-base is on, bring what lacks with"
            f" `s3blobs export --to` that directory ({error})"
        ) from None


def _bring_named(load_before: LoadBefore, reader: BlobReader, undone_tid: bytes, oids: Iterable[bytes]) -> None:
    """Where a source is not asked for the undo's revisions: what they go back to comes into the bucket."""
    if not reader.overlay.forked:
        return
    for oid in oids:
        found = _load(load_before, oid, undone_tid)
        state = None if found is None else read_state(found[0])
        if found is not None and state is not None and state.name is not None:
            reader.give_key(oid, found[1], state, blob_key(oid, state.name))


def _nameless_before(
    load_before: LoadBefore, oid: bytes, undone_tid: bytes, current_tid: bytes | None = None
) -> bytes | None:
    """The tid of the revision before the undone one, where that is a blob whose record has no name.

    That *is* what the base brings back: it undoes a record only where the current record is the undone one or equals
    it. Two nameless records are always equal, whatever their files hold, so there the base can not tell and we refuse.
    ``current_tid`` is the revision that an earlier undo of the same transaction brought back, else None.
    """
    found = _load(load_before, oid, undone_tid)
    if found is None:
        return None
    state = read_state(found[0])
    if state is None or not state.nameless:
        return None
    if current_tid is None:
        current = _load(load_before, oid, maxtid)
        current_state = current and read_state(current[0])
        if current and current_state and current_state.nameless:
            current_tid = current[1]
    if current_tid not in (None, undone_tid):
        raise UndoError("the file was changed by a later transaction", oid)
    return found[1]


def _load(load_before: LoadBefore, oid: bytes, tid: bytes) -> tuple[bytes, bytes, bytes | None] | None:
    try:
        return load_before(oid, tid)
    except POSKeyError:
        return None
