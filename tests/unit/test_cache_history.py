"""Samples of what a machine's processes counted: one for each five minutes, whoever comes first, whatever the clock."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.s3blobstorage.cache import BlobCache, history
from collective.s3blobstorage.cache.counters import Counters, add_to_total
from collective.s3blobstorage.cache.history import KEPT, NAMES, SLOT, History, Sample, read, told
from collective.s3blobstorage.cache.layout import Layout
from collective.s3blobstorage.cache.locks import FileLock
from collective.s3blobstorage.cache.processes import ProcessFolder

NOON = 1_800_000_000.0  # a slot begins here
MINUTE = 60.0


class Process:
    """One of several that share a cache folder; its clock is the machine's."""

    def __init__(self, layout, machine):
        self.folder = ProcessFolder.make(layout.processes)
        self.counters = Counters()
        self.counters.keep_in(self.folder.path)
        self.history = History(layout, lambda: self.counters, lambda: machine.now)

    def count(self, **values):
        for name, value in values.items():
            self.counters.add(name, value)
        self.counters.save()

    def tick(self):
        self.counters.save()
        self.history.tick()


class Machine:
    now = NOON


@pytest.fixture
def layout(tmp_path):
    layout = Layout(tmp_path, "store")
    layout.prepare()
    return layout


@pytest.fixture
def machine():
    return Machine()


def sums(*hits):
    return [(each, 0, 0, 0) for each in hits]


def at(minutes, hits, misses=0):
    return Sample(NOON + minutes * MINUTE, (hits, misses, 0, 0))


def counted(hits, misses=0):
    return {"hits": hits, "misses": misses, "downloads": 0, "bytes": 0}


def test_the_first_one_in_a_slot_writes(layout, machine):
    one, two = Process(layout, machine), Process(layout, machine)
    one.count(hits=1)
    two.count(hits=10)
    for seconds in range(0, 900, 5):
        machine.now = NOON + seconds
        two.tick()
        one.tick()
        one.count(hits=1)
    samples = read(layout)
    assert [sample.at - NOON for sample in samples] == [0, 300, 600]
    assert [sample.sums for sample in samples] == sums(11, 11 + 60, 11 + 120)


def test_a_process_that_ended_is_in_the_sums(layout, machine):
    one, two = Process(layout, machine), Process(layout, machine)
    one.count(hits=5)
    one.tick()
    one.counters.end()
    add_to_total(layout, one.folder.path)
    one.folder.remove()
    machine.now += SLOT
    two.count(hits=1)
    two.tick()
    assert [sample.sums for sample in read(layout)] == sums(5, 6)


def test_it_is_bounded(layout, machine):
    process = Process(layout, machine)
    for _ in range(int(KEPT / SLOT) + 40):
        process.count(hits=1)
        process.tick()
        machine.now += SLOT
    samples = read(layout)
    assert len(samples) <= KEPT / SLOT + 2
    assert samples[0].at >= machine.now - KEPT - 2 * SLOT
    assert (layout.folder / "history.json").stat().st_size < 32 * 1024


def test_a_look_at_an_old_slot_reads_nothing(layout, machine, monkeypatch):
    process = Process(layout, machine)
    process.tick()
    monkeypatch.setattr(history, "read", lambda store: pytest.fail("the file was read"))
    for _ in range(10):
        machine.now += 5
        process.tick()


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", '{"format": 1}', '{"format": 2, "names": [], "samples": []}',
        '{"format": 1, "names": ["hits", "misses", "downloads", "bytes"], "samples": [[1, 2]]}',
        '{"format": 1, "names": ["hits", "misses", "downloads", "bytes"], "samples": [["x", 1, 2, 3, 4]]}',
        '{"format": 1, "names": ["hits", "misses", "downloads", "bytes"], "samples": [[1e400, 1, 2, 3, 4]]}',
        '{"format": 1, "names": ["hits", "misses", "downloads", "bytes"], "samples": [[NaN, 1, 2, 3, 4]]}',
        '{"format": 1, "names": ["hits", "misses", "downloads", "bytes"], "samples": [[-9e11, 1, 2, 3, 4]]}',
        '{"format": 1, "names": ["hits", "misses", "downloads", "bytes"], "samples": [[1, 1, 2, 3, 1e400]]}',
    ],
)  # fmt: skip
def test_a_damaged_file_begins_anew(layout, machine, text):
    (layout.folder / "history.json").write_text(text)
    told(read(layout), counted(5), NOON - 60, NOON)
    process = Process(layout, machine)
    process.count(hits=3)
    process.tick()
    assert [sample.sums for sample in read(layout) if sample.at == NOON] == sums(3)


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_no_error(tmp_path_factory, data):
    layout = Layout(tmp_path_factory.getbasetemp() / "any", "store")
    layout.prepare()
    (layout.folder / "history.json").write_bytes(data)
    assert read(layout) == []


def test_a_disk_that_takes_nothing_is_no_error(layout, machine):
    process = Process(layout, machine)
    (layout.folder / "history.json").mkdir()  # also root cannot replace it
    process.tick()
    assert read(layout) == []
    (layout.folder / "history.json").rmdir()
    process.tick()
    assert len(read(layout)) == 1
    assert [path.name for path in process.folder.path.iterdir() if path.name.startswith("counters.json.")] == []


def test_nobody_waits_for_a_writer_that_hangs(layout, machine):
    lock = FileLock.take(layout.folder / "history.lock")
    process = Process(layout, machine)
    process.tick()
    assert read(layout) == []
    lock.release(remove=True)
    process.tick()
    assert len(read(layout)) == 1
    assert not Path(layout.folder / "history.lock").exists()


def test_a_clock_that_is_set_back(layout, machine):
    process = Process(layout, machine)
    for _ in range(3):
        process.count(hits=1)
        process.tick()
        machine.now += SLOT
    machine.now = NOON - 3600
    process.tick()
    assert [sample.at for sample in read(layout)] == [NOON - 3600]
    figures = told(read(layout), counted(4), NOON - 7200, machine.now + 60)
    assert figures["hour"]["hits"] == 4


def test_a_clock_that_jumps_ahead(layout, machine):
    process = Process(layout, machine)
    process.count(hits=1)
    process.tick()
    machine.now += 400 * 24 * 3600
    process.count(hits=1)
    process.tick()
    assert [sample.sums for sample in read(layout)] == sums(2)


def test_rates_of_the_last_hour_and_day():
    samples = [at(minutes, 10 * minutes, minutes) for minutes in range(0, 26 * 60, 5)]
    now = samples[-1].at + 120
    figures = told(samples, counted(16000, 1700), NOON - 1e7, now)
    first = [sample for sample in samples if sample.at <= now - 3600][-1]
    assert figures["hour"]["hits"] == 16000 - first.sums[0]
    assert figures["hour"]["misses"] == 1700 - first.sums[1]
    first = [sample for sample in samples if sample.at <= now - KEPT][-1]
    assert figures["day"]["hits"] == 16000 - first.sums[0]
    assert figures["day"]["rate"] == figures["day"]["hits"] / (figures["day"]["hits"] + figures["day"]["misses"])
    assert len(figures["history"]) <= KEPT / SLOT + 2
    assert set(figures["history"][0]) == {"at", *NAMES}
    assert sum(slot["hits"] for slot in figures["history"]) == figures["day"]["hits"]


def test_before_the_first_sample():
    assert told([], counted(7), NOON - 1e6, NOON) == {"hour": None, "day": None, "history": []}
    # A folder that was made a minute ago has counted all that it has within the hour.
    figures = told([], counted(7, 3), NOON - 60, NOON)
    assert figures["hour"] == figures["day"] == {"hits": 7, "misses": 3, "rate": 0.7}
    assert [slot["hits"] for slot in figures["history"]] == [7]


def test_nothing_read_has_no_rate():
    assert told([at(-5, 7)], counted(7), NOON - 1e6, NOON)["hour"] == {"hits": 0, "misses": 0, "rate": None}


def test_sums_that_fell_began_anew():
    figures = told([at(-60, 1000, 100), at(-30, 3, 1)], counted(5, 1), NOON - 1e6, NOON)
    assert figures["hour"] == {"hits": 5, "misses": 1, "rate": 5 / 6}


def test_all_sums_begin_anew_with_one_that_fell():
    """A folder that was deleted may have more misses by now than before: they are of the new one, like its hits."""
    figures = told([at(-60, 1000, 3)], counted(5, 4), NOON - 1e6, NOON)
    assert figures["hour"] == {"hits": 5, "misses": 4, "rate": 5 / 9}


@given(
    st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(0, 10**12), st.integers(0, 10**12)), max_size=20),
    st.integers(0, 10**12),
    st.floats(-1e6, 1e6),
)
def test_no_figure_is_ever_negative(points, hits, now):
    samples = sorted((Sample(NOON + at, (a, b, 0, 0)) for at, a, b in points), key=lambda sample: sample.at)
    figures = told(samples, counted(hits), NOON - 5e5, NOON + now)
    for span in ("hour", "day"):
        if figures[span] is not None:
            assert figures[span]["hits"] >= 0 and figures[span]["misses"] >= 0
            assert figures[span]["rate"] is None or 0 <= figures[span]["rate"] <= 1
    assert all(slot[name] >= 0 for slot in figures["history"] for name in NAMES)
    json.dumps(figures, allow_nan=False)


def test_a_cache_writes_it(tmp_path):
    cache = BlobCache(tmp_path, "store", size=1024 * 1024)
    until = time.monotonic() + 10
    while not read(cache.layout):
        assert time.monotonic() < until
        time.sleep(0.02)
    cache.close()
    assert len(read(cache.layout)) == 1
    assert sorted(os.listdir(cache.layout.folder)) == ["blobs", "cache.json", "history.json", "processes"]
