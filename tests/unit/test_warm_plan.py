"""What ``s3blobs warm`` plans to fetch."""

from __future__ import annotations

from pathlib import Path

import pytest

from collective.s3blobstorage.maintenance.records import BlobRevision
from collective.s3blobstorage.maintenance.warm import Limits, Plan, plan
from collective.s3blobstorage.storage.record import BlobState, with_state

BLANK = b"\x80\x03cZODB.blob\nBlob\nq\x00.\x80\x03N."


class Paths:
    """Where a cache would have the files; ``Path('/')`` is there, for those that it has."""

    def __init__(self, *cached: int) -> None:
        self._cached = cached

    def expected(self, oid: bytes, tid: bytes) -> str:
        return "/" if int.from_bytes(oid, "big") in self._cached else "/nonexistent"


def revision(number: int, state: BlobState | None) -> BlobRevision:
    record = BLANK if state is None else with_state(BLANK, state)
    return BlobRevision(number.to_bytes(8, "big"), tid(number), record)


def tid(number: int) -> bytes:
    return (1000 + number).to_bytes(8, "big")


def named(size: int) -> BlobState:
    return BlobState("a" * 32, size)


REVISIONS = [
    revision(1, named(50)),
    revision(3, named(150)),
    revision(2, None),  # migrated: its size is not known
    revision(4, named(10)),
    revision(5, named(50)),
    revision(6, BlobState(size=3, inline=b"abc")),
]


def numbers(planned: Plan) -> list[int]:
    return [int.from_bytes(found.oid, "big") for found in planned.wanted]


@pytest.mark.parametrize(
    "limits, wanted, expected",
    [
        (Limits(1000), [5, 4, 3, 2, 1], {"bytes": 260}),
        (Limits(210), [5, 4, 3, 2], {"bytes": 210, "no_room": 1}),
        (Limits(110), [5, 4, 2, 1], {"bytes": 110, "too_large": 1}),
        (Limits(60), [5, 4, 2], {"bytes": 60, "too_large": 1, "no_room": 1}),
        (Limits(1000, largest=50), [5, 4, 2, 1], {"bytes": 110, "too_large": 1}),
        (Limits(1000, since=tid(4)), [5, 4], {"bytes": 60, "too_old": 3}),
    ],
)
def test_the_newest_that_fit(limits, wanted, expected):
    planned = plan(REVISIONS, limits, Paths())
    assert numbers(planned) == wanted
    assert planned.inline == 1
    for name in ("bytes", "no_room", "too_large", "too_old"):
        assert getattr(planned, name) == expected.get(name, 0), name


def test_what_is_cached_counts_and_is_not_fetched():
    planned = plan(REVISIONS, Limits(210), Paths(5, 3))
    assert numbers(planned) == [4, 2] and planned.cached == 2 and planned.bytes == 10 and planned.no_room == 1


def test_a_damaged_record_is_counted():
    damaged = BlobRevision(bytes(8), tid(9), BLANK[:-3] + b"garbage")
    planned = plan([damaged, *REVISIONS], Limits(1000), Paths())
    assert planned.damaged == 1 and len(planned.wanted) == 5


def test_there_is_no_file_called_nonexistent():
    assert Path("/").exists() and not Path("/nonexistent").exists()
