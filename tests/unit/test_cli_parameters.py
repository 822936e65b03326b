"""Values on the command line: oids, ranges of them, dates."""

from __future__ import annotations

import pytest
from persistent.TimeStamp import TimeStamp

from collective.s3blobstorage.cli.parameters import oid_range, since
from collective.s3blobstorage.errors import ConfigurationError


def eight(number: int) -> bytes:
    return number.to_bytes(8, "big")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("0-1f", (0, 0x1F)),
        ("0x10 - 0x1F", (0x10, 0x1F)),
        ("20-", (0x20, 2**64 - 1)),
        ("-20", (0, 0x20)),
        ("7-7", (7, 7)),
    ],
)
def test_ranges_of_oids(text, expected):
    assert oid_range(text) == tuple(map(eight, expected))


@pytest.mark.parametrize("text", ["", "-", "1", "g-h", "2-1", "1-2-3", "0-11111111111111111"])
def test_what_is_no_range(text):
    with pytest.raises(ConfigurationError):
        oid_range(text)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("2026-11-01", TimeStamp(2026, 11, 1)),
        ("2026-11-01T18:30", TimeStamp(2026, 11, 1, 18, 30)),
        ("2026-11-01 18:30:05", TimeStamp(2026, 11, 1, 18, 30, 5)),
        ("2026-11-01T18:30+02:00", TimeStamp(2026, 11, 1, 16, 30)),
    ],
)
def test_dates(text, expected):
    assert since(text) == expected.raw()


def test_tids():
    assert since("0x03f0000000000001") == since("03F0000000000001") == bytes.fromhex("03f0000000000001")


@pytest.mark.parametrize("text", ["", "yesterday", "0x03f0", "2026-13-01", "1.11.2026"])
def test_what_is_neither(text):
    with pytest.raises(ConfigurationError, match="neither a date"):
        since(text)
