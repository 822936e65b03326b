"""Outages between a store and its clients: ridden out, or ended quickly, with real requests over a real proxy."""

from __future__ import annotations

import dataclasses
import io
import random
import threading
import time

import pytest
from servers.faults import answer, reset

from collective.s3blobstorage.errors import Unavailable
from collective.s3blobstorage.objectstore import open_store

MB = 1024 * 1024


@pytest.fixture
def make(settings, proxy):
    opened = []

    def store(**changed):
        behind = dataclasses.replace(
            settings,
            endpoint_url=proxy.endpoint_url,
            download_connect_timeout=1.0,
            download_read_timeout=1.0,
            **changed,
        )
        opened.append(open_store(behind))
        opened[-1].put_bytes("warm", b"bytes")
        return opened[-1]

    yield store
    proxy.up()
    for one in opened:
        one.close()


def later(seconds: float, act) -> threading.Timer:
    timer = threading.Timer(seconds, act)
    timer.start()
    return timer


def test_a_read_rides_out_an_outage(make, proxy):
    store = make(outage_patience=20.0)
    proxy.down()
    timer = later(3.0, proxy.up)
    began = time.monotonic()
    assert store.get_bytes("warm") == b"bytes"
    assert time.monotonic() - began >= 2.9
    timer.join()


def test_a_read_that_breaks_in_the_middle_rides_it_out_and_starts_over_nowhere(make, proxy, tmp_path):
    store = make(outage_patience=20.0)
    data = random.Random(1).randbytes(4 * MB)
    (tmp_path / "file").write_bytes(data)
    store.put_file("large", tmp_path / "file", metadata={})
    proxy.reset()
    proxy.fail(reset("response", 2 * MB), method="GET")
    proxy.fail(answer(503, "SlowDown"), method="GET", times=4)
    target = io.BytesIO()
    store.get_file("large", target, size=len(data))
    assert target.getvalue() == data
    assert sum(exchange.bytes_down for exchange in proxy.exchanges if exchange.status != 503) < 5 * MB


def test_a_commit_rides_out_an_outage_that_opened_the_circuit(make, proxy):
    store = make(outage_patience=1.0)
    proxy.down()
    with pytest.raises(Unavailable):
        store.get_bytes("warm")
    timer = later(3.0, proxy.up)
    assert store.put_bytes("x", b"committed").size == 9
    timer.join()


def test_a_hundred_threads_do_not_each_wait(make, proxy):
    """All that wait end together; whoever comes later does not wait at all."""
    store = make(outage_patience=3.0)
    proxy.down()
    ends: list[float] = []
    began = time.monotonic()

    def read() -> None:
        with pytest.raises(Unavailable):
            store.get_bytes("warm")
        ends.append(time.monotonic() - began)

    threads = [threading.Thread(target=read) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(ends) == 100
    assert 2.5 < min(ends) and max(ends) < 8.0
    began = time.monotonic()
    for _ in range(200):
        with pytest.raises(Unavailable):
            store.get_bytes("warm")
    assert time.monotonic() - began < 2.0
    proxy.up()
    deadline = time.monotonic() + 10.0
    while True:  # within a second by the probe, on an idle machine
        try:
            assert store.get_bytes("warm") == b"bytes"
            break
        except Unavailable:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_refused_by_the_circuit_costs_no_request(make, proxy):
    store = make(outage_patience=1.0)
    proxy.fail(answer(503, "SlowDown"), times=1e9)
    with pytest.raises(Unavailable):
        store.get_bytes("warm")
    proxy.reset()
    began = time.monotonic()
    for _ in range(50):
        with pytest.raises(Unavailable):
            store.head("warm")
    assert len(proxy.exchanges) <= 1 + (time.monotonic() - began)


def test_403_and_404_never_open_it(make, proxy):
    store = make(outage_patience=0.5)
    proxy.fail(answer(403, "AccessDenied"), method="GET", times=1e9)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        with pytest.raises(Exception, match="refused"):
            store.get_bytes("warm")
        assert store.head("nothing") is None
    assert store.connection.circuit.since is None


def test_each_store_has_its_own(make, proxy):
    one, other = make(outage_patience=1.0), make(outage_patience=1.0)
    proxy.down()
    with pytest.raises(Unavailable):
        one.get_bytes("warm")
    assert one.connection.circuit.is_open and other.connection.circuit.since is None
