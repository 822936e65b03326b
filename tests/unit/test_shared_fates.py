"""Shared objects: which of them somebody refers to, which get a mark, and which may go."""

from __future__ import annotations

import threading
import tracemalloc
from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.s3blobstorage.keys import (
    condemned_key,
    object_key,
    read_object_key,
    reference_key,
    shared_name,
)
from collective.s3blobstorage.maintenance.findings import Stopped
from collective.s3blobstorage.maintenance.gc.candidate import DELETE, MARK, Candidate, name_of, shared_in
from collective.s3blobstorage.maintenance.gc.lines import Lines
from collective.s3blobstorage.maintenance.gc.margins import Margins
from collective.s3blobstorage.maintenance.gc.report import SharedTally, Tally
from collective.s3blobstorage.maintenance.gc.sharing import Fate, Sharing, fate, still_marked
from collective.s3blobstorage.maintenance.referring import InStep, References
from collective.s3blobstorage.objectstore.interfaces import Listed
from collective.s3blobstorage.status import figures

AT = 1_000_000
GRACE = 1000
MARGINS = Margins(grace=GRACE)


@pytest.mark.parametrize(
    "references, age, mark_age, expected",
    [
        (0, 0, None, Fate.YOUNG),
        (0, GRACE - 1, None, Fate.YOUNG),
        (0, GRACE, None, Fate.MARK),
        (0, 5 * GRACE, 0, Fate.WAIT),
        (0, 5 * GRACE, GRACE - 1, Fate.WAIT),
        (0, 5 * GRACE, GRACE, Fate.DELETE),
        # Brought back by a request that was late: its mark alone decides.
        (0, 0, 5 * GRACE, Fate.DELETE),
        # Whoever was there before the mark keeps it.
        (1, 5 * GRACE, 5 * GRACE, Fate.USED),
        (1, 5 * GRACE, None, Fate.USED),
        (9, 0, 0, Fate.USED),
    ],
)
def test_what_becomes_of_one(references, age, mark_age, expected):
    mark = None if mark_age is None else AT - mark_age
    assert fate(references, AT - age, mark, AT, GRACE) is expected


names = st.builds(
    lambda digest, g: shared_name(bytes([digest]) * 32, g), st.integers(0, 20), st.sampled_from([0, 1, 2, 9, 10, 11])
)
ages = st.sampled_from([0, GRACE - 1, GRACE, 3 * GRACE])


class Marked:
    """A store that lists marks."""

    def __init__(self, ages, more=()):
        self.lines = sorted(
            [*((condemned_key(name), AT - age) for name, age in ages.items()), *((key, AT) for key in more)]
        )

    def list(self, prefix="", *, start_after=""):
        for key, at in self.lines:
            if key.startswith(prefix) and key > start_after:
                yield Listed(key, 0, "e" * 32, datetime.fromtimestamp(at, UTC))


def judged(objects, marks, references, stop=None, **more):
    """``objects`` and ``marks``: ages by name. What was counted, and what became of which key."""
    tally = Tally()
    with Sharing() as sharing, Lines() as lines:
        sharing.list_marks(Marked(marks, **more), threading.Event(), lambda count: None)
        for name in references:
            sharing.refer(name)
        rows = sorted((object_key(name), len(name), "e" * 32, AT - age) for name, age in objects.items())
        sharing.judge(rows, tally, lines, stop or threading.Event(), AT, MARGINS)
        return tally, [Candidate.from_line(line) for line in lines]


@given(st.dictionaries(names, ages), st.dictionaries(names, ages), st.lists(names))
def test_a_merge_of_three_listings_has_what_a_look_at_each_has(objects, marks, references):
    tally, candidates = judged(objects, marks, references, more=["condemned/x", "condemned/" + "0" * 64 + ".01"])
    referred = Counter(references)
    expected = {
        name: fate(referred[name], AT - age, AT - marks[name] if name in marks else None, AT, GRACE)
        for name, age in objects.items()
    }
    assert [each.key for each in candidates] == sorted(
        object_key(name) for name, found in expected.items() if found in (Fate.MARK, Fate.DELETE)
    )
    for each in candidates:
        name = read_object_key(each.key)
        assert each.shared == {Fate.MARK: MARK, Fate.DELETE: DELETE}[expected[name]]
        assert each.since == (AT if each.shared == MARK else AT - marks[name])
        assert Candidate.from_line(each.to_line()) == each and not each.is_dated
    shared = tally.shared
    found = {
        Fate.USED: shared.used, Fate.YOUNG: shared.young, Fate.MARK: shared.marking, Fate.WAIT: shared.waiting,
        Fate.DELETE: shared.condemned,
    }  # fmt: skip
    assert {which: count.blobs for which, count in found.items()} == {
        which: sum(each is which for each in expected.values()) for which in Fate
    }
    assert (shared.references, shared.marks, shared.objects) == (len(references), len(marks), len(objects))
    assert shared.saved == sum(len(name) * max(referred[name] - 1, 0) for name in objects)
    waits = [AT - marks[name] + GRACE for name, found in expected.items() if found is Fate.WAIT]
    assert tally.next_due == min(waits, default=None)


def test_it_can_be_stopped():
    stop = threading.Event()
    stop.set()
    objects = {shared_name(number.to_bytes(32, "big"), 0): 0 for number in range(1000)}
    with pytest.raises(Stopped):
        judged(objects, {}, [], stop)


@given(st.dictionaries(names, ages, min_size=1), st.dictionaries(names, ages))
def test_only_what_has_the_mark_that_the_plan_saw_goes(seen, now):
    wanted = [
        Candidate(object_key(name), 1, "e" * 32, 0, AT - age, False, shared=DELETE)
        for name, age in sorted(seen.items(), key=lambda each: object_key(each[0]))
    ]
    going = still_marked(Marked(now), wanted, AT, MARGINS)
    assert [read_object_key(each.key) for each in going] == [
        read_object_key(each.key)
        for each in wanted
        if seen[read_object_key(each.key)] == now.get(read_object_key(each.key)) and AT - each.since >= GRACE
    ]


def test_without_shared_candidates_no_mark_is_asked_for():
    assert still_marked(None, [], AT, MARGINS) == []


# Shares


def test_their_share_is_one_of_its_own():
    tally = Tally()
    tally.used.blobs, tally.condemned.blobs = 90, 10
    assert (tally.share, tally.shared_shares) == (0.1, (0, 0))
    tally.shared = SharedTally(references=80)  # 20 objects of their own
    tally.shared.used.blobs, tally.shared.marking.blobs, tally.shared.condemned.blobs = 4, 3, 13
    assert tally.shared_shares == (13, 40) and tally.share == 13 / 40
    tally.shared.condemned.blobs = 0
    assert tally.shared_shares == (3, 27) and tally.share == 3 / 27


# Keys


@pytest.mark.parametrize("name", ["1" * 32, "2" * 16])
def test_a_reference_is_judged_by_its_revision(name):
    shared = shared_name(b"x" * 32, 12)
    key = reference_key(bytes(8), name, shared)
    assert (name_of(key), shared_in(key)) == (name, shared)
    own = key.removesuffix(f".{shared}")
    assert (name_of(own), shared_in(own)) == (name, "")
    assert shared_in("blobs/1f/3c4d.blob") == "" and name_of("blobs/1f/3c4d.blob") == "0000000000003c4d.blob"


# References


@given(st.lists(names))
def test_references_are_counted_in_order(listed):
    with References() as references:
        for name in listed:
            references.add(name)
        assert len(references) == len(listed)
        for _ in range(2):  # as often as wanted
            assert list(references.counts()) == sorted(Counter(listed).items())


@given(st.dictionaries(names, st.integers()), st.sets(names))
def test_in_step(pairs, asked):
    found = InStep(sorted(pairs.items()))
    assert {name: found.get(name) for name in sorted(asked)} == {name: pairs.get(name) for name in asked}


def test_memory_does_not_grow_with_the_references():
    def peak(count):
        tracemalloc.start()
        with References() as references:
            for number in range(count):
                references.add(f"{number * 7919 % count:064x}.0")
            assert sum(number for _, number in references.counts()) == count
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return taken

    peak(2000)
    assert peak(20_000) < 1.5 * peak(4000)


# Figures


class Bucket:
    def __init__(self, objects):
        self.objects = objects

    def list(self, prefix="", *, start_after="", page_size=1000):
        for key in sorted(self.objects):
            yield Listed(key, self.objects[key], "e" * 32, datetime.fromtimestamp(AT, UTC))

    def list_uploads(self):
        return iter(())


@given(st.lists(names), st.dictionaries(names, st.integers(1, 99)))
def test_a_count_tells_what_sharing_saves(references, objects):
    bucket = {object_key(name): size for name, size in objects.items()}
    bucket |= {reference_key(bytes(8), f"{number:032x}", name): 0 for number, name in enumerate(references)}
    bucket |= {condemned_key(name): 0 for name in references[:2]}
    counted = figures.count(Bucket(bucket))
    assert counted.objects.shared == figures.Count(len(objects), sum(objects.values()))
    assert counted.objects.references == figures.Count(len(references), 0)
    assert counted.objects.bookkeeping.objects == len(set(references[:2]))
    assert (counted.objects.other.objects, counted.objects.total.objects) == (0, len(bucket))
    number = Counter(references)
    assert counted.saved == sum(size * max(number[name] - 1, 0) for name, size in objects.items())
