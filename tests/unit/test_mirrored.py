"""The marker that says up to when nothing is only in a source."""

from __future__ import annotations

import pytest

from collective.s3blobstorage.errors import ObjectMissing
from collective.s3blobstorage.keys import MIRRORED
from collective.s3blobstorage.storage.mirrored import Mirrored, read_mirrored, retract, write_mirrored


class Objects(dict):
    """The two verbs of a store that it needs, in memory."""

    def put_bytes(self, key, data):
        self[key] = data

    def get_bytes(self, key):
        if key not in self:
            raise ObjectMissing(key)
        return self[key]


def test_what_is_written_is_read_and_the_last_one_holds():
    store = Objects()
    assert read_mirrored(store) is None
    write_mirrored(store, b"\1" * 8, ["a"])
    write_mirrored(store, b"\2" * 8, ["a", "b"])
    assert read_mirrored(store) == Mirrored(b"\2" * 8, ("a", "b")) and list(store) == [MIRRORED]


def test_what_was_said_can_be_taken_back_without_deleting():
    store = Objects()
    retract(store)
    assert store == {}
    write_mirrored(store, b"\1" * 8, ["a"])
    retract(store)
    assert read_mirrored(store) is None and list(store) == [MIRRORED]
    write_mirrored(store, b"\2" * 8, ["a"])
    assert read_mirrored(store) == Mirrored(b"\2" * 8, ("a",))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[]", b"null", b'{"format": 2, "complete_up_to": "0000000000000001", "sources": []}',
        b'{"format": 1, "complete_up_to": "01", "sources": []}', b'{"format": 1, "complete_up_to": 7, "sources": []}',
        b'{"format": 1, "sources": []}', b"\xff",
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_nothing(data):
    assert read_mirrored(Objects({MIRRORED: data})) is None
