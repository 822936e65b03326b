"""Which parts are fetched before a reader asks for them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.s3blobstorage.cache.prefetch import MOST, Window

PART = 100


def asked(window, start, end):
    """The parts that are asked for ahead by a read, in order."""
    window.read(start, end)
    return [ahead for part in range(start // PART, (end - 1) // PART + 1) for ahead in window.ahead(part)]


@pytest.mark.parametrize(
    "reads",
    [
        [(0, 10)],
        [(0, 10), (10, 90), (90, 100)],  # to the end of the part, not beyond
        [(4950, 5000)],
        [(4900, 5000), (0, 10), (1000, 1010)],  # the directory of a zip file, then two members
        [(0, 100), (200, 300), (400, 500)],  # forwards with gaps
        [(900, 1000), (800, 900), (700, 800)],  # backwards
    ],
)
def test_reads_that_ask_for_nothing_ahead(reads):
    window = Window(50 * PART, PART)
    assert [asked(window, *read) for read in reads] == [[]] * len(reads)


def test_going_on_doubles_the_window_up_to_the_bound():
    window = Window(100 * PART, PART)
    widths = []
    seen = set()
    for part in range(60):
        ahead = asked(window, part * PART, (part + 1) * PART)
        assert not seen & set(ahead), "a part was asked for twice"
        seen.update(ahead)
        widths.append(max(seen, default=part) - part)
    assert widths[:5] == [0, 2, 4, 8, MOST]
    assert max(widths) == MOST


def test_small_reads_open_the_window_at_the_border_only():
    window = Window(50 * PART, PART)
    assert [asked(window, at, at + 10) for at in range(0, 100, 10)] == [[]] * 10
    assert asked(window, 100, 110) == [2, 3]
    assert asked(window, 110, 120) == []


def test_a_seek_elsewhere_closes_the_window():
    window = Window(50 * PART, PART)
    for part in range(5):
        asked(window, part * PART, (part + 1) * PART)
    assert window.read(2000, 2010) is False
    assert list(window.ahead(20)) == []
    assert window.read(2010, 2020) is True


def test_one_large_read_asks_for_its_own_parts_few_at_a_time():
    window = Window(50 * PART, PART)
    window.read(150, 4050)
    assert list(window.ahead(1)) == list(range(2, 2 + MOST))
    assert list(window.ahead(2)) == [2 + MOST]
    rest = [ahead for part in range(3, 41) for ahead in window.ahead(part)]
    assert rest == list(range(3 + MOST, 41))  # and nothing beyond it


def test_who_read_all_is_known():
    window = Window(3 * PART, PART)
    window.read(0, 150)
    assert not window.read_all
    window.read(150, 300)
    assert window.read_all
    window.read(200, 300)
    assert not window.read_all
    window.read(0, 300)
    assert window.read_all


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4999), st.integers(1, 700)), max_size=40))
def test_never_more_than_the_bound_beyond_a_read(reads):
    window = Window(50 * PART, PART)
    end = 0
    for goes_on, start, length in reads:
        start = end % 5000 if goes_on else start
        end = min(5000, start + length)
        window.read(start, end)
        for part in range(start // PART, (end - 1) // PART + 1):
            ahead = window.ahead(part)
            assert not len(ahead) or part < ahead[0] and ahead[-1] <= min(part + MOST, 49)
