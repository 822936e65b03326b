"""How files are cut, by tables and over all sizes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.s3blobstorage.objectstore.parts import (
    GB,
    MAX_OBJECT,
    MAX_PARTS,
    MB,
    SINGLE_PUT_LIMIT,
    Part,
    is_single,
    least_part_size,
    part_size,
    parts,
)


@pytest.mark.parametrize(
    "size, each, count",
    [
        (16 * MB + 1, 16 * MB, 2),
        (32 * MB, 16 * MB, 2),
        (300 * MB, 16 * MB, 19),
        (3200 * MB, 16 * MB, 200),
        (3200 * MB + 1, 17 * MB, 189),
        (5 * GB, 26 * MB, 197),
        (12 * GB, 62 * MB, 199),
        (100 * GB, 64 * MB, 1600),
        (625 * GB, 64 * MB, 10_000),
        (625 * GB + 1, 65 * MB, 9847),
        (1024 * GB, 105 * MB, 9987),
        (MAX_OBJECT, 525 * MB, 9987),
    ],
)
def test_table(size, each, count):
    assert part_size(size) == each
    assert -(-size // each) == count


@pytest.mark.parametrize(
    "size, each",
    [(16 * MB + 1, 16 * MB), (12 * GB, 16 * MB), (156 * GB, 16 * MB), (625 * GB, 64 * MB), (MAX_OBJECT, 525 * MB)],
)
def test_parts_that_are_held_in_memory_are_small(size, each):
    assert least_part_size(size) == each
    assert -(-size // each) <= MAX_PARTS
    assert least_part_size(size, most_parts=1000) == max(16 * MB, -(-size // 1000 // MB) * MB)


@pytest.mark.parametrize(
    "size, single", [(0, True), (1, True), (SINGLE_PUT_LIMIT, True), (SINGLE_PUT_LIMIT + 1, False)]
)
def test_one_put_up_to_the_limit(size, single):
    assert is_single(size) is single


def test_over_the_protocols_limit():
    with pytest.raises(ValueError, match="5 TiB"):
        part_size(MAX_OBJECT + 1)
    with pytest.raises(ValueError, match="5 TiB"):
        least_part_size(MAX_OBJECT + 1)


def test_parts_of_a_small_example():
    assert list(parts(10, 4)) == [Part(1, 0, 4), Part(2, 4, 4), Part(3, 8, 2)]
    assert list(parts(8, 4)) == [Part(1, 0, 4), Part(2, 4, 4)]


@given(st.integers(SINGLE_PUT_LIMIT + 1, MAX_OBJECT))
def test_every_size_keeps_the_limits(size):
    each = part_size(size)
    assert each % MB == 0 and 5 * MB <= each <= 5 * GB
    assert 2 <= -(-size // each) <= MAX_PARTS


@given(st.integers(1, 3000), st.integers(1, 400))
def test_parts_cover_the_file_once(size, each):
    cut = list(parts(size, each))
    assert [part.number for part in cut] == list(range(1, len(cut) + 1))
    position = 0
    for part in cut:
        assert part.start == position and 0 < part.size <= each
        position += part.size
    assert position == size
    assert all(part.size == each for part in cut[:-1])
