"""ZODB's own suite for blob storages, with undo and recovery, over every base."""

from __future__ import annotations

import bases
import pytest
from upstream import Pair, pairs
from ZODB.tests.testblob import storage_reusable_suite


def blob_pairs(base: bases.Base) -> list[Pair]:
    def build(wrapped: bool):
        return storage_reusable_suite("", base.blob_factory(wrapped), test_blob_storage_recovery=True, test_undo=True)

    return pairs("ZODB blobs", base.name, build)


@pytest.mark.parametrize("pair", [pair for base in (*bases.ALL, bases.ZEO) for pair in blob_pairs(base)], ids=str)
def test_zodb_blobs(pair, compare):
    compare(pair)
