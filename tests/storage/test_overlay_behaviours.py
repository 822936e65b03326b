"""Each behaviour of a read-through overlay, one test each: production's bucket behind a bucket of ours."""

from __future__ import annotations

import dataclasses
import math
import os
import socket
import uuid

import pytest
from origins import CONTENTS, LARGE, PARTS, QUICK, Staging, large_reader, make_origin, snapshot
from servers.faults import answer
from sites import commit_blobs, connected, raw_client, read_blob
from test_secrets import temporary_keys
from ZODB.POSException import POSKeyError

from collective.s3blobstorage.errors import Unavailable
from collective.s3blobstorage.settings import StorageSettings


@pytest.fixture
def ours(settings):
    """A bucket that is not there yet."""
    return dataclasses.replace(settings, bucket=f"ours-{uuid.uuid4().hex[:20]}", create_bucket=True, prefix="")


@pytest.fixture
def overlay(make_staging, proxy, ours):
    """``overlay(**changes)``: a staging copy whose source is production's bucket, behind the proxy; not mirrored."""

    def make(origin="ours", **changes):
        changes.setdefault("endpoint_url", proxy.endpoint_url)
        endpoint = changes.pop("endpoint_url")
        staging = make_staging(origin, source=lambda made: made.through(endpoint, **changes), store=ours)
        staging.before = snapshot(staging.origin.source.store)
        return staging

    return make


def mirrored(staging):
    """The same source, whose blobs come into the bucket before the reader gets them."""
    [source] = staging.settings.sources
    return (dataclasses.replace(source, options=dataclasses.replace(source.options, mirror="on")),)


def test_get(overlay, proxy):
    staging = overlay()
    assert read_blob(staging.db(), "small") == CONTENTS["small"]
    assert proxy.counts() == {"GetObject": 1}


def test_head_moves_no_body(overlay, proxy):
    with connected(overlay("ours-nameless").db()) as connection, connection.root()["large"].open("r") as file:
        assert file.seek(0, os.SEEK_END) == len(LARGE)
    assert proxy.counts() == {"HeadObject": 1} and proxy.exchanges[0].bytes_down == 0


def test_the_size_of_a_named_blob_costs_nothing(overlay, proxy):
    with connected(overlay().db()) as connection, connection.root()["large"].open("r") as file:
        assert file.seek(0, os.SEEK_END) == len(LARGE)
    assert proxy.counts() == {}


def test_ranges(overlay, proxy):
    with large_reader(overlay().db()) as file:
        for start, length in ((len(LARGE) - 5, 5), (3, 9)):
            file.seek(start)
            assert file.read(length) == LARGE[start : start + length]
    assert sum(exchange.bytes_down for exchange in proxy.exchanges) < len(LARGE)


def test_large_objects_come_by_parts(overlay, proxy):
    with large_reader(overlay().db()) as file:
        file.seek(len(LARGE) - 1)
        file.read(1)
    [exchange] = proxy.exchanges
    assert exchange.status == 206 and exchange.bytes_down <= PARTS["part_size"]


def test_the_bucket_is_made_by_itself(overlay, ours):
    staging = overlay()
    assert ours.bucket not in [each["Name"] for each in raw_client(ours).list_buckets()["Buckets"]]
    db = staging.db()
    assert read_blob(db, "small") == CONTENTS["small"]
    commit_blobs(db, new=b"new")
    assert len(staging.keys()) == 1


def test_without_a_source_what_the_bucket_has_is_all(overlay, proxy):
    """Local only: what was mirrored is there, the rest is missing, and nobody is asked."""
    staging = overlay()
    db = staging.db(sources=mirrored(staging))
    assert read_blob(db, "small") == CONTENTS["small"]
    staging.cold()
    proxy.reset()
    db = staging.db(sources=())
    assert read_blob(db, "small") == CONTENTS["small"]
    with pytest.raises(POSKeyError):
        read_blob(db, "changed")
    assert proxy.counts() == {}


def test_each_database_has_its_bucket_behind_its_own(settings, tmp_path, ours):
    """Two databases, two buckets of production, two of ours: each reads its own."""
    made = []
    for number in range(2):
        production = dataclasses.replace(settings, bucket=f"production{number}-{uuid.uuid4().hex[:12]}")
        raw_client(settings).create_bucket(Bucket=production.bucket)
        origin = make_origin("ours", tmp_path / f"origin{number}", production)
        store = dataclasses.replace(ours, bucket=f"{ours.bucket}-{number}")
        more = {"owner": f"staging{number}", "sources": (origin.with_options(mirror="on"),), **PARTS}
        made.append(Staging(origin, StorageSettings(store=store, cache_dir=tmp_path / "cache", **more)))
    try:
        for number, staging in enumerate(made):
            db = staging.db()
            commit_blobs(db, mine=f"of {number}".encode())
            assert read_blob(db, "small") == CONTENTS["small"]
        for number, staging in enumerate(made):
            staging.cold()
            assert len(staging.keys()) == 2
            db = staging.db(sources=())
            assert read_blob(db, "mine") == f"of {number}".encode() and read_blob(db, "small") == CONTENTS["small"]
    finally:
        for staging in made:
            staging.close()


@pytest.mark.parametrize("style", ["path", "virtual"])
def test_addressing(overlay, proxy, settings, monkeypatch, pytestconfig, style):
    """The bucket in the path, or in the name of the host."""
    if style == "virtual" and pytestconfig.getoption("--s3").startswith("ceph"):
        pytest.skip("the tests' Ceph is told no name of its own (rgw_dns_name)")
    if settings.ca_bundle:
        pytest.skip("its certificate is of 127.0.0.1")
    host, resolve = f"s3.{uuid.uuid4().hex[:8]}.test", socket.getaddrinfo

    def resolved(name, *args, **kwargs):
        asked = name.decode() if isinstance(name, bytes) else name
        return resolve("127.0.0.1" if asked and asked.endswith(host) else name, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    port = proxy.endpoint_url.rpartition(":")[2]
    staging = overlay(endpoint_url=f"http://{host}:{port}", addressing_style=style)
    db = staging.db()
    assert {name: read_blob(db, name) for name in CONTENTS} == CONTENTS
    in_path = [exchange.path.startswith(f"/{settings.bucket}/") for exchange in proxy.exchanges]
    assert in_path and set(in_path) == {style == "path"}


def test_a_session_token(overlay, settings):
    access_key, secret_key, token = temporary_keys(settings)
    keys = {"access_key": access_key, "secret_key": secret_key}
    db = overlay(**keys, session_token=token).db()
    assert {name: read_blob(db, name) for name in CONTENTS} == CONTENTS


def test_a_refusal_is_not_missing(overlay, proxy):
    staging = overlay(**QUICK)
    proxy.fail(answer(403, "AccessDenied"), times=math.inf)
    db = staging.db()
    with pytest.raises(Unavailable, match="Source 'production'"):
        read_blob(db, "small")


def test_production_is_only_read(overlay, proxy):
    staging = overlay()
    db = staging.db(sources=mirrored(staging))
    for name in CONTENTS:
        read_blob(db, name)
    commit_blobs(db, small=b"changed here", new=b"new")
    with connected(db) as connection:
        del connection.root()["empty"]
        connection.transaction_manager.commit()
    db.pack()
    assert snapshot(staging.origin.source.store) == staging.before
    assert proxy.exchanges and {exchange.method for exchange in proxy.exchanges} <= {"GET", "HEAD"}


def test_what_was_read_once_is_read_from_the_cache(overlay, proxy):
    staging = overlay()
    db = staging.db()
    read_blob(db, "small")
    proxy.reset()
    proxy.fail(answer(503), times=math.inf)
    assert read_blob(db, "small") == CONTENTS["small"]
    assert proxy.counts() == {}
