"""Tests that neither a bare base nor ours around it passes, and why.

A test that fails over both and is not listed is an error: something is wrong with the servers or with the reference.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from upstream import Pair

NO_UNDO = "the base has no undo"
NO_HISTORY = "the base keeps one revision of each object"
NO_RESTORE = "the base cannot restore transactions (no copyTransactionsFrom)"
NOT_PERSISTENT = "MappingStorage is gone when it is closed, and has no read-only mode"
RELSTORAGE_UNDO = "RelStorage does not resolve conflicts while undoing"
EARLIER_PACK = "MappingStorage refuses to pack to an earlier time"
OWN_TIDS = "the test begins transactions with tids of its own, in the past of RelStorage's"
ONE_CONNECTION = "the test shares one RelStorage object, which is one connection, between threads"

# Suite, base and test as shell patterns: the first that fits.
KNOWN_FAILURES: list[tuple[str, str, str, str]] = [
    ("ZODB blobs", "mappingstorage", "BlobUndoTests.*", NO_UNDO),
    ("ZODB blobs", "*-hf", "BlobUndoTests.*", NO_UNDO),
    ("ZODB blobs", "mappingstorage", "RecoveryBlobStorage.*", NO_RESTORE),
    ("ZODB blobs", "zeo-client", "RecoveryBlobStorage.*", "a ZEO client does not declare IBlobStorageRestoreable"),
    ("ZODB blobs", "*-h[pf]", "blob_transaction_txt", "the test gives a serial as str, RelStorage takes bytes"),
    ("ZODB classes", "mappingstorage", "Persistent.*", NOT_PERSISTENT),
    ("ZODB classes", "mappingstorage", "ReadOnly.*", NOT_PERSISTENT),
    ("ZODB classes", "mappingstorage", "Recovery.*", NO_RESTORE),
    ("ZODB classes", "mappingstorage", "PackableUndo.testRedundantPack", EARLIER_PACK),
    *(
        entry
        for base in ("mappingstorage", "*-hf")
        for entry in (
            ("ZODB classes", base, "TransactionalUndo.*", NO_UNDO),
            ("ZODB classes", base, "PackableUndo.testPackU*", NO_UNDO),
            ("ZODB classes", base, "Iterator.testUndoZombie", NO_UNDO),
            ("ZODB classes", base, "Revision.testLoadBeforeUndo", NO_UNDO),
        )
    ),
    ("ZODB classes", "*-hf", "ReadOnly.testWriteMethods", NO_UNDO),
    ("ZODB classes", "*-hf", "Recovery.testRestore*", NO_UNDO),
    ("ZODB classes", "*-hf", "History.*", NO_HISTORY),
    ("ZODB classes", "*-hf", "Iterator.*", NO_HISTORY),
    ("ZODB classes", "*-hf", "Revision.testLoadBefore*", NO_HISTORY),
    ("ZODB classes", "*-h[pf]", "Basic.test_checkCurrentSerialInTransaction", ONE_CONNECTION),
    ("ZODB classes", "*-h[pf]", "Packable.testPackAllRevisionsNoGC", "RelStorage.pack() takes no argument gc"),
    ("ZODB classes", "*-hp", "TransactionalUndo.testUndo*Conflict*", RELSTORAGE_UNDO),
    ("ZODB classes", "*-hp", "TransactionalUndo.testTransactionalUndoIterator", OWN_TIDS),
    ("ZODB classes", "postgresql-hp", "PackableUndo.testPackUndoLog", "the test's clock is not the database server's"),
]


def known_failure(pair: Pair) -> str | None:
    """Why the bare base does not pass this test, or None where it is expected to."""
    for suite, base, name, reason in KNOWN_FAILURES:
        if fnmatchcase(pair.suite, suite) and fnmatchcase(pair.base, base) and fnmatchcase(pair.name, name):
            return reason
    return None
