"""A database of very many blobs whose objects ``benchmarks.listed`` lists: records alone, written into the base."""

from __future__ import annotations

import hashlib
from typing import Any

import ZODB
from ZODB.blob import Blob
from ZODB.Connection import TransactionMetaData
from ZODB.serialize import ObjectWriter
from ZODB.utils import p64, z64

from benchmarks.listed import FIRST_OID, name
from collective.s3blobstorage.storage.record import BlobState, with_state

_EACH = 10_000  # records in a transaction


def fill(base: Any, count: int) -> None:
    """A root object, and the records of so many blobs. The base is new; it stays open."""
    db = ZODB.DB(base)
    db.open().close()
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
