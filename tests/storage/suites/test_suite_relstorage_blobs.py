"""RelStorage's own blob suite, over RelStorage with a blob directory (bare) and ours around one without."""

from __future__ import annotations

import bases
import pytest
from relstorage.tests.blob.testblob import storage_reusable_suite
from upstream import Pair, pairs


def blob_pairs(base: bases.Base) -> list[Pair]:
    def build(wrapped: bool):
        return storage_reusable_suite(
            "",
            base.blob_factory(wrapped),
            keep_history=base.undo,
            test_blob_storage_recovery=True,
            test_undo=base.undo,
        )

    return pairs("RelStorage blobs", base.name, build)


@pytest.mark.parametrize("pair", [pair for base in bases.RELSTORAGES for pair in blob_pairs(base)], ids=str)
def test_relstorage_blobs(pair, compare):
    compare(pair)
