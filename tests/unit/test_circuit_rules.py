"""The circuit and what the retries make of it, with a clock that is set by hand."""

from __future__ import annotations

import pytest

from collective.s3blobstorage.errors import Corrupt, ObjectMissing, Refused, Unavailable
from collective.s3blobstorage.objectstore.circuit import PROBE_EVERY, PROBE_LOST, Circuit
from collective.s3blobstorage.objectstore.clock import Clock
from collective.s3blobstorage.objectstore.patience import UPLOADING, Attempts, Patience
from collective.s3blobstorage.objectstore.translate import BodyBroken, Failure

READING = Patience(attempts=2, seconds=36.0, rides_out=True)


class Store:
    """Out until ``back``; every request takes no time and is counted."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.back = 1e9
        self.requests = 0
        self.clock = Clock(monotonic=lambda: self.now, sleep=self.sleep)
        self.circuit = Circuit(35.0, self.clock)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def ask(self) -> str:
        self.requests += 1
        if self.now < self.back:
            raise BodyBroken("reset")
        return "answer"

    def read(self) -> str:
        return Attempts(READING, self.clock, what="GET", circuit=self.circuit).run(self.ask)

    def write(self) -> str:
        return Attempts(UPLOADING, self.clock, what="PUT", circuit=self.circuit).run(self.ask)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.mark.parametrize("verb", ["read", "write"])
@pytest.mark.parametrize("seconds", [0.5, 5.0, 30.0])
def test_an_outage_is_ridden_out(store, verb, seconds):
    store.back = store.now + seconds
    assert getattr(store, verb)() == "answer"
    assert store.circuit.since is None


def test_a_longer_one_ends_reads_and_opens_the_circuit(store):
    with pytest.raises(Unavailable):
        store.read()
    assert 1034.0 <= store.now <= 1036.0
    assert store.circuit.is_open


def test_whoever_comes_late_waits_only_for_the_rest(store):
    store.circuit.failed()
    store.now += 30.0
    store.circuit.failed()
    with pytest.raises(Unavailable):
        store.read()
    assert store.now <= 1036.0


def opened(store: Store) -> None:
    """The first read runs into the outage, the second one is the first probe, just now."""
    for _ in range(2):
        with pytest.raises(Unavailable):
            store.read()
    assert store.circuit.is_open
    store.requests = 0


def test_an_open_circuit_refuses_reads_at_once_and_without_a_request(store):
    opened(store)
    began = store.now
    for _ in range(100):
        with pytest.raises(Unavailable, match="asked again every second"):
            store.read()
    assert (store.now, store.requests) == (began, 0)


def test_one_probe_a_second(store):
    opened(store)
    for _ in range(5):
        store.now += PROBE_EVERY
        for _ in range(20):
            with pytest.raises(Unavailable):
                store.read()
    assert store.requests == 5


def test_one_probe_at_a_time(store):
    opened(store)
    store.now += PROBE_EVERY
    assert [store.circuit.admits() for _ in range(5)] == [True, False, False, False, False]
    store.now += PROBE_LOST - 0.1
    assert not store.circuit.admits()
    store.now += 0.2  # whoever had it is not coming back
    assert store.circuit.admits()


def test_it_closes_by_itself(store):
    opened(store)
    store.back = store.now
    store.now += PROBE_EVERY
    assert store.read() == "answer"
    assert not store.circuit.is_open
    assert [store.read() for _ in range(3)] == ["answer"] * 3
    assert store.requests == 4


def test_a_commit_waits_at_an_open_circuit_and_goes_on_when_it_closes(store):
    opened(store)
    store.back = store.now + 25.0
    assert store.write() == "answer"


def test_a_commit_gives_up_within_its_own_patience(store):
    opened(store)
    began = store.now
    with pytest.raises(Unavailable):
        store.write()
    assert 40.0 <= store.now - began <= UPLOADING.seconds + 1.0


@pytest.mark.parametrize("error", [Refused("403"), ObjectMissing("404"), Corrupt("bytes")])
def test_an_answer_is_no_outage_whatever_it_is(store, error):
    store.circuit.failed()
    store.now += 20.0
    attempts = Attempts(READING, store.clock, what="GET", circuit=store.circuit)
    with pytest.raises(type(error)):
        attempts.failed(Failure(error, status=400))
    assert store.circuit.since is None


def test_one_object_that_always_breaks_is_no_outage(store):
    """Others get answers meanwhile: then s3-download-max-attempts counts."""
    calls = 0

    def broken() -> str:
        nonlocal calls
        calls += 1
        store.circuit.answered()
        raise BodyBroken("this one")

    with pytest.raises(Unavailable):
        Attempts(READING, store.clock, what="GET", circuit=store.circuit).run(broken)
    assert calls == READING.attempts


def test_a_failure_long_ago_opens_nothing(store):
    store.circuit.failed()
    store.now += 3600.0
    store.circuit.failed()
    assert not store.circuit.is_open


def test_it_is_told_once(store, caplog):
    opened(store)
    store.now += PROBE_EVERY
    with pytest.raises(Unavailable):
        store.read()
    store.back = store.now
    store.now += PROBE_EVERY
    store.read()
    lines = [record.getMessage() for record in caplog.records if record.name.endswith("circuit")]
    assert lines == [
        "the object store has been unavailable for 35 s: reads fail at once until it answers",
        f"the object store answers again after {store.now - 1000.0:.0f} s",
    ]


def test_without_patience_there_is_no_circuit(store):
    circuit = Circuit(0.0, store.clock)
    for _ in range(10):
        circuit.failed()
        store.now += 10.0
    assert not circuit.is_open and circuit.admits() and circuit.since is None


@pytest.mark.parametrize("patience", [0.0, 35.0])
def test_what_the_last_request_found_is_known_with_and_without_a_circuit(store, patience):
    circuit = Circuit(patience, store.clock)
    assert circuit.reachable
    circuit.failed()
    assert not circuit.reachable
    circuit.answered()
    assert circuit.reachable
