"""What a record's and a listing's line tell of a blob; and where a reading that was stopped goes on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ZODB.utils import p64

from collective.s3blobstorage.encryption.segments import sealed_size, unsealed_size
from collective.s3blobstorage.maintenance.bucket import BlobObject
from collective.s3blobstorage.maintenance.compare import matched
from collective.s3blobstorage.maintenance.findings import committed
from collective.s3blobstorage.maintenance.fsck.judge import RIGHT, Wanted
from collective.s3blobstorage.maintenance.fsck.run import _Position, _Task
from collective.s3blobstorage.maintenance.kept import KeptRevision

OID, TID, NAME = p64(1), p64(2), "ab" * 16
CLEAR = Wanted(opens=False, seals=False, required=False)
SERVER = Wanted(opens=True, seals=False, required=False)
SEALS = Wanted(opens=True, seals=True, required=False)
STRICT = Wanted(opens=True, seals=True, required=True)


def place(wanted, stored, size=3000, **revision):
    """As ``matched`` gives it; ``stored``: bytes that the bucket has, None: nothing."""
    record = KeptRevision(OID, TID, NAME, size, **revision)
    sealed = unsealed_size(stored) if wanted.opens and stored is not None else None
    objects = [] if stored is None else [BlobObject(OID, NAME, stored, f"blobs/{OID.hex()}/{NAME}", sealed=sealed)]
    [found] = matched([record], objects, [])
    return found


@pytest.mark.parametrize(
    ("wanted", "stored", "kind"),
    [
        (CLEAR, 3000, RIGHT),
        (CLEAR, None, "missing"),
        (CLEAR, 0, "truncated"),
        (CLEAR, 2999, "truncated"),
        (CLEAR, 3001, "wrong-size"),
        (CLEAR, sealed_size(3000), "wrong-encryption"),
        (SERVER, sealed_size(3000), RIGHT),
        (SERVER, 2999, "truncated"),
        (SEALS, sealed_size(3000), RIGHT),
        (SEALS, 3000, RIGHT),
        (SEALS, sealed_size(3000) - 1, "truncated"),
        (SEALS, sealed_size(2000), "truncated"),
        (SEALS, sealed_size(3001), "wrong-size"),
        (STRICT, 3000, "wrong-encryption"),
        (STRICT, sealed_size(3000), RIGHT),
    ],
)
def test_what_two_lines_tell(wanted, stored, kind):
    assert wanted.judge(place(wanted, stored)) == kind


def test_what_has_no_object_or_no_size():
    assert CLEAR.judge(place(CLEAR, None, inline=True)) == RIGHT
    assert CLEAR.judge(place(CLEAR, None, damaged="it is damaged")) == "damaged-record"
    assert CLEAR.judge(place(CLEAR, 17, size=None)) == RIGHT


@given(st.integers(0, 300_000), st.integers(0, 600_000), st.sampled_from([CLEAR, SERVER, SEALS, STRICT]))
def test_right_is_only_what_can_be_a_blob_of_that_size(size, stored, wanted):
    found = wanted.judge(place(wanted, stored, size=size))
    could_be = stored == size or (wanted.opens and stored == sealed_size(size))
    assert (found == RIGHT) == (could_be and not (wanted is STRICT and stored == size)), found


@given(st.permutations(range(30)), st.integers(0, 30))
def test_a_position_has_nothing_unread_before_it(order, count):
    position = _Position("")
    ended = order[:count]
    for number in ended:
        position.done(_Task(number, f"key{number:02}", [], ""))
    whole = next(number for number in range(31) if number not in ended)
    assert position.key == (f"key{whole - 1:02}" if whole else "")


def test_a_date_is_that_of_the_transaction():
    assert committed(bytes.fromhex("040d4adb66103722")) == "2026-11-27T07:55:23+00:00"
