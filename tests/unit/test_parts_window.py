"""Which parts are fetched before a reader asks for them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.s3blobstorage.cache.prefetch import Window, split

PART = 4 * 1024 * 1024  # the default: a request brings at most 8 of them, and 16 are asked for beyond a read


def asked(window, start, end):
    """The first and the last part of each run that a read asks for, in order."""
    window.read(start, end)
    runs = [run for part in range(start // PART, (end - 1) // PART + 1) for run in window.ahead(part)]
    return [(run[0], run[-1]) for run in runs]


@pytest.mark.parametrize(
    "reads",
    [
        [(0, 10)],
        [(0, 10), (10, PART - 10), (PART - 10, PART)],  # to the end of the part, not beyond
        [(50 * PART - 10, 50 * PART)],
        [(49 * PART, 50 * PART), (0, 10), (10 * PART, 10 * PART + 10)],  # the directory of a zip file, then two members
        [(0, PART), (2 * PART, 3 * PART), (4 * PART, 5 * PART)],  # forwards with gaps
        [(9 * PART, 10 * PART), (8 * PART, 9 * PART), (7 * PART, 8 * PART)],  # backwards
    ],
)
def test_reads_that_ask_for_nothing_ahead(reads):
    window = Window(50 * PART, PART)
    assert [asked(window, *read) for read in reads] == [[]] * len(reads)


def test_going_on_doubles_the_runs_up_to_the_bound():
    window = Window(100 * PART, PART)
    runs = [(part, run) for part in range(100) for run in asked(window, part * PART, (part + 1) * PART)]
    assert runs == [
        (1, (1, 2)), (2, (3, 6)), (3, (7, 14)), (6, (15, 22)), (14, (23, 30)), (22, (31, 38)), (30, (39, 46)),
        (38, (47, 54)), (46, (55, 62)), (54, (63, 70)), (62, (71, 78)), (70, (79, 86)), (78, (87, 94)), (83, (95, 99)),
    ]  # fmt: skip


def test_small_reads_open_the_window_at_the_border_only():
    window = Window(50 * PART, PART)
    assert [asked(window, at, at + PART // 10) for at in range(0, PART, PART // 10)][:10] == [[]] * 10
    window = Window(50 * PART, PART)
    assert asked(window, 0, PART) == []
    assert asked(window, PART, PART + 10) == [(1, 2)]
    assert asked(window, PART + 10, PART + 20) == []


def test_a_seek_elsewhere_closes_the_window():
    window = Window(50 * PART, PART)
    for part in range(5):
        asked(window, part * PART, (part + 1) * PART)
    assert window.read(20 * PART, 20 * PART + 10) is False
    assert window.ahead(20) == []
    assert window.read(20 * PART + 10, 20 * PART + 20) is True


@pytest.mark.parametrize(
    "first, last, runs",
    [
        (1, 2, [(1, 1), (2, 2)]),
        (1, 4, [(1, 1), (2, 2), (3, 3), (4, 4)]),
        (1, 9, [(1, 2), (3, 4), (5, 6), (7, 8), (9, 9)]),
        (1, 40, [(1, 8), (9, 16), (17, 24), (25, 32), (33, 40)]),
    ],
)
def test_one_read_of_several_parts_asks_for_them_and_nothing_beyond(first, last, runs):
    window = Window(50 * PART, PART)
    assert asked(window, first * PART + 50, (last + 1) * PART - 50) == runs


def test_one_large_read_asks_for_its_own_parts_few_at_a_time():
    window = Window(100 * PART, PART)
    window.read(0, 100 * PART)
    assert window.ahead(0) == [range(0, 8), range(8, 16)]
    assert window.ahead(1) == []
    assert window.ahead(7) == [range(16, 24)]


def test_large_reads_one_after_the_other_open_the_window_too():
    window = Window(100 * PART, PART)
    assert asked(window, 0, 2 * PART) == [(0, 0), (1, 1)]
    assert asked(window, 2 * PART, 4 * PART) == [(2, 3), (4, 5)]
    assert asked(window, 4 * PART, 6 * PART) == [(6, 9)]
    assert asked(window, 6 * PART, 8 * PART) == [(10, 17)]


@pytest.mark.parametrize("part_size, longest, ahead", [(64 * 1024, 512, 1024), (48 << 20, 1, 2), (1 << 30, 1, 2)])
def test_the_bounds_are_of_bytes_whatever_the_part_size(part_size, longest, ahead):
    window = Window(5000 * part_size, part_size)
    window.read(0, 5000 * part_size)
    runs = window.ahead(0)
    assert len(runs[0]) == longest and runs[-1][-1] < ahead + 1


@pytest.mark.parametrize(
    "missing, runs",
    [
        ([], []),
        ([0, 1, 2], [(0, 0), (1, 1), (2, 2)]),
        (range(1, 9), [(1, 2), (3, 4), (5, 6), (7, 8)]),
        (range(64), [(at, at + 7) for at in range(0, 64, 8)]),
        (range(1, 66), [(at, at + 7) for at in range(1, 65, 8)] + [(65, 65)]),
        ([*range(8), *range(10, 14), 20], [(0, 2), (3, 5), (6, 7), (10, 12), (13, 13), (20, 20)]),
    ],
)
def test_a_whole_file_is_split(missing, runs):
    assert [(run[0], run[-1]) for run in split(missing, PART)] == runs


def test_who_read_all_is_known():
    window = Window(3 * PART, PART)
    window.read(0, PART + 10)
    assert not window.read_all
    window.read(PART + 10, 3 * PART)
    assert window.read_all
    window.read(2 * PART, 3 * PART)
    assert not window.read_all
    window.read(0, 3 * PART)
    assert window.read_all


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 99 * 8), st.integers(1, 300)), max_size=60))
def test_never_more_than_the_bound_beyond_a_read_and_each_part_once(reads):
    """In eighths of a part."""
    window = Window(100 * PART, PART)
    end = 0
    before = set()
    for goes_on, start, length in reads:
        start = end % (100 * 8) if goes_on else start
        if start != end:
            before.clear()
        end = min(100 * 8, start + length)
        window.read(start * PART // 8, end * PART // 8)
        for part in range(start // 8, (end - 1) // 8 + 1):
            for run in window.ahead(part):
                assert part <= run[0] and run[-1] <= min(part + 16, 99) and len(run) <= 8
                assert not before & set(run)
                before |= set(run)
