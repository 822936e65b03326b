"""What the object store does when the network and the server do not: a proxy between both injects the faults."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import logging
import math
import random
import threading
import time

import pytest
from servers.faults import Fault, answer, flip, hang, reset, trickle, truncate

from collective.s3blobstorage.errors import Corrupt, PreconditionFailed, Refused, Unavailable
from collective.s3blobstorage.objectstore import S3ObjectStore, open_store
from collective.s3blobstorage.objectstore.clock import Clock
from collective.s3blobstorage.objectstore.interfaces import Cancelled

MB = 1024 * 1024
ALWAYS = math.inf


def shown(value: object) -> str:
    """A test's id."""
    if not isinstance(value, Fault):
        return str(value)
    return " ".join(str(part) for part in (value.action, value.where, value.status or value.at) if part)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


class FastClock:
    """Sleeping takes no time but counts; ``after_sleep`` runs once, at the first pause."""

    def __init__(self) -> None:
        self.offset = 0.0
        self.after_sleep = None

    def sleep(self, seconds: float) -> None:
        self.offset += seconds
        act, self.after_sleep = self.after_sleep, None
        if act is not None:
            act()

    def clock(self) -> Clock:
        return Clock(monotonic=lambda: time.monotonic() + self.offset, sleep=self.sleep)


@pytest.fixture
def fast() -> FastClock:
    return FastClock()


@pytest.fixture
def open_behind(settings, proxy, fast):
    stores = []

    def open_behind(**more):
        behind = dataclasses.replace(
            settings,
            endpoint_url=proxy.endpoint_url,
            prefix="p",
            connect_timeout=2.0,
            read_timeout=2.0,
            upload_concurrency=3,
            outage_patience=0.0,  # attempts are counted here; test_circuit.py is about outages
            **more,
        )
        opened = S3ObjectStore(behind, clock=fast.clock())
        stores.append(opened)
        opened.put_bytes("warm", b"")  # connections are made, botocore has looked up what it looks up once
        opened.head("warm")
        proxy.reset()
        return opened

    yield open_behind
    for opened in stores:
        opened.close()


@pytest.fixture
def store(open_behind):
    return open_behind(download_connect_timeout=0.5, download_read_timeout=0.5)


@pytest.fixture
def patient_store(open_behind):
    """For a test in which the server answers: a busy one may take longer than half a second for it."""
    return open_behind(download_connect_timeout=10.0, download_read_timeout=10.0)


@pytest.fixture
def file(tmp_path):
    def make(size: int, seed: int = 0):
        data = random.Random(size + seed).randbytes(size)
        path = tmp_path / f"{size}-{seed}.blob"
        path.write_bytes(data)
        return path, data

    return make


def read(store, key: str, **expected) -> bytes:
    target = io.BytesIO()
    store.get_file(key, target, **expected)
    return target.getvalue()


# How many requests


@pytest.mark.clear
def test_each_verb_makes_the_requests_it_needs_and_no_more(store, proxy, file):
    path, data = file(1000)

    def requests(verb) -> dict:
        proxy.reset()
        verb()
        return dict(proxy.counts())

    assert requests(lambda: store.put_bytes("a", b"x")) == {"PutObject": 1}
    assert requests(lambda: store.put_file("b", path, metadata={})) == {"PutObject": 1}
    assert requests(lambda: store.put_file("c", path, metadata={}, if_absent=True)) == {"PutObject": 1}
    assert requests(lambda: store.get_file("b", io.BytesIO())) == {"GetObject": 1}
    assert requests(lambda: store.get_bytes("a")) == {"GetObject": 1}
    assert requests(lambda: store.head("a")) == {"HeadObject": 1}
    assert requests(lambda: list(store.list())) == {"ListObjectsV2": 1}
    assert requests(lambda: store.copy("b", "d")) == {"HeadObject": 1, "CopyObject": 1}
    assert requests(lambda: store.delete(["a", "b", "c"])) == {"DeleteObjects": 1}
    assert requests(lambda: store.delete(["d"])) == {"DeleteObject": 1}
    large, _ = file(16 * MB + 1)
    counted = requests(lambda: store.put_file("large", large, metadata={}))
    counted.pop("HeadObject", None)  # one more where the store does not tell the finished object's ETag
    assert counted == {"CreateMultipartUpload": 1, "UploadPart": 2, "CompleteMultipartUpload": 1}


def test_opening_makes_one_request(store, proxy):
    store.open_bucket(True)
    assert proxy.counts() == {"HeadBucket": 1}


@pytest.mark.clear
@pytest.mark.parametrize("size", [0, 1000, MB])
def test_a_small_put_takes_one_round_trip(store, proxy, file, size):
    """No ``Expect: 100-continue``, which would cost a second one."""
    path, _ = file(size)
    store.put_file("x", path, metadata={})
    proxy.round_trip(200)
    assert 0.2 <= shortest(lambda: store.put_file("x", path, metadata={})) < 0.39


def shortest(work) -> float:
    """Seconds of the fastest of five: whatever else runs on the machine only makes it slower."""
    took = []
    for _ in range(5):
        started = time.monotonic()
        work()
        took.append(time.monotonic() - started)
    return min(took)


def test_connections_are_used_again(store, proxy, file):
    """A body that was read to its end gives its connection back."""
    path, _ = file(300_000)
    store.put_file("x", path, metadata={})
    read(store, "x")
    proxy.round_trip(100)
    assert shortest(lambda: [read(store, "x") for _ in range(3)]) < 3 * 0.1 + 0.1  # a new one: one more round trip each


# Reading


@pytest.mark.parametrize("at", [0, 1, 500_000, 2 * MB - 1])
def test_a_broken_body_is_resumed(store, proxy, file, at):
    path, data = file(2 * MB)
    store.put_file("x", path, metadata={})
    proxy.reset()
    rule = proxy.fail(reset("response", at), method="GET")
    assert read(store, "x", size=len(data), sha256=sha256(data)) == data
    assert rule.hits == 1
    assert proxy.counts() == {"GetObject": 2}
    # nothing is moved twice: what the kernel had buffered at the reset may be lost and comes again
    assert sum(exchange.bytes_down for exchange in proxy.exchanges) < len(data) * 2
    if at > MB:
        assert [exchange.status for exchange in proxy.exchanges] == [200, 206]


def test_a_truncated_body_is_resumed_where_it_ended(store, proxy, file):
    path, data = file(2 * MB)
    store.put_file("x", path, metadata={})
    proxy.reset()
    proxy.fail(truncate(MB), method="GET")
    assert read(store, "x") == data
    assert [(exchange.status, exchange.bytes_down) for exchange in proxy.exchanges] == [(200, MB), (206, MB)]


def test_a_body_that_breaks_many_times_comes_to_its_end(store, proxy, file):
    """More breaks than attempts: each brings bytes, so none counts against the attempts."""
    path, data = file(2 * MB)
    store.put_file("x", path, metadata={})
    proxy.reset()
    rule = proxy.fail(truncate(200_000), method="GET", times=10)
    assert read(store, "x") == data
    assert rule.hits == 10 and len(proxy.exchanges) == 11
    assert sum(exchange.bytes_down for exchange in proxy.exchanges) == len(data)


def test_a_body_that_brings_nothing_is_given_up(store, proxy, file):
    path, _ = file(2 * MB)
    store.put_file("x", path, metadata={})
    proxy.reset()
    proxy.fail(truncate(0), method="GET", times=ALWAYS)
    with pytest.raises(Unavailable):
        read(store, "x")
    assert len(proxy.exchanges) == store.settings.download_max_attempts


@pytest.mark.parametrize(
    "fault",
    [answer(503, "SlowDown"), answer(500, "InternalError"), reset("before"), reset("answer"), flip(5), hang("before")],
    ids=shown,
)
def test_one_fault_does_not_stop_a_read(store, proxy, file, fault):
    path, data = file(1000)
    store.put_file("x", path, metadata={})
    rule = proxy.fail(fault, method="GET")
    assert read(store, "x") == data
    rule_of_bytes = proxy.fail(fault, method="GET")
    assert store.get_bytes("x") == data
    assert rule.hits == rule_of_bytes.hits == 1


def test_a_head_is_repeated(store, proxy):
    for fault in (answer(503, "SlowDown"), reset("before")):
        rule = proxy.fail(fault, method="HEAD")
        assert store.head("warm").size == 0
        assert rule.hits == 1


def test_503_for_ever(store, proxy):
    proxy.fail(answer(503, "SlowDown"), times=ALWAYS)
    for verb in (
        lambda: read(store, "warm"),
        lambda: store.get_bytes("warm"),
        lambda: store.head("warm"),
        lambda: list(store.list()),
    ):
        proxy.reset()
        with pytest.raises(Unavailable) as raised:
            verb()
        assert raised.value.__cause__ is None
        assert len(proxy.exchanges) == store.settings.download_max_attempts


def test_a_flipped_byte_is_never_given_out(store, proxy, file):
    path, data = file(100_000)
    store.put_file("x", path, metadata={})
    proxy.fail(flip(50_000), method="GET", times=ALWAYS)
    with pytest.raises(Corrupt):
        read(store, "x")
    with pytest.raises(Corrupt):
        read(store, "x", size=len(data), sha256=sha256(data))
    with pytest.raises(Corrupt):
        store.get_bytes("x")


def test_a_black_hole(store, proxy):
    proxy.black_hole()
    started = time.monotonic()
    with pytest.raises(Unavailable):
        read(store, "warm")
    settings = store.settings
    per_attempt = settings.download_connect_timeout + settings.download_read_timeout
    assert time.monotonic() - started < per_attempt * settings.download_max_attempts + 0.5


@pytest.mark.parametrize("verb", ["read", "write"])
def test_of_many_lost_connections_one_costs_a_time_out(store, proxy, caplog, verb):
    """A firewall forgot the idle connections. One request finds out; the others are made on new connections."""
    caplog.set_level(logging.INFO, logger="collective.s3blobstorage")

    def work():
        read(store, "warm") if verb == "read" else store.put_bytes("x", b"x")

    def at_once():
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    proxy.round_trip(200)  # so that each needs a connection of its own
    at_once()
    proxy.lose_connections()
    caplog.clear()
    work()
    at_once()
    timed_out = [record for record in caplog.records if "ReadTimeoutError" in record.getMessage()]
    assert len(timed_out) == 1


def test_requests_that_are_under_way_outlive_a_time_out_of_another_one(store, proxy, file, caplog):
    path, data = file(2 * MB)
    store.put_file("slow", path, metadata={})
    begun, proceed = threading.Event(), threading.Event()

    class Slow(io.BytesIO):
        def write(self, block):
            begun.set()
            assert proceed.wait(10)
            return super().write(block)

    target = Slow()
    thread = threading.Thread(target=store.get_file, args=("slow", target))
    thread.start()
    assert begun.wait(10)
    proxy.fail(hang("before"), method="GET", times=1)
    caplog.set_level(logging.INFO, logger="collective.s3blobstorage")
    read(store, "warm")
    assert "ReadTimeoutError" in caplog.text
    caplog.clear()
    proceed.set()
    thread.join()
    assert target.getvalue() == data and caplog.text == ""


def test_a_server_that_is_down(store, proxy):
    proxy.down()
    with pytest.raises(Unavailable):
        read(store, "warm")
    with pytest.raises(Unavailable):
        store.open_bucket(True)


def test_a_body_that_stands_still(store, proxy, file):
    path, _ = file(MB)
    store.put_file("x", path, metadata={})
    proxy.fail(hang("response", 1000), method="GET", times=ALWAYS)
    with pytest.raises(Unavailable):
        read(store, "x")


def test_the_deadline_bounds_a_body_that_trickles(settings, proxy, file):
    """Every read brings a byte, so no time-out of the socket ends it."""
    store = open_store(
        dataclasses.replace(settings, endpoint_url=proxy.endpoint_url, prefix="p", download_deadline=1.0)
    )
    path, _ = file(MB)
    store.put_file("x", path, metadata={})
    proxy.fail(trickle(2000), method="GET", times=ALWAYS)
    started = time.monotonic()
    with pytest.raises(Unavailable, match="download-deadline"):
        read(store, "x")
    assert 0.9 < time.monotonic() - started < 2.0
    store.close()


def test_the_deadline_bounds_all_attempts(settings, proxy, fast):
    many = {"download_max_attempts": 1000, "download_deadline": 20.0, "outage_patience": 0.0}
    behind = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url, **many)
    store = S3ObjectStore(behind, clock=fast.clock())
    proxy.fail(answer(503, "SlowDown"), times=ALWAYS)
    with pytest.raises(Unavailable, match="download-deadline"):
        read(store, "x")
    assert 14 < fast.offset <= 20
    store.close()


# An object that is rewritten while it is read


def test_a_rewritten_object_is_read_from_its_start(store, proxy, file, fast):
    path, data = file(2 * MB)
    other, new = file(2 * MB, seed=1)
    store.put_file("x", path, metadata={})
    proxy.fail(truncate(MB), method="GET")
    fast.after_sleep = lambda: store.put_file("x", other, metadata={})
    assert read(store, "x") == new


def test_the_same_bytes_under_a_new_etag_are_what_was_asked_for(store, proxy, file, fast, s3, bucket):
    """As a rotation of keys rewrites objects: the record's size and hash still hold."""
    path, data = file(2 * MB)
    store.put_file("x", path, metadata={})

    def rewrite() -> None:
        made = s3.create_multipart_upload(Bucket=bucket, Key="p/x")
        named = {"Bucket": bucket, "Key": "p/x", "UploadId": made["UploadId"]}
        etag = s3.upload_part(**named, PartNumber=1, Body=data)["ETag"]
        s3.complete_multipart_upload(**named, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})

    proxy.fail(truncate(MB), method="GET")
    fast.after_sleep = rewrite
    assert read(store, "x", size=len(data), sha256=sha256(data)) == data
    assert store.head("x").etag.endswith("-1")


def test_other_bytes_under_a_new_etag_are_corrupt(store, proxy, file, fast):
    path, data = file(2 * MB)
    other, _ = file(2 * MB, seed=1)
    store.put_file("x", path, metadata={})
    proxy.fail(truncate(MB), method="GET")
    fast.after_sleep = lambda: store.put_file("x", other, metadata={})
    with pytest.raises(Corrupt):
        read(store, "x", size=len(data), sha256=sha256(data))


def test_a_shorter_object_in_its_place(store, proxy, file, fast):
    path, _ = file(2 * MB)
    store.put_file("x", path, metadata={})
    proxy.fail(truncate(MB), method="GET")
    fast.after_sleep = lambda: store.put_bytes("x", b"short")
    assert read(store, "x") == b"short"


def test_an_object_that_never_stays_the_same(patient_store, proxy, file, fast):
    store = patient_store
    path, _ = file(2 * MB)
    other, _ = file(2 * MB, seed=1)
    store.put_file("x", path, metadata={})
    proxy.reset()
    proxy.fail(truncate(MB), method="GET", times=3)

    def rewrite() -> None:
        store.put_file("x", other, metadata={})
        fast.after_sleep = rewrite_again

    def rewrite_again() -> None:
        store.put_file("x", path, metadata={})

    fast.after_sleep = rewrite
    with pytest.raises(Unavailable, match="rewritten"):
        read(store, "x")
    assert [exchange.status for exchange in proxy.exchanges if exchange.method == "GET"] == [200, 412, 200, 412]


# Writing


@pytest.mark.parametrize(
    "fault",
    [
        answer(503, "SlowDown"),
        answer(500, "InternalError"),
        reset("before"),
        reset("request", 500),
        reset("answer"),
        flip(500, "request"),
        hang("answer"),
    ],
    ids=shown,
)
@pytest.mark.parametrize("size", [1000, 2 * MB], ids=["bytes", "stream"])
@pytest.mark.parametrize("if_absent", [False, True], ids=["", "if absent"])
def test_one_fault_does_not_stop_a_put(store, proxy, file, fault, size, if_absent):
    """With ``if_absent`` the lost answer of the first attempt lets the second one find the object: our own."""
    path, data = file(size)
    rule = proxy.fail(fault, method="PUT")
    counted: list[int] = []
    stored = store.put_file("x", path, metadata={"oid": "1"}, if_absent=if_absent, progress=counted.append)
    assert rule.hits == 1
    assert stored.size == size and stored.sha256 == sha256(data) and stored.etag == hashlib.md5(data).hexdigest()
    assert sum(counted) == size
    assert read(store, "x") == data


def test_a_lost_answer_does_not_make_anothers_object_ours(store, proxy, file):
    path, data = file(1000)
    other, theirs = file(1000, seed=1)
    store.put_file("x", other, metadata={})
    rule = proxy.fail(reset("answer"), method="PUT")
    with pytest.raises(PreconditionFailed):
        store.put_file("x", path, metadata={}, if_absent=True)
    assert rule.hits == 1
    assert read(store, "x") == theirs


def test_bytes_that_never_arrive_right_are_not_stored(store, proxy, file):
    path, _ = file(1000)
    proxy.fail(flip(500, "request"), method="PUT", times=ALWAYS)
    with pytest.raises((Corrupt, Refused)):
        store.put_file("x", path, metadata={})
    assert store.head("x") is None


def test_a_put_gives_up_after_its_time(store, proxy, file, fast):
    path, _ = file(1000)
    proxy.fail(answer(503, "SlowDown"), method="PUT", times=ALWAYS)
    with pytest.raises(Unavailable) as raised:
        store.put_file("x", path, metadata={})
    assert raised.value.__cause__ is None
    assert 30 < fast.offset < 46


def test_a_put_rides_out_an_outage(store, proxy, file, fast):
    path, data = file(1000)
    proxy.down()

    def back() -> None:
        if fast.offset > 30:
            proxy.up()
        else:
            fast.after_sleep = back

    fast.after_sleep = back
    store.put_file("x", path, metadata={})
    assert fast.offset > 30
    assert read(store, "x") == data


@pytest.mark.parametrize("size", [1000, 2 * MB], ids=["bytes", "stream"])
def test_a_cancelled_put(store, proxy, file, size):
    path, _ = file(size)
    proxy.fail(answer(503, "SlowDown"), method="PUT", times=ALWAYS)
    asked = iter(range(1000))
    with pytest.raises(Cancelled):
        store.put_file("x", path, metadata={}, cancelled=lambda: next(asked) > 30)
    assert store.head("x") is None


def test_cancelled_while_the_body_is_on_its_way(store, proxy, file):
    path, _ = file(8 * MB)
    sent: list[int] = []
    with pytest.raises(Cancelled):
        store.put_file("x", path, metadata={}, progress=sent.append, cancelled=lambda: sum(sent) > 3 * MB)
    assert store.head("x") is None


# Uploads in parts


@pytest.mark.parametrize(
    "fault, target",
    [
        (answer(503, "SlowDown"), "?uploads"),
        (answer(503, "SlowDown"), "partNumber=2"),
        (reset("request", 3 * MB), "partNumber=1"),
        (reset("answer"), "partNumber=2"),
        (flip(3 * MB, "request"), "partNumber=1"),
        (answer(500, "InternalError"), "?uploadId="),
        (reset("answer"), "?uploadId="),
        (hang("answer"), "?uploadId="),
    ],
    ids=shown,
)
@pytest.mark.parametrize("if_absent", [False, True], ids=["", "if absent"])
def test_one_fault_does_not_stop_an_upload_in_parts(store, proxy, file, s3, bucket, fault, target, if_absent):
    path, data = file(16 * MB + 1)
    rule = proxy.fail(fault, target=target)
    counted: list[int] = []
    stored = store.put_file("x", path, metadata={"oid": "1"}, if_absent=if_absent, progress=counted.append)
    assert rule.hits == 1
    assert stored.sha256 == sha256(data) and sum(counted) == len(data)
    assert store.head("x").etag == stored.etag
    assert read(store, "x", sha256=sha256(data)) == data
    assert list(store.list_uploads()) == []


@pytest.mark.parametrize("target", ["partNumber=2", "?uploadId="])
@pytest.mark.parametrize("fault", [answer(503, "SlowDown"), answer(403, "AccessDenied")], ids=["503", "403"])
def test_an_upload_that_fails_leaves_nothing(store, proxy, file, fault, target):
    path, _ = file(48 * MB)
    proxy.fail(fault, method="PUT" if "part" in target else "POST", target=target, times=ALWAYS)
    with pytest.raises((Unavailable, Refused)):
        store.put_file("x", path, metadata={})
    assert list(store.list_uploads()) == []
    assert store.head("x") is None


def test_a_damaged_part_is_never_completed(store, proxy, file):
    path, _ = file(32 * MB)
    proxy.fail(flip(MB, "request"), target="partNumber=2", times=ALWAYS)
    with pytest.raises((Corrupt, Refused)):
        store.put_file("x", path, metadata={})
    assert list(store.list_uploads()) == [] and store.head("x") is None


@pytest.mark.parametrize("after", [0, 1, 20 * MB, 47 * MB])
def test_a_cancelled_upload_in_parts_leaves_nothing(store, file, after):
    path, _ = file(48 * MB)
    sent: list[int] = []
    with pytest.raises(Cancelled):
        store.put_file("x", path, metadata={}, progress=sent.append, cancelled=lambda: sum(sent) >= after)
    assert list(store.list_uploads()) == [] and store.head("x") is None


def test_closing_stops_an_upload(store, settings, file):
    path, _ = file(48 * MB)
    closed: list[int] = []

    def close_once(count: int) -> None:
        if not closed:
            closed.append(count)
            store.lanes.closing.set()  # what close() does first; close() itself joins the thread that is here

    with pytest.raises(Unavailable, match="closed"):
        store.put_file("x", path, metadata={}, progress=close_once)
    store.close()
    other = open_store(settings)
    assert list(other.list_uploads()) == []
    other.close()


def test_an_upload_that_cannot_be_aborted_raises_the_first_error(store, proxy, file, caplog):
    path, _ = file(32 * MB)
    proxy.fail(answer(403, "AccessDenied"), method="PUT", times=ALWAYS)
    proxy.fail(answer(503, "SlowDown"), method="DELETE", times=ALWAYS)
    with pytest.raises(Refused):
        store.put_file("x", path, metadata={})
    assert "left behind" in caplog.text
    proxy.forgive()
    left = list(store.list_uploads())
    assert [key for key, _, _ in left] == ["x"]
    store.abort_upload(*left[0][:2])
    assert list(store.list_uploads()) == []


@pytest.mark.parametrize("fails", [False, True])
def test_an_upload_whose_beginning_was_held_up_is_aborted_in_the_end(store, proxy, file, s3, bucket, fails):
    """The answer to the first attempt is lost, and the store carries it out while the second one's parts are sent."""
    path, _ = file(32 * MB)
    proxy.fail(reset("before"), method="POST", target="?uploads")
    if fails:
        proxy.fail(answer(403, "AccessDenied"), method="POST", target="uploadId=")
    late = []

    def begin_late(count: int) -> None:
        if not late:
            late.append(s3.create_multipart_upload(Bucket=bucket, Key="p/x")["UploadId"])

    if fails:
        with pytest.raises(Refused):
            store.put_file("x", path, metadata={}, progress=begin_late)
    else:
        store.put_file("x", path, metadata={}, progress=begin_late)
    assert late and list(store.list_uploads()) == []


def test_an_attempt_that_may_still_be_carried_out_is_logged(store, proxy, file, caplog):
    path, _ = file(32 * MB)
    proxy.fail(reset("before"), method="POST", target="?uploads")
    with caplog.at_level("INFO"):
        store.put_file("x", path, metadata={})
    assert "upload of 'x' may still begin" in caplog.text


# Deleting


def test_deleting_is_repeated_and_gives_up(store, proxy):
    for number in range(3):
        store.put_bytes(f"k{number}", b"")
    proxy.fail(answer(503, "SlowDown"), method="POST")
    store.delete(["k0", "k1"])
    assert [line.key for line in store.list("k")] == ["k2"]
    proxy.fail(answer(503, "SlowDown"), times=ALWAYS)
    with pytest.raises(Unavailable):
        store.delete(["k2"])
    with pytest.raises(Unavailable):
        store.delete(["k2", "k3"])


def test_copying_is_repeated(store, proxy):
    store.put_bytes("a", b"abc")
    for fault in (answer(503, "SlowDown"), reset("answer")):
        rule = proxy.fail(fault, method="PUT")
        store.copy("a", "b")
        assert rule.hits == 1 and store.get_bytes("b") == b"abc"


def test_a_listing_survives_a_fault_between_its_pages(store, proxy):
    for number in range(7):
        store.put_bytes(f"k{number}", b"")
    lines = store.list("k", page_size=2)
    first = next(lines)
    proxy.fail(reset("answer"), method="GET")
    assert [first.key, *(line.key for line in lines)] == [f"k{number}" for number in range(7)]
