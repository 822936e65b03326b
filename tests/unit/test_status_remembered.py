"""What is remembered of a slow place: how long who looks waits, what is told meanwhile, and how it ends."""

import os
import threading
import time

import pytest

from collective.s3blobstorage.errors import Unavailable
from collective.s3blobstorage.objectstore.clock import Clock
from collective.s3blobstorage.status.remembered import SILENT, Remembered


class Hands:
    """Of a monotonic clock that somebody sets."""

    now = 1000.0

    def clock(self):
        return Clock(monotonic=lambda: self.now)


class Place:
    """Gives 1, 2, 3, …; ``let`` is what a reading waits for. ``raises``: what it does instead."""

    def __init__(self):
        self.let = threading.Event()
        self.let.set()
        self.raises = None
        self.readings = 0

    def read(self, known):
        self.readings += 1
        number = self.readings
        assert self.let.wait(20)
        if self.raises is not None:
            raise self.raises
        return number


@pytest.fixture
def place():
    found = Place()
    yield found
    found.let.set()


def test_it_is_read_again_when_it_is_not_fresh_any_more(place):
    hands = Hands()
    remembered = Remembered(place.read, hands.clock(), fresh=15.0)
    assert remembered.look()[0] == 1
    hands.now += 14.0
    assert [remembered.look()[0] for _ in range(3)] == [1, 1, 1]
    hands.now += 1.0
    assert remembered.look()[0] == 2
    remembered.forget()
    assert remembered.look()[0] == 3
    assert place.readings == 3


def test_who_looks_waits_once_for_what_hangs_and_gets_what_is_known(place):
    hands = Hands()
    remembered = Remembered(place.read, hands.clock(), fresh=0.0)
    value, at = remembered.look()
    place.let.clear()
    began = time.monotonic()
    assert remembered.look(0.2) == (value, at)
    waited = time.monotonic() - began
    assert 0.2 <= waited
    began = time.monotonic()
    for _ in range(50):
        assert remembered.look(0.2) == (value, at)
    assert time.monotonic() - began < waited * 25  # not one of the fifty waited; each would have for 0.2 s
    assert place.readings == 2


def test_patience_that_is_used_up_waits_for_nothing(place):
    place.let.clear()
    remembered = Remembered(place.read, Clock())
    assert remembered.look(-0.5) == (None, None)


def test_silence_is_not_slowness(place):
    hands = Hands()
    remembered = Remembered(place.read, hands.clock())
    place.let.clear()
    remembered.look(0.01)
    for _ in range(10):
        hands.now += SILENT
        assert not remembered.silent
        remembered.heard()
    hands.now += SILENT + 0.1
    assert remembered.silent
    place.let.set()
    remembered.join()
    assert not remembered.silent and remembered.trouble is None


def test_what_fails_leaves_what_was_known_and_is_asked_again(place, caplog):
    hands = Hands()
    remembered = Remembered(place.read, hands.clock(), fresh=15.0)
    known = remembered.look()
    for raised in (Unavailable("away"), ZeroDivisionError()):
        place.raises = raised
        hands.now += 15.0
        assert remembered.look() == known
        remembered.join()
        assert remembered.trouble is raised
    # What is no error of the store's is a mistake of ours, which somebody has to see.
    assert [record.levelname for record in caplog.records if record.levelname == "ERROR"] == ["ERROR"]
    place.raises = None
    hands.now += 15.0
    remembered.look()
    remembered.join()  # after a failure nobody waits
    assert remembered.look()[0] == 4 and remembered.trouble is None


def test_nothing_is_read_once_it_ended(place, caplog):
    ended = threading.Event()
    remembered = Remembered(place.read, Clock(), fresh=0.0, ended=ended.is_set)
    place.let.clear()
    remembered.look(0.01)
    ended.set()
    place.raises = ValueError("what was read is closed")
    place.let.set()
    remembered.join()
    assert remembered.look() == (None, None) and place.readings == 1
    assert not caplog.records


def test_a_forked_child_reads_what_its_parent_was_reading(place):
    remembered = Remembered(place.read, Clock())
    place.let.clear()
    remembered.look(0.01)
    child = os.fork()
    if child == 0:
        place.let.set()
        remembered.look()  # begins; nobody waits, as before the fork
        remembered.join()
        os._exit(0 if remembered.look()[0] == 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
