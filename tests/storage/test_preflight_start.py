"""The start of a storage: it waits for its store, fails with one sentence, or starts without blobs."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time

import pytest
from sites import commit_blobs, connected
from ZODB.MappingStorage import MappingStorage

from collective.s3blobstorage.errors import ConfigurationError, OwnerError, Unavailable
from collective.s3blobstorage.settings import StorageSettings
from collective.s3blobstorage.storage import opening
from collective.s3blobstorage.storage.root import open_storage


@pytest.fixture
def start(settings, proxy, tmp_path):
    """Open a storage whose store is behind the proxy; closed at the end."""
    opened = []
    behind = dataclasses.replace(
        settings, endpoint_url=proxy.endpoint_url, download_connect_timeout=1.0, download_read_timeout=1.0
    )

    def make(store=None, **more):
        known = {"preflight_deadline": 0.0, "owner": "one", "cache_dir": tmp_path / f"cache{len(opened)}"}
        storage = open_storage(MappingStorage(), StorageSettings(store=store or behind, **(known | more)))
        opened.append(storage)
        return storage

    make.store = behind
    yield make
    for storage in opened:
        storage.close()


def written(proxy) -> list[str]:
    return [exchange.path for exchange in proxy.exchanges if exchange.method not in ("GET", "HEAD")]


def test_a_start_makes_as_many_requests_as_it_must(start, proxy):
    start()
    first = len(proxy.exchanges)
    proxy.reset()
    start()
    assert [exchange.operation for exchange in proxy.exchanges] == [
        "HeadBucket",
        "GetObject",  # the owner marker, before anything is written
        "PutObject",
        "PutObject",
        "DeleteObject",
    ]
    assert first == len(proxy.exchanges) + 3  # is there a blob already; the marker; and is it ours


def test_without_preflight_only_the_bucket_is_asked_for(start, proxy):
    start()
    proxy.reset()
    start(preflight=False)
    assert [exchange.operation for exchange in proxy.exchanges] == ["HeadBucket", "GetObject"]


def test_nothing_is_written_to_the_prefix_of_somebody_else(start, proxy):
    start()
    proxy.reset()
    with pytest.raises(OwnerError):
        start(owner="two")
    assert written(proxy) == []


def test_read_only_writes_nothing(start, proxy):
    start(read_only=True)
    assert written(proxy) == []


def test_a_store_that_is_out_for_a_while_is_waited_for(start, proxy):
    proxy.down()
    threading.Timer(1.5, proxy.up).start()
    began = time.monotonic()
    start(preflight_deadline=20.0)
    assert 1.4 < time.monotonic() - began < 15.0


def test_then_it_fails_with_one_sentence(start, proxy):
    proxy.down()
    began = time.monotonic()
    with pytest.raises(Unavailable, match="cannot be reached at .*; s3-endpoint-url: ") as raised:
        start(preflight_deadline=2.0)
    assert time.monotonic() - began < 6.0
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("degraded", [False, True])
def test_what_waiting_does_not_mend_fails_at_once(start, degraded):
    wrong = dataclasses.replace(start.store, secret_key="x" * 40)
    began = time.monotonic()
    with pytest.raises(ConfigurationError, match="s3-secret-key"):
        start(store=wrong, preflight_deadline=60.0, start_degraded=degraded)
    assert time.monotonic() - began < 15.0


def test_degraded_the_site_starts_and_blobs_come_with_the_store(start, proxy, s3, bucket, caplog):
    from ZODB.DB import DB

    proxy.down()
    storage = start(start_degraded=True)
    assert "started without blobs, since start-degraded is on" in caplog.text
    db = DB(storage)
    with connected(db) as connection:
        connection.root()["number"] = 1
        connection.transaction_manager.commit()  # no blob, no store
    began = time.monotonic()
    with pytest.raises(Unavailable, match="since the start"):
        commit_blobs(db, a=b"bytes")
    assert time.monotonic() - began < 2.0
    proxy.up()
    proxy.reset()
    time.sleep(opening.ASK_AGAIN + 0.1)
    commit_blobs(db, a=b"bytes")
    operations = [exchange.operation for exchange in proxy.exchanges]
    assert operations[:2] == ["HeadBucket", "GetObject"]
    first_blob = next(number for number, path in enumerate(written(proxy)) if "/blobs/" in path)
    assert any(path.endswith("/.s3blobs.json") for path in written(proxy)[:first_blob])
    assert storage.marker.owner == "one" and storage.reader.with_foreign_keys == storage.marker.foreign_keys
    db.close()


def test_degraded_nothing_is_written_before_the_owner_was_checked(start, proxy, s3, bucket, caplog):
    from ZODB.DB import DB

    start()
    before = {line["Key"] for line in s3.list_objects_v2(Bucket=bucket)["Contents"]}
    proxy.down()
    db = DB(start(owner="two", start_degraded=True))
    proxy.up()
    proxy.reset()
    time.sleep(opening.ASK_AGAIN + 0.1)
    with caplog.at_level(logging.ERROR), pytest.raises(Unavailable, match="the log says why"):
        commit_blobs(db, a=b"bytes")
    assert "belongs to owner 'one'" in caplog.text
    assert written(proxy) == []
    assert {line["Key"] for line in s3.list_objects_v2(Bucket=bucket)["Contents"]} == before
    db.close()


def test_degraded_one_thread_asks_and_the_others_fail_at_once(start, proxy):
    proxy.down()
    storage = start(start_degraded=True)
    proxy.up()
    proxy.black_hole()
    proxy.reset()
    time.sleep(opening.ASK_AGAIN + 0.1)
    took = []

    def read() -> None:
        began = time.monotonic()
        with pytest.raises(Unavailable):
            storage.store_.get_bytes("x")
        took.append(time.monotonic() - began)

    threads = [threading.Thread(target=read) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(took) == 30
    assert sorted(took)[28] < 0.5  # all but the one that asked
