"""Which blobs were read: what a process keeps in memory, what it writes, and what is made of all notes."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ZODB.utils import p64

from collective.s3blobstorage.errors import RecordError, Unavailable, UnsafeError
from collective.s3blobstorage.keys import is_bookkeeping, read_note_key, reads_key
from collective.s3blobstorage.maintenance.read_since import Read, refuse_gaps
from collective.s3blobstorage.storage import read_notes
from collective.s3blobstorage.storage.read_notes import MOST, Oids, ReadNotes

OIDS = st.sets(st.integers(0, 2**64 - 1), max_size=200)
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


@given(members=OIDS)
def test_what_is_written_is_read(members):
    found = Oids.from_bytes(Oids(0, members).to_bytes())
    assert (found.shift, found.members) == (0, members)


@given(one=OIDS, other=OIDS)
def test_together_they_have_what_each_has(one, other):
    both = Oids(0, one)
    both.update(Oids(8, {member >> 8 for member in other}))
    assert all(member in both for member in one | other)


def test_it_never_has_more_than_so_many_and_forgets_nothing():
    oids = Oids()
    read = [number * 3 for number in range(2 * MOST)]
    for number in read:
        oids.add(number)
    assert len(oids) <= MOST and oids.shift == 4
    assert all(number in oids for number in read)
    data = oids.to_bytes()
    assert len(data) < 300_000
    assert Oids.from_bytes(data).members == oids.members


@pytest.mark.parametrize("where", ["head", "body", "tail"])
def test_a_damaged_one_is_told(where):
    data = bytearray(Oids(0, range(1000)).to_bytes())
    place = {"head": 3, "body": len(data) // 2, "tail": len(data) - 1}[where]
    data[place] ^= 0xFF
    with pytest.raises(RecordError, match="reads/"):
        Oids.from_bytes(bytes(data))


def test_a_newer_format_is_told():
    with pytest.raises(RecordError, match="newer release"):
        Oids.from_bytes(b'{"format": 2, "shift": 0, "count": 0}\n')


class Bucket:
    """What was put, by key; it can be out."""

    def __init__(self):
        self.objects, self.out = {}, False

    def put_bytes(self, key, data):
        if self.out:
            raise Unavailable("out")
        self.objects[key] = data

    def list(self, prefix):
        return [type("Line", (), {"key": key}) for key in sorted(self.objects)]

    def delete(self, keys):
        for key in keys:
            del self.objects[key]

    def read(self, day):
        return Oids.from_bytes(self.objects[reads_key(day, "1" * 32)]).members


@pytest.fixture
def notes():
    made = ReadNotes(Bucket(), "1" * 32, lambda: made.at)
    made.at = NOW
    made.bucket = made._store
    return made


def test_a_day_gathers_what_was_read(notes):
    notes.write()  # a day without reads has a note too
    assert notes.bucket.read("20261127") == set()
    for number in (1, 2):
        notes.note(p64(number))
        notes.write()
    assert notes.bucket.read("20261127") == {1, 2}


def test_a_new_day_begins_anew_and_takes_what_was_not_written(notes):
    notes.note(p64(1))
    notes.write()
    notes.note(p64(2))  # on the 27th, and written on the 28th: never before it was read
    notes.at += timedelta(days=1)
    notes.write()
    assert (notes.bucket.read("20261127"), notes.bucket.read("20261128")) == ({1}, {2})


@pytest.mark.parametrize("days", [0, 1])
def test_an_outage_loses_nothing(notes, days):
    notes.note(p64(1))
    notes.write()
    notes.bucket.out = True
    notes.note(p64(2))
    notes.at += timedelta(days=days)
    notes.write()
    notes.note(p64(3))
    notes.write()
    notes.bucket.out = False
    notes.write()
    day = f"{notes.at:%Y%m%d}"
    assert notes.bucket.read(day) == ({1, 2, 3} if days == 0 else {2, 3})


def test_what_is_too_old_goes(notes):
    old, kept = (f"{NOW - timedelta(days=days):%Y%m%d}" for days in (read_notes.KEPT + 1, read_notes.KEPT))
    for day in (old, kept):
        notes.bucket.objects[reads_key(day, "2" * 32)] = b""
    notes.bucket.objects["reads/unknown"] = b""
    notes.write()
    assert sorted(notes.bucket.objects) == [reads_key(kept, "2" * 32), reads_key("20261127", "1" * 32), "reads/unknown"]


def test_threads_that_read_lose_nothing(notes):
    def read(start):
        for number in range(start, start + 5000):
            notes.note(p64(number))

    threads = [threading.Thread(target=read, args=(start,)) for start in range(0, 20_000, 5000)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        notes.write()
    notes.write()
    assert notes.bucket.read("20261127") == set(range(20_000))


def test_closing_writes_what_was_noted(notes):
    notes.start()
    notes.note(p64(7))
    notes.finish()
    assert notes.bucket.read("20261127") == {7}


def test_keys():
    key = reads_key("20261127", "1" * 32)
    assert read_note_key(key) == ("20261127", "1" * 32) and is_bookkeeping(key)
    assert read_note_key("reads/20261127/x") is None


@given(days=st.lists(OIDS, max_size=5), asked=OIDS)
def test_all_that_was_read_is_in_it_and_nothing_else(days, asked):
    read = Read()
    for members in days:
        read.add(Oids(0, members))
    read.end()
    everything = set().union(*days)
    assert all(member in read for member in everything)
    assert {member for member in asked if member in read} == asked & everything


def test_pieces_are_put_together(monkeypatch):
    monkeypatch.setattr("collective.s3blobstorage.maintenance.read_since._PIECE", 10)
    read = Read()
    for start in range(0, 100, 5):
        read.add(Oids(0, range(start, start + 7)))
    read.add(Oids(8, {3}))
    read.end()
    assert [number for number in range(110) if number in read] == list(range(102))
    assert 3 * 256 in read and 4 * 256 not in read
    assert len(read._oids) == 102


def test_a_day_that_lacks_is_named():
    days = {f"{NOW - timedelta(days=back):%Y%m%d}": {"1"} for back in range(1, 11)}
    refuse_gaps(days, 10, NOW)  # today's may come within the hour
    with pytest.raises(UnsafeError, match="on 2026-11-16"):
        refuse_gaps(days, 11, NOW)
    del days["20261120"]
    with pytest.raises(UnsafeError, match="on 2026-11-20.*note-reads on in every process"):
        refuse_gaps(days, 10, NOW)
