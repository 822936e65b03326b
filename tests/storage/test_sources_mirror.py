"""What was read whole from a source comes into the bucket, once and whole, on real servers."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import threading
import time
from pathlib import Path

import pytest
import ZODB
from origins import CONTENTS, KINDS, LARGE, PARTS, QUICK, add_blob, large_reader, snapshot
from rings import client_side
from servers.faults import answer, hang
from sites import as_ours, connected, raw_client, read_blob, unfinished_uploads, wait_until
from ZODB.FileStorage import FileStorage

from collective.s3blobstorage.errors import EncryptionKeyMissing, Unavailable
from collective.s3blobstorage.keys import blob_key
from collective.s3blobstorage.overlay.interfaces import SourceOptions
from collective.s3blobstorage.settings import StorageSettings
from collective.s3blobstorage.storage import open_storage
from collective.s3blobstorage.storage.record import read_state


def mirrored(make_staging, origin, mode, **more):
    return make_staging(origin, source=lambda made: made.with_options(mirror=mode), **more)


def current_keys_of(db) -> dict[str, bytes]:
    found = {}
    with connected(db) as connection:
        for name, data in CONTENTS.items():
            blob = connection.root()[name]
            blob._p_activate()
            record = db.storage.read_record(blob._p_oid, blob._p_serial)
            found[blob_key(blob._p_oid, read_state(record).name_at(blob._p_serial))] = data
    return found


def stored(staging) -> dict[str, bytes]:
    with as_ours(staging.settings.store) as ours:
        return {key: ours.get_bytes(key) for key in staging.keys()}


@pytest.mark.parametrize("origin", KINDS)
def test_each_blob_that_is_read_is_stored_under_our_key_and_the_source_can_go(make_staging, origin):
    staging = mirrored(make_staging, origin, "on")
    db = staging.db()
    expected = current_keys_of(db)
    with connected(db) as connection:
        for name, data in CONTENTS.items():
            # As a path: an empty blob that is opened needs no byte from anywhere.
            assert Path(connection.root()[name].committed()).read_bytes() == data
    assert stored(staging) == expected
    store = staging.settings.store
    for key, data in expected.items():
        with as_ours(store) as ours:
            told = ours.head(key)
        assert told.metadata["sha256"] == hashlib.sha256(data).hexdigest()
        assert told.metadata["size"] == str(len(data))
        if store.encryption is None:
            head = raw_client(store).head_object(Bucket=store.bucket, Key=f"{store.prefix}/{key}")
            assert head["ContentType"] == "application/octet-stream"
    assert db.storage.overlay.mirrored()["mirrored"] == len(expected)
    staging.cold()
    if origin not in ("relstorage", "zeo"):
        db = staging.db(sources=())
        assert {name: read_blob(db, name) for name in CONTENTS} == CONTENTS


def test_on_has_stored_it_when_the_reader_has_it(make_staging):
    staging = mirrored(make_staging, "ours", "on")
    db = staging.db()
    assert read_blob(db, "small") == b"small"
    assert list(stored(staging).values()) == [b"small"]


def test_background_stores_it_afterwards(make_staging, settings, proxy):
    store = dataclasses.replace(settings, prefix="staging", endpoint_url=proxy.endpoint_url)
    staging = mirrored(make_staging, "ours", "background", store=store)
    db = staging.db()
    proxy.fail(hang(seconds=2), method="PUT", times=math.inf)
    started = time.monotonic()
    assert read_blob(db, "small") == b"small"
    assert time.monotonic() - started < 1.5
    assert staging.keys() == []
    wait_until(lambda: list(stored(staging).values()) == [b"small"])


def test_what_is_read_in_part_is_not_stored_and_what_was_read_to_the_end_is(make_staging):
    staging = mirrored(make_staging, "ours", "on")
    db = staging.db()
    with large_reader(db) as file:
        file.seek(-5, os.SEEK_END)
        file.read()
        assert staging.keys() == []
        for start in range(0, len(LARGE), PARTS["part_size"]):
            file.seek(start)
            file.read(1)
        wait_until(lambda: list(stored(staging).values()) == [LARGE])
    assert unfinished_uploads(staging.settings.store) == []


def test_it_is_stored_once_and_then_read_from_the_bucket(make_staging, settings, proxy):
    store = dataclasses.replace(settings, prefix="staging", endpoint_url=proxy.endpoint_url)
    staging = make_staging(
        "ours",
        source=lambda made: dataclasses.replace(
            made.through(proxy.endpoint_url), options=made.with_options(mirror="on").options
        ),
        store=store,
    )
    db = staging.db()
    read_blob(db, "small")
    assert proxy.counts("/staging/blobs/")["PutObject"] == 1
    staging.cold()
    db = staging.db()
    proxy.reset()
    assert read_blob(db, "small") == b"small"
    assert proxy.counts("/production/") == {} and proxy.counts("/staging/blobs/") == {"GetObject": 1}


@pytest.mark.parametrize("other", [b"other", b"another"])
def test_an_object_that_is_there_by_then_is_never_overwritten(make_staging, settings, proxy, other):
    """Between the bucket's 404 and our PUT somebody else stored it."""
    staging = make_staging(
        "ours",
        source=lambda made: dataclasses.replace(
            made.through(proxy.endpoint_url), options=made.with_options(mirror="on").options
        ),
    )
    db = staging.db()
    [key] = [key for key, data in current_keys_of(db).items() if data == b"small"]
    target = f"staging/{key}"
    client = raw_client(settings)
    # The source answers late; meanwhile other bytes come under the key.
    proxy.fail(hang(seconds=1), method="GET")
    timer = threading.Timer(0.4, lambda: client.put_object(Bucket=settings.bucket, Key=target, Body=other))
    timer.start()
    assert read_blob(db, "small") == b"small"
    timer.join()
    assert client.get_object(Bucket=settings.bucket, Key=target)["Body"].read() == other
    assert db.storage.overlay.mirrored()["failed"] == 1


@pytest.mark.parametrize("mode", ["on", "background"])
@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (501, "NotImplemented")])
def test_a_bucket_that_does_not_take_it_fails_no_read(make_staging, settings, proxy, caplog, mode, status, code):
    store = dataclasses.replace(settings, prefix="staging", endpoint_url=proxy.endpoint_url, **QUICK)
    staging = mirrored(make_staging, "ours", mode, store=store)
    db = staging.db()
    rule = proxy.fail(answer(status, code), method="PUT", times=math.inf)
    assert {name: read_blob(db, name) for name in CONTENTS} == CONTENTS
    count = len([data for data in CONTENTS.values() if data])
    wait_until(lambda: db.storage.overlay.mirrored()["failed"] == count)
    assert rule.hits >= count and staging.keys() == []
    assert len([r for r in caplog.records if "is not mirrored" in r.getMessage() and r.levelname == "WARNING"]) == 1


@pytest.mark.parametrize("how", ["read-only", "base"])
def test_a_read_only_storage_stores_nothing(make_staging, tmp_path, how):
    staging = mirrored(make_staging, "ours", "on")
    staging.db()
    staging.close()  # the owner's marker is there
    if how == "read-only":
        db = staging.db(read_only=True)
    else:
        path = str(tmp_path / "origin0" / "Data.fs")
        staging.origin.base = lambda: FileStorage(path, read_only=True)
        db = staging.db()
    assert {name: read_blob(db, name) for name in CONTENTS} == CONTENTS
    staging.close()
    assert staging.keys() == []


def test_nothing_in_the_source_changes(make_staging, settings):
    staging = mirrored(make_staging, "ours", "on")
    before = snapshot(settings)
    db = staging.db()
    assert {name: read_blob(db, name) for name in CONTENTS} == CONTENTS
    staging.close()
    assert snapshot(settings) == before


def test_the_storage_closes_while_something_is_being_stored(make_staging, settings, proxy):
    store = dataclasses.replace(settings, prefix="staging", endpoint_url=proxy.endpoint_url)
    staging = mirrored(make_staging, "ours", "background", store=store)
    db = staging.db()
    proxy.fail(hang(seconds=1), method="PUT", times=math.inf)
    for name, data in CONTENTS.items():
        assert read_blob(db, name) == data
    started = time.monotonic()
    staging.close()
    assert time.monotonic() - started < 10
    assert set(stored(staging).values()) <= set(CONTENTS.values())
    assert unfinished_uploads(settings) == []


# Copied by the store

MB = 1024 * 1024


@pytest.mark.usefixtures("store_copies")
def test_a_part_of_a_large_blob_brings_the_whole_into_the_bucket_without_moving_it(make_staging, proxy, settings):
    """Source and bucket in one store: the reader gets its part, the store copies the rest."""
    data = os.urandom(9 * MB)
    staging, source = _large_in_production(make_staging, proxy, settings, data)
    db = staging.db(sources=(source,))
    with connected(db) as connection, connection.root()["video"].open("r") as file:
        file.seek(len(data) - 100)
        assert file.read(100) == data[-100:]
    wait_until(lambda: db.storage.overlay.mirrored()["mirrored"] == 1)
    counts = proxy.counts("/staging/blobs/")
    assert counts.pop("CopyObject") == 1 and set(counts) <= {"GetObject", "HeadObject"}, counts
    assert sum(exchange.bytes_up for exchange in proxy.exchanges if "/blobs/" in exchange.path) == 0
    assert sum(exchange.bytes_down for exchange in proxy.exchanges) < MB
    proxy.reset()
    assert read_blob(db, "video") == data  # the rest: the bucket has it, so nothing of it is sent there
    time.sleep(1)  # a thread that sent it would have begun
    assert set(proxy.counts("/staging/blobs/")) <= {"GetObject", "HeadObject"}, proxy.counts()
    staging.cold()
    assert read_blob(staging.db(sources=()), "video") == data


@pytest.mark.usefixtures("store_copies")
def test_where_the_store_may_not_copy_it_is_stored_when_it_is_whole(make_staging, proxy, settings):
    data = os.urandom(9 * MB)
    staging, source = _large_in_production(make_staging, proxy, settings, data)
    proxy.fail(answer(403, "AccessDenied"), method="PUT", target="/staging/blobs/", times=1)
    db = staging.db(sources=(source,))
    assert read_blob(db, "video") == data
    wait_until(lambda: db.storage.overlay.mirrored()["mirrored"] == 1)
    staging.cold()
    assert read_blob(staging.db(sources=()), "video") == data


def _large_in_production(make_staging, proxy, settings, data):
    """A copy of a site with a large blob; bucket and source are reached at one address."""
    ours = dataclasses.replace(settings, prefix="staging", endpoint_url=proxy.endpoint_url)
    staging = make_staging("ours", store=ours)
    folder = staging.settings.cache_dir.parent / "of-production"
    more = StorageSettings(store=staging.origin.source.store, cache_dir=folder, owner="production")
    db = ZODB.DB(open_storage(staging.origin.base(), more))
    add_blob(db, "video", data)
    db.close()
    proxy.reset()
    source = dataclasses.replace(
        staging.origin.through(proxy.endpoint_url), options=SourceOptions("production", mirror="background")
    )
    return staging, source


@pytest.mark.clear
@pytest.mark.parametrize("theirs", ["none", "client-side"])
@pytest.mark.parametrize("ours", ["none", "client-side"])
def test_each_side_has_a_ring_of_its_own(make_staging, settings, theirs, ours):
    """What production sealed is read with its key, and lies in the copy's bucket under the copy's own key, or none."""
    kinds = {"none": lambda key: None, "client-side": client_side}
    production = dataclasses.replace(settings, encryption=kinds[theirs](b"p" * 32))
    copy = dataclasses.replace(settings, encryption=kinds[ours](b"c" * 32), prefix="staging")
    staging = mirrored(make_staging, "ours", "on", origin_store=production, store=copy)
    db = staging.db()
    expected = current_keys_of(db)
    with connected(db) as connection:
        for name, data in CONTENTS.items():
            assert Path(connection.root()[name].committed()).read_bytes() == data
    assert stored(staging) == expected
    with as_ours(copy) as opened:
        assert {opened.protection(key).mode for key in expected} == {ours}
    other = dataclasses.replace(copy, encryption=client_side(b"x" * 32))
    if ours == "client-side":
        with as_ours(other) as opened, pytest.raises(EncryptionKeyMissing):
            opened.get_bytes(next(iter(expected)))


@pytest.mark.clear
def test_a_source_whose_key_nobody_has_is_not_a_blob_that_is_gone(make_staging, settings):
    production = dataclasses.replace(settings, encryption=client_side(b"p" * 32))
    for other in (None, client_side(b"x" * 32)):
        staging = make_staging(
            "ours",
            lambda origin, other=other: dataclasses.replace(
                origin.source, store=dataclasses.replace(origin.source.store, encryption=other)
            ),
            origin_store=dataclasses.replace(production, bucket=settings.bucket),
        )
        db = staging.db()
        with connected(db) as connection, pytest.raises(Unavailable):
            connection.root()["changed"].open("r").read()
