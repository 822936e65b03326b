"""``put_file(if_match)`` replaces one object and no other, and ``get_file(version)`` reads what readers do not get."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os

import pytest
from servers import faults
from sites import raw_client

from collective.s3blobstorage.errors import Corrupt, ObjectMissing, PreconditionFailed
from collective.s3blobstorage.keys import blob_key, draw_name
from collective.s3blobstorage.objectstore import open_store

KEY = blob_key(bytes(8), draw_name())
MB = 1024 * 1024


@pytest.fixture
def store(settings):
    opened = open_store(settings)
    yield opened
    opened.close()


@pytest.fixture
def put(store, tmp_path):
    def put(data, key=KEY, **options):
        path = tmp_path / "file"
        path.write_bytes(data)
        return store.put_file(key, path, metadata={"oid": "00" * 8}, **options)

    return put


def whole(store, key=KEY, **options):
    file = io.BytesIO()
    info = store.get_file(key, file, **options)
    return file.getvalue(), info


@pytest.mark.parametrize("size", [1000, 2 * MB, 20 * MB], ids=["small", "one PUT", "in parts"])
def test_only_the_object_that_was_looked_at_is_replaced(store, put, size):
    put(b"wrong" * 10)
    etag = store.head(KEY).etag
    right = os.urandom(size)
    replaced = put(right, if_match=etag)
    assert replaced.size == size and whole(store)[0] == right
    with pytest.raises(PreconditionFailed):
        put(b"another", if_match=etag)
    assert whole(store)[0] == right
    store.delete([KEY])
    with pytest.raises(PreconditionFailed):
        put(right, if_match=etag)
    assert store.head(KEY) is None


def test_one_that_is_changed_between_the_look_and_the_request_stays(store, put, settings, monkeypatch):
    """The store is asked too: between a HEAD and a PUT somebody else may be faster."""
    put(b"wrong")
    etag = store.head(KEY).etag
    looked = store.as_stored

    def and_then_changed(key, version=""):
        found = looked(key, version)
        monkeypatch.setattr(store, "as_stored", looked)
        raw_client(settings).put_object(Bucket=settings.bucket, Key=store.connection.full_key(KEY), Body=b"the other")
        return found

    monkeypatch.setattr(store, "as_stored", and_then_changed)
    with pytest.raises(PreconditionFailed):
        put(b"right", if_match=etag)
    body = raw_client(settings).get_object(Bucket=settings.bucket, Key=store.connection.full_key(KEY))["Body"]
    assert body.read() == b"the other"


def test_an_answer_that_was_lost_is_no_conflict(settings, proxy, tmp_path):
    store = open_store(dataclasses.replace(settings, endpoint_url=proxy.endpoint_url))
    try:
        path = tmp_path / "file"
        path.write_bytes(b"wrong")
        store.put_file(KEY, path, metadata={})
        etag = store.head(KEY).etag
        path.write_bytes(b"right")
        proxy.fail(faults.reset("answer"), method="PUT", times=1)
        proxy.reset()
        store.put_file(KEY, path, metadata={}, if_match=etag)
        assert proxy.counts("/blobs/")["PutObject"] == 2
        assert whole(store)[0] == b"right"
    finally:
        store.close()


def test_an_older_version_is_read_and_compared(store, put, s3, settings):
    s3.put_bucket_versioning(Bucket=settings.bucket, VersioningConfiguration={"Status": "Enabled"})
    right = os.urandom(100_000)
    put(right)
    put(b"wrong" * 1000)
    store.delete([KEY])
    with pytest.raises(ObjectMissing):
        whole(store)
    found = [version for version in store.list_versions(KEY) if not version.is_marker]
    data, info = whole(store, version=found[1].version)
    assert data == right and info.sha256 == hashlib.sha256(right).digest() and info.metadata["size"] == "100000"
    with pytest.raises(Corrupt):
        whole(store, version=found[0].version, size=100_000)
    with pytest.raises(Corrupt):
        whole(store, version=found[0].version, sha256=hashlib.sha256(right).digest())


def test_also_in_a_bucket_that_keeps_versions(store, put, s3, settings):
    s3.put_bucket_versioning(Bucket=settings.bucket, VersioningConfiguration={"Status": "Enabled"})
    put(b"wrong")
    etag = store.head(KEY).etag
    put(b"right", if_match=etag)
    assert whole(store)[0] == b"right"
    with pytest.raises(PreconditionFailed):
        put(b"another", if_match=etag)
    assert whole(store)[0] == b"right"
