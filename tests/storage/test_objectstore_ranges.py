"""Ranges of an object: against a real server, and what happens to them when the network breaks."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from servers.faults import answer, hang, reset, trickle, truncate

from collective.s3blobstorage.errors import Corrupt, ObjectMissing, PreconditionFailed, Refused, Unavailable
from collective.s3blobstorage.objectstore import S3ObjectStore, open_store
from collective.s3blobstorage.objectstore.clock import Clock

MB = 1024 * 1024
ALWAYS = math.inf
SIZE = 3 * MB


@pytest.fixture
def clock() -> Clock:
    """Pauses take no time."""
    return Clock(sleep=lambda seconds: None)


@pytest.fixture
def behind(settings, proxy):
    return dataclasses.replace(
        settings,
        endpoint_url=proxy.endpoint_url,
        prefix="p",
        download_connect_timeout=0.5,
        download_read_timeout=0.5,
        outage_patience=0.0,  # attempts are counted here
    )


@pytest.fixture
def store(behind, clock, proxy):
    opened = S3ObjectStore(behind, clock=clock)
    yield opened
    opened.close()


@pytest.fixture
def data(store, proxy, tmp_path) -> bytes:
    """What is stored as ``x``, with ``oid`` in its metadata."""
    made = random.Random(SIZE).randbytes(SIZE)
    (tmp_path / "x").write_bytes(made)
    store.put_file("x", tmp_path / "x", metadata={"oid": "1"})
    proxy.reset()
    return made


@pytest.fixture
def etag(store, data, proxy) -> str:
    found = store.head("x").etag
    proxy.reset()
    return found


def read(store, start: int, length: int, key: str = "x", **expected) -> bytes:
    arrived = bytearray()
    store.get_range(key, start, length, arrived.extend, **expected)
    return bytes(arrived)


# What comes


@pytest.mark.parametrize(
    "start, length",
    [(0, 1), (0, SIZE), (1, SIZE), (0, 10 * SIZE), (SIZE - 1, 1), (SIZE - 1, 2), (MB, MB), (MB + 1, 65536)],
)
def test_the_range_and_nothing_else(store, proxy, data, start, length):
    arrived = bytearray()
    info = store.get_range("x", start, length, arrived.extend)
    assert arrived == data[start : start + length]
    assert (info.key, info.size, info.etag) == ("x", SIZE, hashlib.md5(data).hexdigest())
    assert info.metadata == {"oid": "1", "size": str(SIZE), "sha256": hashlib.sha256(data).hexdigest()}
    assert [(seen.status, seen.bytes_down) for seen in proxy.exchanges] == [(206, len(arrived))]


@pytest.mark.parametrize("start", [SIZE, SIZE + 1, 10**12])
def test_behind_the_end_there_is_nothing(store, proxy, data, etag, start):
    arrived = bytearray()
    for expected in ({}, {"size": SIZE}, {"if_match": etag}):
        info = store.get_range("x", start, 100, arrived.extend, **expected)
        assert not arrived
        assert (info.size, info.etag, info.metadata["oid"]) == (SIZE, etag, "1")
    assert proxy.counts() == {"GetObject": 3, "HeadObject": 3}
    with pytest.raises(Corrupt):
        read(store, start, 100, size=SIZE + 5)
    with pytest.raises(PreconditionFailed):
        read(store, start, 100, if_match="0" * 32)


def test_of_an_empty_object(store):
    store.put_bytes("empty", b"", metadata={"oid": "2"})
    for start in (0, 1):
        arrived = bytearray()
        info = store.get_range("empty", start, 100, arrived.extend, size=0)
        assert not arrived and info.size == 0 and info.metadata["oid"] == "2"
    with pytest.raises(Corrupt):
        read(store, 0, 100, "empty", size=1)


@pytest.mark.parametrize("start, length", [(-1, 10), (0, 0), (5, -1)])
def test_what_is_no_range_is_no_request(store, proxy, data, start, length):
    with pytest.raises(ValueError):
        read(store, start, length)
    assert proxy.exchanges == []


def test_of_a_missing_object(store, proxy):
    with pytest.raises(ObjectMissing):
        read(store, 0, 10, "nothing")
    with pytest.raises(ObjectMissing):
        read(store, 0, 10, "nothing", if_match="0" * 32)
    assert proxy.counts() == {"GetObject": 2}


def test_of_an_object_that_has_the_etag(store, data, etag):
    assert read(store, 5, 10, if_match=etag) == data[5:15]


def test_of_an_object_that_has_another_etag(store, proxy, data, etag):
    for expected in ({"if_match": "0" * 32}, {"if_match": "0" * 32, "size": SIZE}):
        with pytest.raises(PreconditionFailed) as raised:
            read(store, 5, 10, **expected)
        assert raised.value.__cause__ is None
    assert [(seen.method, seen.status) for seen in proxy.exchanges] == [("GET", 412)] * 2


def test_of_an_object_of_another_size(store, proxy, data):
    for start in (0, 5):
        arrived = bytearray()
        with pytest.raises(Corrupt):
            store.get_range("x", start, MB, arrived.extend, size=SIZE - 1)
        assert not arrived
    assert proxy.counts() == {"GetObject": 2}


def test_what_the_receiver_raises_goes_through(store, proxy, data):
    class Full(OSError):
        pass

    def write(block) -> None:
        raise Full(28, "No space left on device")

    with pytest.raises(Full):
        store.get_range("x", 0, MB, write)
    assert proxy.counts() == {"GetObject": 1}
    assert read(store, 0, MB) == data[:MB]


def test_by_parts_from_many_threads(store, proxy, data, etag):
    """As the cache does it; no part is asked for twice."""
    arrived = bytearray(SIZE)

    def part(start: int) -> None:
        place = start

        def write(block) -> None:
            nonlocal place
            arrived[place : place + len(block)] = block
            place += len(block)

        store.get_range("x", start, 100_000, write, size=SIZE, if_match=etag)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(part, range(0, SIZE, 100_000)))
    assert arrived == data
    assert proxy.counts() == {"GetObject": -(-SIZE // 100_000)}
    assert sum(seen.bytes_down for seen in proxy.exchanges) == SIZE


def test_connections_are_used_again(store, proxy, data):
    read(store, 0, 1000)
    proxy.round_trip(100)
    started = time.monotonic()
    for start in (0, 1000, 2000):
        read(store, start, 300_000)
    assert time.monotonic() - started < 3 * 0.2 - 0.05  # a new connection costs one more round trip each


# When the network breaks


@pytest.mark.parametrize("at", [0, 1, 500_000, MB - 1])
def test_a_reset_is_resumed_behind_the_last_byte_given(store, proxy, data, at):
    blocks: list[bytes] = []
    rule = proxy.fail(reset("response", at), method="GET")
    info = store.get_range("x", 1000, MB, lambda block: blocks.append(bytes(block)))
    assert b"".join(blocks) == data[1000 : 1000 + MB] and info.size == SIZE
    assert rule.hits == 1 and proxy.counts() == {"GetObject": 2}
    assert sum(exchange.bytes_down for exchange in proxy.exchanges) < 2 * MB


def test_a_truncated_body_is_resumed_where_it_ended(store, proxy, data, etag):
    for expected in ({}, {"if_match": etag, "size": SIZE}):
        proxy.reset()
        proxy.fail(truncate(400_000), method="GET")
        assert read(store, 1000, MB, **expected) == data[1000 : 1000 + MB]
        seen = [(exchange.status, exchange.bytes_down) for exchange in proxy.exchanges]
        assert seen == [(206, 400_000), (206, MB - 400_000)]


def test_a_body_that_breaks_many_times_comes_to_its_end(store, proxy, data):
    rule = proxy.fail(truncate(200_000), method="GET", times=5)
    assert read(store, 7, MB) == data[7 : 7 + MB]
    assert rule.hits == 5 and len(proxy.exchanges) == 6
    assert sum(exchange.bytes_down for exchange in proxy.exchanges) == MB


@pytest.mark.parametrize(
    "fault", [answer(503, "SlowDown"), answer(500, "InternalError"), reset("before"), reset("answer"), hang("before")]
)
def test_one_fault_does_not_stop_it(store, proxy, data, fault):
    rule = proxy.fail(fault, method="GET")
    assert read(store, 5, 1000) == data[5:1005]
    assert rule.hits == 1 and proxy.counts() == {"GetObject": 2}


def test_behind_the_end_one_fault_does_not_stop_it(store, proxy, data):
    for fault in (answer(503, "SlowDown"), reset("answer")):
        for method in ("GET", "HEAD"):
            rule = proxy.fail(fault, method=method)
            assert read(store, SIZE, 1000) == b""
            assert rule.hits == 1


def test_it_gives_up(store, proxy, data):
    for fault in (answer(503, "SlowDown"), truncate(0), reset("response", 0), hang("response", 1000)):
        proxy.forgive()
        proxy.reset()
        proxy.fail(fault, method="GET", times=ALWAYS)
        with pytest.raises(Unavailable) as raised:
            read(store, 0, MB)
        assert raised.value.__cause__ is None
        assert len(proxy.exchanges) == store.settings.download_max_attempts


@pytest.mark.clear
def test_a_refusal_is_not_repeated(store, proxy, data):
    proxy.fail(answer(403, "AccessDenied"), method="GET", times=ALWAYS)
    with pytest.raises(Refused):
        read(store, 0, MB)
    assert len(proxy.exchanges) == 1


def test_the_deadline_bounds_a_body_that_trickles(behind, proxy, data):
    store = open_store(dataclasses.replace(behind, download_deadline=1.0))
    proxy.fail(trickle(2000), method="GET", times=ALWAYS)
    started = time.monotonic()
    with pytest.raises(Unavailable, match="download-deadline"):
        read(store, 0, MB)
    assert 0.9 < time.monotonic() - started < 2.0
    store.close()


def test_the_circuit_opens_for_ranges_too(behind, proxy, data):
    """An outage that one thread met spares the next its wait; an answer ends it."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    store = S3ObjectStore(
        dataclasses.replace(behind, outage_patience=3.0), clock=Clock(monotonic=lambda: now[0], sleep=sleep)
    )
    proxy.fail(answer(503, "SlowDown"), times=ALWAYS)
    with pytest.raises(Unavailable):
        read(store, 0, 100)
    assert 3.0 <= now[0] < 10.0
    with pytest.raises(Unavailable):
        read(store, 0, 100)  # makes the second's one request, where that was not made already
    proxy.reset()
    with pytest.raises(Unavailable):
        read(store, 0, 100)
    assert proxy.exchanges == []
    proxy.forgive()
    now[0] += 2.0
    assert read(store, 0, 100) == data[:100] == read(store, 0, 100)
    store.close()


@pytest.mark.parametrize("new", [SIZE, 1000, 2 * SIZE], ids=["same size", "shorter", "longer"])
@pytest.mark.parametrize("named", [False, True], ids=["", "if_match"])
def test_an_object_rewritten_meanwhile(store, proxy, data, etag, new, named):
    """Its bytes are not added to those that were given."""
    arrived = bytearray()

    def write(block) -> None:
        if not arrived:
            store.put_bytes("x", bytes(new))
        arrived.extend(block)

    proxy.fail(truncate(500_000), method="GET")
    with pytest.raises(PreconditionFailed):
        store.get_range("x", 0, MB, write, if_match=etag if named else None)
    assert arrived == data[:500_000]
