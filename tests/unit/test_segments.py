"""The bytes of a sealed object: any range by itself, and nothing but what was sealed."""

from __future__ import annotations

import os

import pytest

from collective.s3blobstorage.encryption.envelope import DataKey
from collective.s3blobstorage.encryption.segments import (
    HEADER,
    SEGMENT,
    Opener,
    count,
    header,
    plain_size,
    sealed_size,
    span,
)
from collective.s3blobstorage.errors import Corrupt

SIZES = (0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 3 * SEGMENT, 3 * SEGMENT + 17)


def sealed(key: DataKey, data: bytes) -> bytes:
    last = count(len(data)) - 1
    parts = (data[number * SEGMENT : (number + 1) * SEGMENT] for number in range(last + 1))
    return header(key.commitment) + b"".join(key.cipher.encrypt(i, i == last, part) for i, part in enumerate(parts))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("block", (1000, SEGMENT + 16, 1 << 20))
def test_there_and_back(size, block):
    key, data = DataKey.draw(), os.urandom(size)
    whole = sealed(key, data)
    assert len(whole) == sealed_size(size) and plain_size(len(whole)) == size
    opener = Opener(key.cipher, key.commitment, size)
    assert b"".join(opener.feed(whole[at : at + block]) for at in range(0, len(whole), block)) == data
    opener.finish()


@pytest.mark.parametrize(
    "start, length", [(0, 1), (SEGMENT - 1, 2), (SEGMENT, SEGMENT), (5, 3 * SEGMENT), (3 * SEGMENT, 99)]
)
def test_range(start, length):
    key, data = DataKey.draw(), os.urandom(3 * SEGMENT + 17)
    whole, where = sealed(key, data), span(start, length)
    opener = Opener(key.cipher, key.commitment, len(data), where.first, with_header=False)
    plain = opener.feed(whole[where.start : where.start + where.stored])
    opener.finish()
    assert plain[where.skip : where.skip + length] == data[start : start + length]


@pytest.mark.parametrize("stored", (0, HEADER, HEADER + 15, sealed_size(SEGMENT) + 1, sealed_size(SEGMENT) + 16))
def test_a_size_that_nothing_has(stored):
    with pytest.raises(Corrupt):
        plain_size(stored)
