"""The queue of a transaction: in order, in memory, then on disk."""

from __future__ import annotations

import os
import resource

import pytest

from collective.s3blobstorage.errors import StagingError
from collective.s3blobstorage.storage import operations
from collective.s3blobstorage.storage.operations import Operations


def test_operations_come_back_in_order_and_twice(tmp_path):
    queue = Operations(lambda: tmp_path)
    expected = [("store", (bytes([i]), b"serial", b"data")) for i in range(10)]
    for method, arguments in expected:
        queue.append(method, arguments)
    assert list(queue) == expected
    assert list(queue) == expected
    queue.close()
    assert list(queue) == []


def test_a_large_transaction_goes_to_disk_and_leaves_nothing(tmp_path):
    queue = Operations(lambda: tmp_path)
    block = os.urandom(1024 * 1024)
    count = 3 * operations.MEMORY_BYTES // len(block)
    for i in range(count):
        queue.append("store", (i.to_bytes(8, "big"), b"serial", block), len(block))
    assert queue._bytes <= operations.MEMORY_BYTES
    seen = [(arguments[0], arguments[2]) for _, arguments in queue]
    assert seen == [(i.to_bytes(8, "big"), block) for i in range(count)]
    # reading does not end writing
    queue.append("undo", (b"last",))
    assert list(queue)[-1] == ("undo", (b"last",))
    queue.close()
    assert list(tmp_path.iterdir()) == []


def test_a_spill_after_reading_keeps_everything(tmp_path):
    queue = Operations(lambda: tmp_path)
    block = bytes(operations.MEMORY_BYTES)
    queue.append("store", (b"1", b"", block), len(block))
    next(iter(queue))
    queue.append("store", (b"2", b"", block), len(block))
    assert [arguments[0] for _, arguments in queue] == [b"1", b"2"]
    queue.close()


def test_a_disk_that_does_not_take_it_is_one_of_our_errors(tmp_path):
    """A limit on the size of files stands for a full disk. The abort that follows must not fail again."""
    queue = Operations(lambda: tmp_path)
    block = bytes(operations.MEMORY_BYTES)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        with pytest.raises(StagingError, match="staging-dir: File too large"):
            queue.append("store", (b"1", b"", block), len(block))
        queue.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
