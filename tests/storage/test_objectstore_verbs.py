"""Every verb of the object store against a real server (``--s3`` chooses which)."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import random
import uuid
from contextlib import closing

import pytest
from servers.faults import answer, hang, reset
from zope.interface.verify import verifyObject

from collective.s3blobstorage.errors import (
    ConfigurationError,
    Corrupt,
    ObjectMissing,
    PreconditionFailed,
    Refused,
    Unavailable,
)
from collective.s3blobstorage.objectstore import copy as copying
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.objectstore.interfaces import IObjectStore

MB = 1024 * 1024
MD5 = hashlib.md5  # ETags
SHA256 = hashlib.sha256


@pytest.fixture(params=["", "a/b"], ids=["no prefix", "prefix a/b"])
def store(request, settings):
    opened = open_store(dataclasses.replace(settings, prefix=request.param))
    opened.open_bucket(True)
    yield opened
    opened.close()


def full(store, key: str) -> str:
    return f"{store.settings.prefix}/{key}" if store.settings.prefix else key


@pytest.fixture
def file(tmp_path):
    """``file(size)`` makes a file of random bytes; ``file(data)`` one of those bytes."""

    def make(content: int | bytes):
        data = random.Random(content).randbytes(content) if isinstance(content, int) else content
        path = tmp_path / f"{len(os.listdir(tmp_path))}.blob"
        path.write_bytes(data)
        return path, data

    return make


def keys_in_bucket(s3, bucket) -> list[str]:
    return [line["Key"] for line in s3.list_objects_v2(Bucket=bucket).get("Contents", ())]


def test_contract(store):
    assert verifyObject(IObjectStore, store)


# Writing and reading back


@pytest.mark.parametrize("size", [0, 1, 1000, MB - 1, MB, MB + 1, 5 * MB, 16 * MB])
def test_one_put(store, s3, bucket, file, size):
    path, data = file(size)
    counted: list[int] = []
    stored = store.put_file("blobs/1", path, metadata={"oid": "0001", "tid": "0002"}, progress=counted.append)
    assert stored.key == "blobs/1" and stored.size == size and stored.sha256 == SHA256(data).digest()
    assert stored.etag == MD5(data).hexdigest()
    assert sum(counted) == size

    raw = s3.get_object(Bucket=bucket, Key=full(store, "blobs/1"))
    assert raw["Body"].read() == data
    assert raw["Metadata"] == {
        "oid": "0001",
        "tid": "0002",
        "size": str(size),
        "sha256": SHA256(data).hexdigest(),
    }
    assert raw["ContentType"] == "application/octet-stream" and raw["ContentDisposition"] == "attachment"

    target = io.BytesIO()
    read = store.get_file("blobs/1", target)
    assert target.getvalue() == data
    assert (read.size, read.sha256, read.etag) == (size, stored.sha256, stored.etag)


@pytest.mark.parametrize("size", [16 * MB + 1, 32 * MB, 32 * MB + 1], ids=["one byte more", "two parts", "three"])
def test_in_parts(store, s3, bucket, file, size):
    path, data = file(size)
    counted: list[int] = []
    stored = store.put_file("blobs/large", path, metadata={"oid": "1"}, progress=counted.append)
    assert stored.sha256 == SHA256(data).digest() and stored.size == size
    assert sum(counted) == size
    parts = [MD5(data[start : start + 16 * MB]).digest() for start in range(0, size, 16 * MB)]
    assert stored.etag == f"{MD5(b''.join(parts)).hexdigest()}-{len(parts)}"

    there = store.head("blobs/large")
    assert there.metadata == {"oid": "1", "size": str(size)} == stored.metadata
    target = io.BytesIO()
    store.get_file("blobs/large", target, size=size, sha256=stored.sha256)
    assert target.getvalue() == data
    assert list(store.list_uploads()) == []


def test_a_given_sha256_goes_into_the_metadata_of_an_upload_in_parts(store, file):
    path, data = file(16 * MB + 1)
    stored = store.put_file("x", path, metadata={}, sha256=SHA256(data).digest())
    assert stored.sha256 == SHA256(data).digest()
    assert store.head("x").metadata["sha256"] == SHA256(data).hexdigest()


def test_put_bytes_and_get_bytes(store):
    stored = store.put_bytes("marker.json", b'{"format": 1}', metadata={"kind": "owner"})
    assert stored.metadata["kind"] == "owner" and stored.size == 13
    assert store.get_bytes("marker.json") == b'{"format": 1}'
    assert store.get_bytes("marker.json", limit=13) == b'{"format": 1}'
    with pytest.raises(Corrupt):
        store.get_bytes("marker.json", limit=12)
    store.put_bytes("empty", b"")
    assert store.get_bytes("empty") == b""


def test_keys_of_every_kind(store):
    keys = ["plain", "with space", "plus+sign", "ümläut/ß", "per%20cent", "a=b&c", "日本", "q?uestion#hash"]
    for key in keys:
        store.put_bytes(key, key.encode())
    assert [store.get_bytes(key) for key in keys] == [key.encode() for key in keys]
    assert [line.key for line in store.list()] == sorted(keys, key=str.encode)
    copied = store.copy("per%20cent", "plus+copy of ü")
    assert copied.size == 10 and store.get_bytes("plus+copy of ü") == b"per%20cent"
    store.delete([*keys, "plus+copy of ü"])
    assert list(store.list()) == []


# Conditions


@pytest.mark.parametrize("size", [10, 2 * MB, 16 * MB + 1], ids=["bytes", "stream", "parts"])
def test_if_absent_keeps_what_is_there(store, file, size):
    path, data = file(size)
    other, _ = file(b"other" * (size // 5))
    store.put_file("once", path, metadata={}, if_absent=True)
    for attempt in (other, path):
        with pytest.raises(PreconditionFailed):
            store.put_file("once", attempt, metadata={}, if_absent=True)
    target = io.BytesIO()
    store.get_file("once", target)
    assert target.getvalue() == data
    assert list(store.list_uploads()) == []


def test_if_absent_where_the_store_has_no_conditions(store, file):
    store.conditional_put = False
    path, data = file(10)
    store.put_file("once", path, metadata={}, if_absent=True)
    store.put_bytes("marker", b"x", if_absent=True)
    with pytest.raises(PreconditionFailed):
        store.put_file("once", path, metadata={}, if_absent=True)
    with pytest.raises(PreconditionFailed):
        store.put_bytes("marker", b"y", if_absent=True)
    assert store.get_bytes("marker") == b"x"


def test_without_a_condition_a_key_is_written_again(store):
    store.put_bytes("key", b"first")
    store.put_bytes("key", b"second")
    assert store.get_bytes("key") == b"second"


# Missing


def test_a_missing_key(store):
    assert store.head("nothing") is None
    with pytest.raises(ObjectMissing) as raised:
        store.get_file("nothing", io.BytesIO())
    assert "nothing" not in str(raised.value) and raised.value.__cause__ is None
    with pytest.raises(ObjectMissing):
        store.get_bytes("nothing")
    with pytest.raises(ObjectMissing):
        store.copy("nothing", "x")
    store.delete(["nothing"])
    store.delete(["nothing", "nowhere"])
    store.delete([])


def test_a_bucket_that_vanished_is_no_missing_object(settings):
    store = open_store(dataclasses.replace(settings, bucket="vanished-" + settings.bucket))
    with pytest.raises(Unavailable):
        store.get_bytes("x")
    with pytest.raises(Unavailable):
        list(store.list())
    store.close()


# What is wrong is noticed


def test_a_changed_object_is_corrupt(store, s3, bucket, file):
    path, data = file(1000)
    store.put_file("x", path, metadata={})
    metadata = store.head("x").metadata
    for damaged in (data[:-1], data + b"x", bytes([data[0] ^ 1]) + data[1:]):
        s3.put_object(Bucket=bucket, Key=full(store, "x"), Body=damaged, Metadata=dict(metadata))
        with pytest.raises(Corrupt):
            store.get_file("x", io.BytesIO())
        with pytest.raises(Corrupt):
            store.get_file("x", io.BytesIO(), size=1000, sha256=SHA256(data).digest())
        with pytest.raises(Corrupt):
            store.get_bytes("x")


def test_what_the_caller_knows_counts_more_than_the_metadata(store):
    store.put_bytes("x", b"abc")
    with pytest.raises(Corrupt):
        store.get_file("x", io.BytesIO(), sha256=SHA256(b"abd").digest())
    with pytest.raises(Corrupt):
        store.get_file("x", io.BytesIO(), size=4)


def test_an_object_of_another_program_has_no_metadata(store, s3, bucket):
    s3.put_object(Bucket=bucket, Key=full(store, "old"), Body=b"abc")
    target = io.BytesIO()
    read = store.get_file("old", target)
    assert target.getvalue() == b"abc" and read.sha256 == SHA256(b"abc").digest()
    assert store.head("old").metadata == {}


def test_the_targets_own_error_goes_through(store):
    store.put_bytes("x", b"abc")

    class FullDisk(io.BytesIO):
        def write(self, block):
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        store.get_file("x", FullDisk())
    closed = io.BytesIO()
    closed.close()
    with pytest.raises(ValueError, match="closed file"):
        store.get_file("x", closed)
    assert store.get_bytes("x") == b"abc"


def test_a_target_that_takes_a_little_at_a_time(store, file):
    path, data = file(100_000)
    store.put_file("x", path, metadata={})

    class Slow(io.BytesIO):
        def write(self, block):
            return super().write(block[:777])

    target = Slow()
    store.get_file("x", target)
    assert target.getvalue() == data


# Copying


def test_copy(store, s3, bucket, file):
    path, data = file(5000)
    store.put_file("from", path, metadata={"oid": "1"})
    source = store.head("from")
    copied = store.copy("from", "to", if_match=source.etag)
    assert (copied.key, copied.size, copied.metadata) == ("to", 5000, source.metadata)
    there = store.head("to")
    assert there.metadata == source.metadata and there.etag == copied.etag
    assert s3.head_object(Bucket=bucket, Key=full(store, "to"))["ContentDisposition"] == "attachment"
    target = io.BytesIO()
    store.get_file("to", target)
    assert target.getvalue() == data


def test_copy_with_new_metadata_also_onto_itself(store):
    store.put_bytes("x", b"abc", metadata={"old": "1"})
    for target in ("y", "x"):
        store.copy("x", target, metadata={"new": "2"})
        assert store.head(target).metadata == {"new": "2"}
        assert store.get_bytes(target) == b"abc"


def test_copy_of_a_changed_source(store):
    etag = store.put_bytes("x", b"abc").etag
    store.put_bytes("x", b"other")
    with pytest.raises(PreconditionFailed):
        store.copy("x", "y", if_match=etag)
    assert store.head("y") is None


def test_copy_of_an_object_in_parts(store, file):
    path, data = file(16 * MB + 1)
    store.put_file("x", path, metadata={"oid": "1"})
    store.copy("x", "y")
    target = io.BytesIO()
    read = store.get_file("y", target, sha256=SHA256(data).digest())
    assert read.metadata["oid"] == "1"


@pytest.fixture
def in_parts(monkeypatch):
    """What is done above 1 GiB in parts of 256 MiB is done here above 12 MiB in parts of 6."""
    monkeypatch.setattr(copying, "IN_ONE", 12 * MB)
    monkeypatch.setattr(copying, "COPY_PART", 6 * MB)


def test_multipart_copy(store, file, in_parts):
    path, data = file(16 * MB + 1)
    store.put_file("x", path, metadata={"oid": "1"})
    source = store.head("x")
    counted: list[int] = []
    copied = store.copy("x", "y", progress=counted.append)
    assert copied.size == source.size and copied.metadata == source.metadata and copied.etag.endswith("-3")
    assert sorted(counted) == [4 * MB + 1, 6 * MB, 6 * MB]
    store.get_file("y", io.BytesIO(), size=len(data), sha256=SHA256(data).digest())
    assert list(store.list_uploads()) == []


@pytest.fixture
def through(settings, proxy):
    with closing(open_store(dataclasses.replace(settings, endpoint_url=proxy.endpoint_url))) as store:
        yield store


@pytest.mark.parametrize("target", ["y", "x"], ids=["to another key", "in place"])
def test_a_multipart_copy_whose_last_answer_is_lost_is_kept(through, proxy, file, in_parts, target):
    """Asked once more the store knows of no such upload: the object tells that it was done."""
    path, data = file(16 * MB + 1)
    through.put_file("x", path, metadata={"oid": "1"})
    lost = proxy.fail(reset("answer"), method="POST", target="uploadId=")
    copied = through.copy("x", target, metadata={"oid": "2"})
    assert lost.hits == 1 and copied.etag.endswith("-3")
    assert through.head(target).metadata == {"oid": "2"}
    through.get_file(target, io.BytesIO(), size=len(data), sha256=SHA256(data).digest())
    assert list(through.list_uploads()) == []


def test_a_multipart_copy_that_is_not_done_leaves_nothing(through, proxy, file, in_parts):
    """Neither where a part is refused while others are copied, nor where all of it is gone in the end."""
    path, data = file(30 * MB)
    through.put_file("x", path, metadata={"oid": "1"})
    proxy.fail(answer(403, "AccessDenied"), method="PUT", target="partNumber=2")
    with pytest.raises(Refused):
        through.copy("x", "y")
    proxy.forgive()
    assert through.head("y") is None and list(through.list_uploads()) == []
    proxy.fail(answer(404, "NoSuchUpload"), method="POST", target="uploadId=")
    with pytest.raises(Unavailable):
        through.copy("x", "y")
    proxy.forgive()
    assert through.head("y") is None and list(through.list_uploads()) == []


def test_parts_are_copied_at_the_same_time(through, proxy, file, in_parts):
    """The first one takes its time: the others are done before it."""
    path, _data = file(30 * MB + 1)
    through.put_file("x", path, metadata={})
    proxy.fail(hang("before", seconds=5.0), method="PUT", target="partNumber=1")
    counted: list[int] = []
    through.copy("x", "y", progress=counted.append)
    assert counted[-1] == 6 * MB and sorted(counted) == [1, *[6 * MB] * 5]


@pytest.fixture
def other(settings, s3):
    """Another bucket of the same store, opened for reading, and a store that fills it."""
    bucket = f"other-{uuid.uuid4().hex[:20]}"
    s3.create_bucket(Bucket=bucket)
    elsewhere = dataclasses.replace(settings, bucket=bucket, prefix="production")
    with closing(open_store(elsewhere)) as writer, closing(open_store(elsewhere, read_only=True)) as reader:
        yield reader, writer


@pytest.mark.parametrize("count", [1, 3], ids=["one request", "in parts"])
def test_copy_from_another_bucket(store, other, file, count, request):
    if count > 1:
        request.getfixturevalue("in_parts")
    reader, writer = other
    path, data = file(16 * MB + 1)
    writer.put_file("x", path, metadata={"oid": "1"})
    source = reader.head("x")
    copied = store.copy_from(reader, source, "y", metadata={"new": "2"})
    assert copied.etag.endswith("-3") == (count > 1)
    assert copied.size == len(data) and store.head("y").metadata == {"new": "2"}
    store.get_file("y", io.BytesIO(), size=len(data), sha256=SHA256(data).digest())
    assert reader.head("x") == source and list(store.list_uploads()) == []


def test_what_cannot_be_copied_from_another_bucket_is_left_to_the_caller(store, other, settings, proxy):
    reader, writer = other
    old = writer.put_bytes("x", b"abc")
    writer.put_bytes("x", b"other")
    assert store.copy_from(reader, old, "y", metadata={}) is None  # it was changed since
    assert store.copy_from(reader, dataclasses.replace(old, key="nothing"), "y", metadata={}) is None
    elsewhere = dataclasses.replace(reader.settings, endpoint_url=proxy.endpoint_url)
    with closing(open_store(elsewhere, read_only=True)) as away:
        assert store.copy_from(away, away.head("x"), "y", metadata={}) is None  # another address
    assert store.head("y") is None


def test_a_copy_that_may_not_read_there_is_left_to_the_caller(settings, other, proxy):
    reader, writer = other
    through = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url)
    writer.put_bytes("x", b"abc")
    with (
        closing(open_store(through)) as store,
        closing(open_store(dataclasses.replace(reader.settings, endpoint_url=proxy.endpoint_url))) as source,
    ):
        proxy.fail(answer(403, "AccessDenied"), method="PUT", times=1)
        assert store.copy_from(source, source.head("x"), "y", metadata={}) is None
        proxy.fail(answer(501, "NotImplemented"), method="PUT", times=1)
        assert store.copy_from(source, source.head("x"), "y", metadata={}) is None
        assert store.copy_from(source, source.head("x"), "y", metadata={}).size == 3


# Deleting and listing


def test_delete(store, s3, bucket):
    for number in range(5):
        store.put_bytes(f"k{number}", b"x")
    s3.put_object(Bucket=bucket, Key="k0-outside", Body=b"not ours")
    store.delete(f"k{number}" for number in (0, 2, 4))
    assert [line.key for line in store.list("k") if not line.key.endswith("outside")] == ["k1", "k3"]
    store.delete(["k1"])
    assert store.head("k1") is None
    assert "k0-outside" in keys_in_bucket(s3, bucket)


def test_more_than_a_thousand_keys(store):
    """Sorted as bytes, in pages, and deleted in two batches."""
    keys = [f"blobs/{number:04x}/{'é' if number % 7 else 'z'}{number}" for number in range(1005)]
    for key in keys:
        store.put_bytes(key, b"")
    store.put_bytes("blobs-not/x", b"")
    listed = list(store.list("blobs/"))
    assert [line.key for line in listed] == sorted(keys, key=str.encode)
    assert {line.size for line in listed} == {0} and {line.etag for line in listed} == {MD5(b"").hexdigest()}
    assert all(line.last_modified.tzinfo is not None for line in listed)
    middle = listed[500].key
    assert [line.key for line in store.list("blobs/", start_after=middle)] == [line.key for line in listed[501:]]
    assert [line.key for line in store.list("blobs/0001/", page_size=1)] == [listed[1].key]
    assert len(list(store.list("", page_size=100))) == 1006
    store.delete(keys)
    assert [line.key for line in store.list()] == ["blobs-not/x"]


def test_a_listing_never_leaves_the_prefix(settings, s3, bucket):
    store = open_store(dataclasses.replace(settings, prefix="a/b"))
    for key in ("a/b", "a/b/inside", "a/bc/outside", "a/c", "z"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    assert [line.key for line in store.list()] == ["inside"]
    assert [line.key for line in store.list(start_after="inside")] == []
    store.close()


def test_unfinished_uploads(store, s3, bucket):
    made = s3.create_multipart_upload(Bucket=bucket, Key=full(store, "blobs/left"))
    s3.create_multipart_upload(Bucket=bucket, Key=full(store, "other/left"))
    found = list(store.list_uploads("blobs/"))
    assert [(key, upload) for key, upload, _ in found] == [("blobs/left", made["UploadId"])]
    assert found[0][2].tzinfo is not None
    assert len(list(store.list_uploads())) == 2
    store.abort_upload("blobs/left", made["UploadId"])
    store.abort_upload("blobs/left", made["UploadId"])
    assert list(store.list_uploads("blobs/")) == []


# Opening


def test_open_bucket_creates_only_where_it_may(settings, s3):
    name = settings.bucket + "-new"
    missing = dataclasses.replace(settings, bucket=name)
    for wrong, writable in ((missing, True), (dataclasses.replace(missing, create_bucket=True), False)):
        store = open_store(wrong)
        with pytest.raises(ConfigurationError, match="bucket-name.*create-bucket"):
            store.open_bucket(writable)
        store.close()
    store = open_store(dataclasses.replace(missing, create_bucket=True), read_only=True)
    with pytest.raises(ConfigurationError):
        store.open_bucket(True)
    store.close()
    store = open_store(dataclasses.replace(missing, create_bucket=True))
    try:
        store.open_bucket(True)
        store.open_bucket(True)
        store.put_bytes("x", b"abc")
        store.delete(["x"])
    finally:
        s3.delete_bucket(Bucket=name)
        store.close()


def test_open_bucket_with_wrong_credentials(settings):
    for wrong, named in (
        ({"secret_key": "not-the-secret-key-at-all"}, "s3-secret-key"),
        ({"access_key": "AKIANOBODY0000000000"}, "s3-access-key"),
    ):
        store = open_store(dataclasses.replace(settings, **wrong))
        with pytest.raises(ConfigurationError, match=named) as raised:
            store.open_bucket(True)
        assert "not-the-secret" not in str(raised.value)
        assert raised.value.__cause__ is None
        with pytest.raises(Refused):
            store.get_bytes("x")
        with pytest.raises(Refused):
            store.put_bytes("x", b"")
        with pytest.raises(Refused):
            store.head("x")
        with pytest.raises(Refused):
            store.delete(["x", "y"])
        store.close()


def test_read_only_refuses_every_writing_verb(settings, file):
    writer = open_store(settings)
    writer.put_bytes("x", b"abc")
    writer.close()
    store = open_store(settings, read_only=True)
    store.open_bucket(False)
    assert store.get_bytes("x") == b"abc"
    path, _ = file(1)
    for verb in (
        lambda: store.put_bytes("y", b""),
        lambda: store.put_file("y", path, metadata={}),
        lambda: store.copy("x", "y"),
        lambda: store.delete(["x"]),
        lambda: store.abort_upload("x", "y"),
    ):
        with pytest.raises(Refused, match="read-only"):
            verb()
    assert [line.key for line in store.list()] == ["x"]
    store.close()


def test_closing_twice_and_using_it_afterwards(settings, file):
    store = open_store(settings)
    path, _ = file(16 * MB + 1)
    store.put_file("x", path, metadata={})
    store.close()
    store.close()
    with pytest.raises(Unavailable, match="closed"):
        store.put_file("x", path, metadata={})
    assert list(open_store(settings).list_uploads()) == []


def test_identity_and_repr_hold_no_secret(settings):
    store = open_store(dataclasses.replace(settings, prefix="p"))
    assert store.identity == f"{settings.endpoint_url} {settings.bucket} p"
    assert settings.secret_key not in repr(store) + repr(settings)
    store.close()
