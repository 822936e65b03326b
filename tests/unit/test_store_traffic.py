"""Requests that are counted: sums over processes, percentiles, and what one count costs."""

from __future__ import annotations

import os
import signal
import statistics
import threading
import time

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError
from hypothesis import given
from hypothesis import strategies as st

from collective.s3blobstorage.objectstore import sigv4, traffic
from collective.s3blobstorage.objectstore.counted import Comparing, CountedClient
from collective.s3blobstorage.objectstore.traffic import BOUNDS, ERRORS, VERBS, Counted, Traffic

seconds = st.floats(0, 1000, allow_nan=False)


def refused(status, code="", operation="GetObject"):
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, operation)


class Client:
    """As boto3's, of which only what is called is there. ``fate``: what each request ends in."""

    class meta:  # noqa: N801
        method_to_api_mapping = {"get_bucket_versioning": "GetBucketVersioning", "get_object": "GetObject"}

    fate: Exception | None = None
    calls = 0

    def get_object(self, **parameters):
        self.calls += 1
        if self.fate is not None:
            raise self.fate
        return parameters

    head_object = put_object = upload_part = delete_objects = get_bucket_versioning = get_object

    def generate_presigned_url(self, *arguments):
        return arguments


@given(st.lists(st.tuples(st.sampled_from(VERBS), seconds, st.integers(0, 10**12))))
def test_what_was_counted_is_read_again(made):
    counts = Traffic()
    for verb, took, size in made:
        counts.answered(verb, took, size)
    found = traffic.read(counts.snapshot())
    for verb in VERBS:
        ours = [(took, size) for each, took, size in made if each == verb]
        assert found[verb].requests == len(ours)
        assert found[verb].bytes == sum(size for _, size in ours)
        assert found[verb].seconds == pytest.approx(sum(took for took, _ in ours), abs=1e-5)


@given(st.lists(seconds, min_size=1), st.sampled_from((0.5, 0.95, 0.99)))
def test_a_percentile_is_between_the_bounds_of_the_true_one(took, share):
    counts = Traffic()
    for each in took:
        counts.answered("get", each)
    found = traffic.read(counts.snapshot())["get"].percentile(share)
    rank = max(1, -(-round(share * 100) * len(took) // 100))
    true = sorted(took)[rank - 1]
    lower = max((bound for bound in BOUNDS if bound < true), default=0.0)
    upper = min((bound for bound in BOUNDS if bound >= true), default=BOUNDS[-1])
    assert lower <= found <= upper


def test_nothing_has_no_percentile():
    assert Counted().percentile(0.5) is None
    assert Traffic().snapshot() == {}


def test_sums_of_processes_are_the_sum():
    one, two, both = Traffic(), Traffic(), Traffic()
    for number, counts in enumerate([one, two, one, two, two]):
        for each in (counts, both):
            each.answered("put", 0.003 * 10**number, number)
            each.failed("put", ERRORS[number % 3])
    names = {*one.snapshot(), *two.snapshot()}
    summed = {name: one.snapshot().get(name, 0) + two.snapshot().get(name, 0) for name in names}
    assert traffic.read(summed) == traffic.read(both.snapshot())
    together = Counted()
    for counts in (one, two):
        together.add(traffic.read(counts.snapshot())["put"])
    assert (together.requests, together.bytes, together.errors) == (
        5, 10, {"unavailable": 2, "refused": 2, "other": 1},
    )  # fmt: skip


def test_names_of_another_release():
    newer = {
        "store.get.within.0.007": 1, "store.get.within.x": 1, "store.get.errors.odd": 2, "store.walk.bytes": 1,
        "hits": 9, "store.get.new": 1, "store.": 1,
    }  # fmt: skip
    found = traffic.read(newer)["get"]
    assert found.requests == 1 and found.errors["odd"] == 2
    assert 0.005 < found.percentile(1.0) <= 0.007


def test_threads_lose_nothing():
    counts = Traffic()

    def count():
        for _ in range(5000):
            counts.answered("get", 0.01, 3)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = traffic.read(counts.snapshot())["get"]
    assert (found.requests, found.bytes) == (20_000, 60_000)


def test_a_forked_child_begins_at_zero():
    """Its parent counted, and a thread that the child does not have was counting at that moment."""
    counts = Traffic()
    counts.answered("get", 0.01, 3)
    with counts._lock:
        child = os.fork()
        if child == 0:
            signal.alarm(10)  # what hangs ends with another status
            counts.answered("put", 0.01, 5)
            found = traffic.read(counts.snapshot())
            os._exit(0 if (found["get"].requests, found["put"].requests) == (0, 1) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    found = traffic.read(counts.snapshot())
    assert (found["get"].requests, found["put"].requests) == (1, 0)


@pytest.mark.parametrize(
    "fate, method, kind",
    [
        (refused(404, "NoSuchKey"), "get_object", None),
        (refused(404, "404"), "head_object", None),
        (refused(404, "404"), "get_object", "unavailable"),
        (refused(404, "NoSuchBucket"), "get_object", "unavailable"),
        (refused(404, "NoSuchObjectLockConfiguration"), "get_bucket_versioning", None),
        (refused(412, "PreconditionFailed"), "put_object", None),
        (refused(409, "ConditionalRequestConflict"), "put_object", None),
        (refused(416, "InvalidRange"), "get_object", None),
        (refused(403, "AccessDenied"), "get_object", "refused"),
        (refused(403, "AccessDenied"), "put_object", "refused"),
        (refused(400, "InvalidRequest"), "put_object", None),  # without Content-MD5: it is sent again with it
        (refused(400, "InvalidRequest"), "get_object", "refused"),
        (refused(400, "BadDigest"), "put_object", "other"),
        (refused(503, "SlowDown"), "put_object", "unavailable"),
        (EndpointConnectionError(endpoint_url="http://x"), "get_object", "unavailable"),
        (ReadTimeoutError(endpoint_url="http://x"), "head_object", "unavailable"),
        (RuntimeError("a commit was aborted"), "put_object", None),
    ],
)
def test_what_is_an_error(fate, method, kind):
    client, counts = Client(), Traffic()
    client.fate = fate
    with pytest.raises(type(fate)):
        getattr(CountedClient(client, counts), method)()
    verbs = {verb: counted for verb, counted in traffic.read(counts.snapshot()).items() if counted.requests}
    assert [(counted.requests, {k for k, n in counted.errors.items() if n}) for counted in verbs.values()] == [
        (1, set() if kind is None else {kind})
    ]


def test_a_body_that_is_refused_with_content_md5_too():
    client, counts = Client(), Traffic()
    client.fate = refused(400, "InvalidRequest")
    with pytest.raises(ClientError):
        CountedClient(client, counts).put_object(Body=b"", ContentMD5="x")
    assert traffic.read(counts.snapshot())["put"].errors["refused"] == 1


def test_a_refusal_that_is_expected():
    client, counts = Client(), Traffic()
    client.fate = refused(403, "AccessDenied")
    counting = CountedClient(client, counts).expecting_refusals()
    with pytest.raises(ClientError):
        counting.get_object()
    client.fate = refused(503)
    with pytest.raises(ClientError):
        counting.get_object()
    found = traffic.read(counts.snapshot())["get"]
    assert found.requests == 2 and found.errors == {"unavailable": 1, "refused": 0, "other": 0}


def test_everything_else_is_the_clients():
    client, counts = Client(), Traffic()
    counting = CountedClient(client, counts)
    assert counting.generate_presigned_url("x") == ("x",)
    assert counting.meta is client.meta
    assert counting.put_object(Body=b"12345") == {"Body": b"12345"}
    counting.upload_part(Body=b"123")
    counting.get_bucket_versioning()
    found = traffic.read(counts.snapshot())
    assert (found["put"].requests, found["put"].bytes, found["other"].requests) == (2, 8, 1)
    with pytest.raises(AttributeError):
        counting.no_such_method  # noqa: B018


def test_a_count_costs_less_than_a_signature():
    """Of each request, whose signature is far from all that it costs: a ratio, the better of some tries."""
    client, counts = Client(), Traffic()
    counting = CountedClient(client, counts)

    def sign():
        sigv4.authorization(
            "GET",
            "/bucket/key",
            {"Host": "s3.example.org", "X-Amz-Date": "20260101T000000Z", "X-Amz-Content-SHA256": "0"},
            access_key="a",
            secret_key="b",
            region="r",
            service="s3",
        )

    def count():
        with Comparing(counts, "get"):
            counting.get_object()

    def of(call, times=2000):
        began = time.perf_counter()
        for _ in range(times):
            call()
        return (time.perf_counter() - began) / times

    ratios = []
    for _ in range(5):
        plain, counted, signed = of(client.get_object), of(count), of(sign)
        ratios.append((counted - plain) / signed)
    print(f"a count costs {statistics.median(ratios):.2f} of a signature")
    assert min(ratios) < 0.5
