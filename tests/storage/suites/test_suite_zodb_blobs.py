"""ZODB's own suite for blob storages, with undo and recovery, over every base."""

from __future__ import annotations

import bases
import pytest
from place import place
from upstream import Pair, pairs
from ZODB.tests.testblob import storage_reusable_suite

ENCRYPTED = "ZODB blobs, encrypted cache"

# With an encrypted cache no other test fails: how many lines of these do, and why.
NOT_A_PLAIN_FILE = {
    "blob_transaction_txt": (1, "open('c') gives a file that decrypts, and the test looks at its type"),
    "testblob.loadblob_tmpstore": (1, "a storage that was closed decrypts nothing"),
    "testblob.commit_from_wrong_partition": (
        2,
        "the test looks for the line that ZODB logs where it copies a file",
    ),
}


def blob_pairs(base: bases.Base, suite: str = "ZODB blobs") -> list[Pair]:
    def build(wrapped: bool):
        return storage_reusable_suite("", base.blob_factory(wrapped), test_blob_storage_recovery=True, test_undo=True)

    return pairs(suite, base.name, build)


@pytest.mark.parametrize("pair", [pair for base in (*bases.ALL, bases.ZEO) for pair in blob_pairs(base)], ids=str)
def test_zodb_blobs(pair, compare):
    compare(pair)


@pytest.mark.parametrize("pair", blob_pairs(bases.FILESTORAGE, ENCRYPTED), ids=str)
def test_zodb_blobs_with_an_encrypted_cache(pair, compare, monkeypatch):
    monkeypatch.setattr(place, "cache_encrypt", True)
    if pair.name in NOT_A_PLAIN_FILE:
        lines, reason = NOT_A_PLAIN_FILE[pair.name]
        with pytest.raises(pytest.fail.Exception) as failed:
            compare(pair)
        assert str(failed.value).count("Failed example:") == lines
        pytest.skip(reason)
    compare(pair)
