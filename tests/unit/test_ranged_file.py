"""A file of an object: the same bytes as a file on the disk, whatever is read in whatever order, by few requests."""

from __future__ import annotations

import io
import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.s3blobstorage.objectstore.rangedfile import LARGEST, SMALLEST, ranged

MB = 1024 * 1024
DATA = random.Random(5).randbytes(3 * MB + 17)


class Bytes:
    """What ``get_range`` of a store gives; ``asked``: start and length of each request."""

    def __init__(self, data):
        self.data = data
        self.asked = []

    def get_range(self, key, start, length, write, *, size, if_match):
        assert (key, size, if_match) == ("uploads/x", len(self.data), "etag")
        assert length >= 1 and start + length <= size
        self.asked.append((start, length))
        for at in range(start, start + length, 100_000):
            write(self.data[at : min(at + 100_000, start + length)])


def opened(data):
    source = Bytes(data)
    return source, ranged(source, "uploads/x", len(data), "etag")


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(-1, 400_000)),
        st.tuples(st.just("seek"), st.integers(0, len(DATA) + 10)),
        st.tuples(st.just("back"), st.integers(0, 100_000)),
        st.tuples(st.just("end"), st.integers(0, 70_000)),
    ),
    max_size=12,
)


@given(STEPS, st.sampled_from([1, 4096, SMALLEST, SMALLEST + 1, len(DATA)]))
def test_as_a_file_on_the_disk(steps, size):
    data = DATA[:size]
    _, file = opened(data)
    model = io.BytesIO(data)
    for step, number in steps:
        if step == "read":
            assert file.read(number) == model.read(number)
        elif step == "seek":
            assert file.seek(number) == model.seek(number)
        elif step == "back":
            to = max(0, model.tell() - number)
            assert file.seek(to - model.tell(), os.SEEK_CUR) == model.seek(to)
        else:
            to = min(number, size)
            assert file.seek(-to, os.SEEK_END) == model.seek(-to, os.SEEK_END)
        assert file.tell() == model.tell()


def test_the_beginning_costs_one_small_request():
    source, file = opened(DATA)
    assert file.read(4096) == DATA[:4096]
    assert source.asked == [(0, SMALLEST)]


def test_reading_on_costs_few_requests_and_fetches_nothing_twice():
    data = DATA * 20
    source, file = opened(data)
    read = bytearray()
    while block := file.read(16 * 1024):
        read += block
    assert read == data
    assert sum(length for _, length in source.asked) == len(data)
    assert len(source.asked) <= 4 + len(data) / LARGEST + 1
    assert max(length for _, length in source.asked) == LARGEST


def test_all_of_it_is_one_request():
    source, file = opened(DATA)
    assert file.read() == DATA
    assert source.asked == [(0, len(DATA))]


def test_after_a_jump_requests_are_small_again():
    source, file = opened(DATA * 10)
    for _ in range(40):
        file.read(64 * 1024)
    file.seek(20 * MB)
    del source.asked[:]
    file.read(10)
    assert source.asked == [(20 * MB, SMALLEST)]


def test_it_is_no_file_of_this_machine():
    _, file = opened(DATA)
    with pytest.raises(OSError):
        file.fileno()
    assert not hasattr(file.raw, "name")
    with pytest.raises(ValueError):
        file.seek(-1)
    file.close()
    with pytest.raises(ValueError):
        file.read(1)
