"""A database of very many blobs whose objects ``benchmarks.listed`` lists: records alone, written into the base."""

from __future__ import annotations

import hashlib
from itertools import chain, islice
from typing import Any

import ZODB
from ZODB.blob import Blob
from ZODB.Connection import TransactionMetaData
from ZODB.serialize import ObjectWriter
from ZODB.utils import p64, z64

from benchmarks.listed import FIRST_OID, name
from collective.s3blobstorage.storage.record import BlobState, with_state

_EACH = 10_000  # records in a transaction


# Of a folder, and of an item in it whose file is a blob, with ids and classes that need no package.
_ROOT = b"\x80\x03cno.such\nMapping\n.\x80\x03}X\x05\0\0\0filesC\x08%bQs."
_FOLDER = b"\x80\x03cno.such\nFolder\n.\x80\x03}X\x02\0\0\0idX\x05\0\0\0filess."
_ITEM = (
    b"\x80\x03cno.such\nItem\n.\x80\x03}(X\x02\0\0\0idX\x08\0\0\0%08d"
    b"X\x0b\0\0\0portal_typeX\x04\0\0\0FileX\x04\0\0\0fileC\x08%bQX\x0a\0\0\0__parent__C\x08%bQu."
)


def fill_content(base: Any, count: int) -> None:
    """The records of so many blobs, each with that of an item in a folder, whose file it is."""
    fill(base, count, root=_ROOT % p64(2 * count + 1))
    folder = 2 * count + FIRST_OID
    records = chain(
        [(folder, _FOLDER)],
        ((first + count, _ITEM % (first, p64(first), p64(folder))) for first in range(FIRST_OID, FIRST_OID + count)),
    )
    while some := list(islice(records, _EACH)):
        transaction = TransactionMetaData()
        base.tpc_begin(transaction)
        for oid, record in some:
            base.store(p64(oid), z64, record, "", transaction)
        base.tpc_vote(transaction)
        base.tpc_finish(transaction)


def fill(base: Any, count: int, root: bytes = b"") -> None:
    """A root object, and the records of so many blobs. The base is new; it stays open. ``root``: the root's record."""
    if root:
        transaction = TransactionMetaData()
        base.tpc_begin(transaction)
        base.store(z64, z64, root, "", transaction)
        base.tpc_vote(transaction)
        base.tpc_finish(transaction)
    else:
        ZODB.DB(base).open().close()
    empty = ObjectWriter().serialize(Blob())
    digest = hashlib.sha256(b"").digest()
    for first in range(0, count, _EACH):
        transaction = TransactionMetaData()
        base.tpc_begin(transaction)
        for number in range(first, min(first + _EACH, count)):
            record = with_state(empty, BlobState(name(number), 65536, digest))
            base.store(p64(number + FIRST_OID), z64, record, "", transaction)
        base.tpc_vote(transaction)
        base.tpc_finish(transaction)
