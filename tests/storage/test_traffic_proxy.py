"""What a store counts of its requests is what a proxy before the server saw."""

from __future__ import annotations

import dataclasses
import io
import os
import threading
from collections import Counter
from contextlib import closing

import pytest
from rings import client_side
from servers.faults import answer, flip, reset, truncate

from collective.s3blobstorage.encryption.none import NoEncryption, Unencrypted
from collective.s3blobstorage.errors import Corrupt, Refused, Unavailable
from collective.s3blobstorage.objectstore import open_store, preflight, traffic
from collective.s3blobstorage.objectstore.interfaces import Cancelled

# As the proxy names them, by our verbs.
VERBS = {
    "GetObject": "get", "HeadObject": "head", "HeadBucket": "head", "PutObject": "put", "UploadPart": "put",
    "ListObjectsV2": "list", "ListObjectVersions": "list", "ListMultipartUploads": "list", "DeleteObject": "delete",
    "DeleteObjects": "delete", "CopyObject": "copy", "UploadPartCopy": "copy",
}  # fmt: skip
MB = 1024 * 1024


@pytest.fixture
def store(settings, proxy):
    quick = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url, outage_patience=0.0)
    with closing(open_store(quick)) as store:
        store.open_bucket(writable=True)
        yield store


def seen(proxy):
    return Counter(VERBS.get(exchange.operation, "other") for exchange in proxy.exchanges)


def counted(store):
    return {verb: each for verb, each in traffic.read(store.traffic.snapshot()).items() if each.requests}


def errors(store):
    return {verb: {k: n for k, n in each.errors.items() if n} for verb, each in counted(store).items()}


def test_each_request_is_counted_once(store, proxy, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(os.urandom(20 * MB))
    store.put_file("large", file, metadata={})
    for number in range(3):
        store.put_bytes(f"small{number}", b"x" * 100)
    assert store.head("nothing") is None
    store.get_bytes("small0")
    store.get_file("large", io.BytesIO())
    store.get_range("large", 5, 1000, lambda block: None)
    list(store.list())
    list(store.list_uploads())
    store.keeps_versions()
    store.copy("small0", "copied")
    store.delete(["small0", "small1"])
    store.now()
    assert {verb: each.requests for verb, each in counted(store).items()} == seen(proxy)
    assert errors(store) == dict.fromkeys(counted(store), {})
    if not store.encryption.ring:  # what is sealed is longer
        assert counted(store)["put"].bytes == 20 * MB + 300
        assert counted(store)["get"].bytes == 100 + 20 * MB + 1000
    for each in counted(store).values():
        assert 0 < each.percentile(0.5) <= each.percentile(0.99) < 60
        assert each.seconds > 0


def test_a_preflight_provokes_no_error_that_is_counted(store, proxy):
    with closing(preflight.run(store, writable=True, thorough=False)) as findings:
        assert all(error is None for _, error in findings)
    assert {verb: each.requests for verb, each in counted(store).items()} == seen(proxy)
    assert not any(errors(store).values()), errors(store)


def test_threads_lose_none(store, proxy):
    store.put_bytes("key", b"x" * 1000)

    def read():
        for _ in range(25):
            store.get_bytes("key")

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {verb: each.requests for verb, each in counted(store).items()} == seen(proxy)
    assert counted(store)["get"].requests >= 200


def test_attempts_that_failed_are_requests_too(store, proxy):
    store.put_bytes("key", b"x" * 1000)
    proxy.fail(answer(503), method="GET", times=1)
    store.get_bytes("key")
    assert errors(store)["get"] == {"unavailable": 1}
    proxy.fail(reset("answer"), method="PUT", times=1)
    store.put_bytes("key", b"y" * 1000)
    assert errors(store)["put"] == {"unavailable": 1}
    proxy.fail(answer(403, "AccessDenied"), method="GET", times=1)
    with pytest.raises(Refused):
        store.get_bytes("key")
    assert errors(store)["get"] == {"unavailable": 1, "refused": 1}
    assert {verb: each.requests for verb, each in counted(store).items()} == seen(proxy)
    assert counted(store)["put"].bytes >= 2000


def test_a_body_that_breaks(store, proxy):
    store.put_bytes("key", os.urandom(MB))
    before = counted(store)
    proxy.fail(truncate(MB // 2), method="GET", times=1)
    store.get_file("key", io.BytesIO())
    assert errors(store)["get"] == {"unavailable": 1}
    assert counted(store)["get"].requests == 2 and "get" not in before
    if not store.encryption.ring:
        assert counted(store)["get"].bytes == MB  # the rest came with the second one


def test_bytes_that_are_damaged_on_their_way_here(store, proxy):
    data = os.urandom(300_000)
    store.put_bytes("key", data)
    proxy.fail(flip(150_000), method="GET", times=1)
    assert store.get_file("key", target := io.BytesIO()).sha256 and target.getvalue() == data
    assert errors(store)["get"] == {"other": 1}
    proxy.fail(flip(150_000), method="GET", times=100)
    with pytest.raises(Corrupt):
        store.get_file("key", io.BytesIO())
    assert errors(store)["get"] == {"other": counted(store)["get"].requests - 1}
    assert {verb: each.requests for verb, each in counted(store).items()} == seen(proxy)


def test_sealed_bytes_that_are_damaged(settings, proxy, tmp_path):
    """What is counted once is counted once here too, where another piece of code compares: each request that failed."""
    file = tmp_path / "file"
    file.write_bytes(data := os.urandom(300_000))
    encryption = client_side(bytes(range(32)))
    sealing = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url, outage_patience=0.0, encryption=encryption)
    with closing(open_store(sealing)) as store:
        store.put_file("blobs/key", file, metadata={})
        proxy.fail(flip(150_000), method="GET", times=1)
        store.get_file("blobs/key", target := io.BytesIO())
        assert target.getvalue() == data and counted(store)["get"].requests == 2
        assert errors(store)["get"] == {"other": 1}
        proxy.fail(flip(150_000), method="GET", times=1)
        with pytest.raises(Corrupt):
            store.get_range("blobs/key", 0, 300_000, lambda block: None)
        assert errors(store)["get"] == {"other": 2} and counted(store)["get"].requests == 3
        with pytest.raises(Corrupt):
            store.get_file("blobs/key", io.BytesIO(), sha256=bytes(32))
        assert errors(store)["get"] == {"other": counted(store)["get"].requests - 1}


def test_an_object_of_another_size(store):
    store.put_bytes("key", b"x" * 1000)
    for read in (
        lambda: store.get_file("key", io.BytesIO(), size=999),
        lambda: store.get_range("key", 0, 10, lambda block: None, size=999),
    ):
        with pytest.raises(Corrupt):
            read()
    found = counted(store)["get"]
    assert found.errors["other"] == found.requests >= 2


@pytest.mark.parametrize("size", [1000, MB, 20 * MB], ids=["small", "whole", "in parts"])
def test_bytes_that_are_damaged_on_their_way_there(store, proxy, tmp_path, size):
    store.measured_etags(are_md5=True)
    file = tmp_path / "file"
    file.write_bytes(os.urandom(size))
    proxy.fail(flip(500, "request"), method="PUT", times=1)
    store.put_file("key", file, metadata={})
    assert errors(store)["put"] == {"other": 1}


@pytest.mark.parametrize("size", [6 * MB, 20 * MB], ids=["whole", "in parts"])
def test_an_upload_that_is_given_up_is_no_failure_of_the_store(store, proxy, tmp_path, size):
    file, sent = tmp_path / "file", []
    file.write_bytes(os.urandom(size))
    with pytest.raises(Cancelled):
        store.put_file("key", file, metadata={}, progress=sent.append, cancelled=lambda: sum(sent) > MB)
    assert sum(sent) or counted(store)["put"].requests
    assert not any(errors(store).values()), errors(store)


def test_what_is_refused_with_each_key_is_one_error_of_its_verb(settings, proxy):
    """A store of several keys asks with one after the other, and only then knows that it is refused."""

    class Several(Unencrypted):
        readers = (NoEncryption(), NoEncryption())

    several = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url, outage_patience=0.0, encryption=Several())
    with closing(open_store(several)) as store:
        proxy.fail(answer(403, "AccessDenied"), times=3)
        with pytest.raises(Refused):
            store.head("key")
        assert errors(store) == {"head": {"refused": 1}}
        assert {verb: each.requests for verb, each in counted(store).items()} == seen(proxy) == {"head": 3}


def test_a_store_that_is_away(store, proxy):
    store.put_bytes("key", b"x")
    assert store.reachable
    proxy.down()
    with pytest.raises(Unavailable):
        store.get_bytes("key")
    assert errors(store)["get"] == {"unavailable": store.settings.download_max_attempts}
    assert not store.reachable and not store.circuit_open  # outage-patience 0: no circuit, and away all the same
    proxy.up()
    store.get_bytes("key")
    assert store.reachable


def test_each_store_has_counts_of_its_own(settings):
    """Also where they share boto3's clients, as a database's bucket and a source in it."""
    with closing(open_store(settings)) as one, closing(open_store(dataclasses.replace(settings, prefix="two"))) as two:
        one.put_bytes("key", b"x")
        one.unencrypted().put_bytes("other", b"y")
        assert {verb: each.requests for verb, each in counted(one).items()} == {"put": 2}
        assert counted(two) == {}
