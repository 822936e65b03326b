"""``Range`` headers, and the conditions of a request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.s3blobstorage.delivery.conditions import Conditions, http_date, range_wanted, status
from collective.s3blobstorage.delivery.ranges import MOST, NotSatisfiable, ranges_of


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", [(0, 1)]),
        ("bytes=0-99", None),  # all of it
        ("bytes=0-", None),
        ("bytes=-100", None),
        ("bytes=-1000", None),
        ("bytes=10-19", [(10, 20)]),
        ("bytes=90-1000", [(90, 100)]),
        ("bytes=99-", [(99, 100)]),
        ("bytes=-1", [(99, 100)]),
        ("BYTES = 1-2 , 4-5", [(1, 3), (4, 6)]),
        ("bytes=1-2,,\t4-5,", [(1, 3), (4, 6)]),
        ("bytes=50-60,1-2", [(50, 61), (1, 3)]),  # in the order of the header
        ("bytes=50-60,1-2,55-70", [(1, 3), (50, 71)]),  # joined: in the file's
        ("bytes=1-2,3-4", [(1, 5)]),
        ("bytes=1-2,200-300", [(1, 3)]),
        ("bytes=0-49,50-99", None),
        # Not what we know: the whole.
        ("bytes", None),
        ("bytes=", None),
        ("bytes=,", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=5-4", None),
        ("bytes=1-2,5-4", None),
        ("bytes=+1-2", None),
        ("bytes=１-2", None),
        ("bytes=1 - 2", None),
        ("bytes=1-2-3", None),
        ("items=1-2", None),
        ("bytes=" + "9" * 5000 + "-", None),
        ("", None),
    ],
)
def test_ranges_of_a_hundred_bytes(header, expected):
    assert ranges_of(header, 100) == expected


@pytest.mark.parametrize(
    ("header", "size"),
    [("bytes=100-", 100), ("bytes=100-200,300-", 100), ("bytes=-0", 100), ("bytes=0-", 0), ("bytes=-0", 0)],
)
def test_not_satisfiable(header, size):
    with pytest.raises(NotSatisfiable):
        ranges_of(header, size)


def test_the_last_bytes_of_nothing_are_the_whole():
    assert ranges_of("bytes=-5", 0) is None


@pytest.mark.parametrize(("count", "expected"), [(MOST, MOST), (MOST + 1, None), (300, None), (100_000, None)])
def test_not_too_many(count, expected):
    header = "bytes=" + ",".join(f"{10 * number}-{10 * number}" for number in range(count))
    found = ranges_of(header, 10_000_000)
    assert (found and len(found)) == expected


def test_too_many_that_are_one_are_one():
    assert ranges_of("bytes=" + ",".join(["5-9"] * 200), 100) == [(5, 10)]


specs = st.one_of(
    st.tuples(st.integers(0, 120), st.integers(0, 120)).map(lambda pair: f"{pair[0]}-{pair[1]}"),
    st.integers(0, 120).map(lambda start: f"{start}-"),
    st.integers(0, 120).map(lambda length: f"-{length}"),
)


@given(st.lists(specs, min_size=1, max_size=20), st.integers(0, 110))
def test_ranges_have_just_the_bytes_that_were_asked_for(given_specs, size):
    """Compared with the sets of positions that the header means."""
    wanted: set[int] = set()
    for spec in given_specs:
        first, _, last = spec.partition("-")
        if first and last and int(last) < int(first):
            assert ranges_of("bytes=" + ",".join(given_specs), size) is None
            return
        start = int(first) if first else max(0, size - int(last))
        wanted |= set(range(size)) & set(range(start, int(last) + 1 if first and last else size))
    try:
        found = ranges_of("bytes=" + ",".join(given_specs), size)
    except NotSatisfiable:
        assert not wanted
        return
    if found is None:
        return  # the whole: always allowed
    assert len(found) <= MOST
    assert all(0 <= start < end <= size for start, end in found)
    positions = [position for start, end in found for position in range(start, end)]
    assert len(positions) == len(set(positions))
    assert set(positions) == wanted


TAG, CHANGED = '"abc"', 1_700_000_000.7
DATE = http_date(CHANGED)
BEFORE, AFTER = http_date(CHANGED - 1), http_date(CHANGED + 1)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 200),
        ({"if_none_match": TAG}, 304),
        ({"if_none_match": "W/" + TAG}, 304),
        ({"if_none_match": f'"x", {TAG}'}, 304),
        ({"if_none_match": f'W/"x,y" ,{TAG}'}, 304),
        ({"if_none_match": "*"}, 304),
        ({"if_none_match": '"x"'}, 200),
        ({"if_none_match": "abc"}, 200),
        ({"if_none_match": '"abc'}, 200),
        ({"if_none_match": ""}, 200),
        ({"if_none_match": '"x"', "if_modified_since": AFTER}, 200),  # the ETag is asked first
        ({"if_modified_since": DATE}, 304),
        ({"if_modified_since": AFTER}, 304),
        ({"if_modified_since": BEFORE}, 200),
        ({"if_modified_since": "yesterday"}, 200),
        ({"if_modified_since": "Mon, 99 Foo 2020 99:99:99 GMT"}, 200),
        ({"if_match": TAG}, 200),
        ({"if_match": "*"}, 200),
        ({"if_match": "W/" + TAG}, 412),
        ({"if_match": '"x"'}, 412),
        ({"if_match": '"x"', "if_none_match": TAG}, 412),
        ({"if_unmodified_since": DATE}, 200),
        ({"if_unmodified_since": BEFORE}, 412),
        ({"if_unmodified_since": "yesterday"}, 200),
        ({"if_match": TAG, "if_unmodified_since": BEFORE}, 200),
    ],
)
def test_conditions(headers, expected):
    assert status(Conditions(**headers), TAG, CHANGED) == expected


@pytest.mark.parametrize(
    ("if_range", "later", "holds"),
    [
        (None, 0, True),
        (TAG, 0, True),
        ("W/" + TAG, 0, False),
        ('"x"', 0, False),
        (DATE, 61, True),
        (DATE, 59, False),  # there may have been another change in that second
        (BEFORE, 61, False),
        (AFTER, 61, False),
        ("yesterday", 61, False),
        ("", 61, False),
    ],
)
def test_if_range(if_range, later, holds):
    conditions = Conditions(range="bytes=1-2", if_range=if_range)
    assert range_wanted(conditions, TAG, CHANGED, CHANGED + later) == ("bytes=1-2" if holds else None)


def test_no_range_no_if_range():
    assert range_wanted(Conditions(if_range=TAG), TAG, CHANGED, CHANGED) is None


@given(st.text() | st.from_regex(r'(W/)?"[a-z]*"(, *(W/)?"[a-z]*")*', fullmatch=True))
def test_no_header_is_too_strange(text):
    assert status(Conditions(if_none_match=text, if_match=None), TAG, CHANGED) in (200, 304)
    assert status(Conditions(if_match=text), TAG, CHANGED) in (200, 412)
    assert status(Conditions(if_modified_since=text), TAG, CHANGED) in (200, 304)
    range_wanted(Conditions(range="bytes=1-2", if_range=text), TAG, CHANGED, CHANGED)
