"""Objects of an add-on's own, on a real server behind a proxy that counts and disturbs (``--s3`` chooses which)."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import random
from datetime import UTC, datetime, timedelta

import pytest
from rings import customer_key, sse_c
from servers.faults import answer, flip, reset, truncate
from servers.proxy import Proxy
from test_presign import asked, form_of
from zope.interface.verify import verifyObject

from collective.s3blobstorage.encryption.none import NoEncryption
from collective.s3blobstorage.errors import (
    ConfigurationError,
    Corrupt,
    EncryptionNotHonoured,
    ObjectMissing,
    PreconditionFailed,
    Refused,
    StoreError,
    TooLarge,
    Unavailable,
)
from collective.s3blobstorage.objectspace import ObjectSpace
from collective.s3blobstorage.objectspace import space as module
from collective.s3blobstorage.objectspace.interfaces import Deletion, IObjectSpace
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.settings import DeliverySettings

MB = 1024 * 1024
NAME = "collective.x"
OTHER_KEY = hashlib.sha256(b"an add-on's key").digest()


def data_of(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.fixture
def store(settings, proxy):
    opened = open_store(dataclasses.replace(settings, prefix="p", endpoint_url=proxy.endpoint_url))
    opened.open_bucket(True)
    proxy.reset()
    yield opened
    opened.close()


@pytest.fixture
def folder(tmp_path):
    """Where binary files wait; nothing is left there."""
    made = tmp_path / "waiting"
    made.mkdir()
    yield made
    assert list(made.iterdir()) == []


@pytest.fixture
def make_space(store, folder):
    def make(name: str = NAME, **more) -> ObjectSpace:
        return ObjectSpace(store, name, **{"prefix": "p", "folder": lambda: folder, **more})

    return make


@pytest.fixture
def space(make_space):
    return make_space()


@pytest.fixture
def in_bucket(s3, bucket):
    """Everything that is in the bucket, whole keys."""
    return lambda: [line["Key"] for line in s3.list_objects_v2(Bucket=bucket).get("Contents", ())]


def test_contract(space):
    assert verifyObject(IObjectSpace, space)
    assert repr(space) == f"<ObjectSpace of {NAME}>"


# Put and get


@pytest.mark.parametrize("size", [0, 1000, MB + 1, 16 * MB + 1])
@pytest.mark.parametrize("kind", ["bytes", "bytearray", "memoryview", "path", "file", "stream"])
def test_put_and_get_of_every_kind(space, s3, bucket, in_bucket, tmp_path, size, kind):
    data = data_of(size)
    path = tmp_path / "file"
    path.write_bytes(data)
    source = {
        "bytes": lambda: data,
        "bytearray": lambda: bytearray(data),
        "memoryview": lambda: memoryview(data),
        "path": lambda: path,
        "file": lambda: path.open("rb"),
        "stream": lambda: io.BytesIO(data),
    }[kind]()
    counted: list[int] = []
    stored = space.put("a/b.bin", source, metadata={"report-year": "2026"}, progress=counted.append)
    assert (stored.key, stored.size, stored.sha256) == ("a/b.bin", size, hashlib.sha256(data).digest())
    assert sum(counted) == size
    assert in_bucket() == ["p/addons/collective.x/a/b.bin"]
    raw = s3.head_object(Bucket=bucket, Key="p/addons/collective.x/a/b.bin")
    assert (raw["ContentType"], raw["ContentDisposition"]) == ("application/octet-stream", "attachment")
    there = space.head("a/b.bin")
    assert (there.key, there.size, there.etag) == ("a/b.bin", size, stored.etag)
    assert there.metadata["report-year"] == "2026"
    counted.clear()
    assert space.get("a/b.bin", limit=max(size, 1), progress=counted.append) == data and sum(counted) == size


def test_a_file_is_put_from_its_position_on(space):
    file = io.BytesIO(b"0123456789")
    file.seek(4)
    space.put("x", file)
    assert space.get("x") == b"456789"


def test_what_is_no_source_of_bytes(space, proxy, tmp_path):
    text = tmp_path / "text"
    text.write_text("text")
    with text.open() as file, pytest.raises(TypeError, match="open it for reading bytes"):
        space.put("x", file)
    for wrong in ("text", str(text), 1, None, [b"x"]):
        with pytest.raises(TypeError, match="a path or a binary file"):
            space.put("x", wrong)
    with pytest.raises(OSError):
        space.put("x", tmp_path / "none")
    assert proxy.exchanges == []


def test_put_only_where_nothing_is(space):
    space.put("x", b"first", if_absent=True)
    for second in (b"second", io.BytesIO(b"second")):
        with pytest.raises(PreconditionFailed):
            space.put("x", second, if_absent=True)
    assert space.get("x") == b"first"
    space.put("x", b"third")
    assert space.get("x") == b"third"


def test_more_than_the_limit_is_not_taken_into_memory(space, proxy):
    space.put("x", data_of(2 * MB))
    assert len(space.get("x", limit=2 * MB)) == 2 * MB
    with pytest.raises(TooLarge, match="2097151 bytes"):
        space.get("x", limit=2 * MB - 1)


def test_what_is_not_there(space):
    assert space.head("x") is None
    for verb in (
        lambda: space.get("x"),
        lambda: space.get_range("x", 0, 1),
        lambda: next(space.stream("x")),
        lambda: space.copy("x", "y"),
    ):
        with pytest.raises(ObjectMissing):
            verb()


def test_other_bytes_are_told_and_taken_back(space, proxy):
    data = data_of(MB)
    space.put("x", data)
    counted: list[int] = []
    proxy.fail(flip(500_000), method="GET")
    assert space.get("x", progress=counted.append) == data
    assert sum(counted) == MB and min(counted) == -MB
    proxy.fail(flip(500_000), method="GET", times=100)
    with pytest.raises(Corrupt):
        space.get("x")


ODD = [
    "plain",
    "with space",
    "plus+sign",
    "ümläut/ß",
    "per%20cent",
    "a=b&c",
    "日本/😀",
    "q?uestion#hash",
    "..a/b..",
    "<&>'\"",
]


def test_keys_of_every_kind(space, make_space):
    for key in ODD:
        space.put(key, key.encode())
    assert [space.get(key).decode() for key in ODD] == ODD
    assert [line.key for line in space.list()] == sorted(ODD, key=str.encode)
    for key in ODD:
        assert space.copy(key, f"copy/{key}").key == f"copy/{key}"
        assert asked("GET", space.presigned_get(key, seconds=60).url)[2] == key.encode()
    assert space.delete_many(ODD, dry_run=False) == Deletion(deleted=len(ODD))
    assert [line.key for line in space.list()] == sorted((f"copy/{key}" for key in ODD), key=str.encode)
    longest = "ü" * ((1024 - len("p/addons/collective.x/")) // 2)
    space.put(longest, b"x")
    assert space.get(longest) == b"x"


BLOB = "blobs/0000000000000001/" + "a" * 32


@pytest.mark.parametrize(
    "key", ["", "/", f"../../{BLOB}", f"/p/{BLOB}", "../collective.y/x", "./x", "a//b", "x\0", ".s3blobs.json"]
)
def test_no_key_gets_out_of_the_space(space, make_space, store, proxy, key):
    store.put_bytes(BLOB, b"a blob")
    proxy.reset()
    other = make_space("collective.y")
    for verb in (
        lambda: space.put(key, b"x"),
        lambda: space.copy(key, "x"),
        lambda: space.copy("x", key),
        lambda: space.copy(key, "x", source=other),
        lambda: space.delete_many(["x", key], dry_run=False),
        lambda: space.delete_prefix(f"{key}/", dry_run=False),
        lambda: space.head(key),
        lambda: space.get(key),
        lambda: space.get_range(key, 0, 1),
        lambda: space.stream(key),
        lambda: space.presigned_get(key, seconds=60),
        lambda: space.presigned_put(key, seconds=60, size=1),
        lambda: space.presigned_post(key, seconds=60, most=1),
        lambda: space.durable_url(key),
    ):
        with pytest.raises(ValueError):
            verb()
    assert proxy.exchanges == []


def test_a_wrong_name_is_no_space(make_space):
    for name in ("", "..", "a/b", "Collective", "a" * 65):
        with pytest.raises(ValueError, match="example: collective.reports"):
            make_space(name)


# Ranges and streams


def test_ranges(space):
    data = data_of(10_000)
    space.put("x", data)
    etag = space.head("x").etag
    counted: list[int] = []
    assert space.get_range("x", 100, 50, progress=counted.append) == data[100:150] and sum(counted) == 50
    assert space.get_range("x", 9_990, 50, if_match=etag) == data[9_990:]
    assert space.get_range("x", 10_000, 1) == b""
    with pytest.raises(PreconditionFailed):
        space.get_range("x", 0, 1, if_match="0" * 32)
    for start, length in ((-1, 1), (0, 0), (0, -1)):
        with pytest.raises(ValueError):
            space.get_range("x", start, length)


@pytest.mark.parametrize(
    "start, length",
    [(0, None), (0, 10_000), (5, None), (5, 3000), (0, 4000), (9_999, None), (10_000, None), (20_000, 5), (3, 0)],
)
def test_a_stream(space, proxy, monkeypatch, start, length):
    monkeypatch.setattr(module, "BLOCK", 1000)
    data = data_of(10_000)
    space.put("x", data)
    proxy.reset()
    counted: list[int] = []
    blocks = space.stream("x", start=start, length=length, progress=counted.append)
    assert proxy.exchanges == []
    got = list(blocks)
    wanted = data[start : None if length is None else start + length]
    assert b"".join(got) == wanted and sum(counted) == len(wanted)
    assert all(0 < len(block) <= 1000 for block in got)
    assert proxy.counts()["GetObject"] == max(-(-len(wanted) // 1000), length != 0)


def test_a_stream_of_nothing(space):
    space.put("x", b"")
    assert list(space.stream("x")) == []
    for wrong in ({"start": -1}, {"length": -1}):
        with pytest.raises(ValueError):
            space.stream("x", **wrong)


@pytest.mark.parametrize(
    "fault", [reset("response", 300_000), truncate(300_000), answer(503, "SlowDown"), reset("before")]
)
def test_a_stream_goes_on_after_a_broken_connection(space, proxy, monkeypatch, fault):
    monkeypatch.setattr(module, "BLOCK", MB)
    data = data_of(3 * MB + 5)
    space.put("x", data)
    proxy.reset()
    broken = proxy.fail(fault, method="GET", nth=2)
    counted: list[int] = []
    assert b"".join(space.stream("x", progress=counted.append)) == data
    assert broken.hits == 1 and counted and sum(counted) == len(data)
    assert proxy.counts()["GetObject"] == 5


def test_a_stream_is_of_one_object(space, proxy, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 1000)
    space.put("x", data_of(3000))
    blocks = space.stream("x")
    assert next(blocks) == data_of(3000)[:1000]
    space.put("x", bytes(3000))
    with pytest.raises(PreconditionFailed):
        next(blocks)
    with pytest.raises(PreconditionFailed):
        next(space.stream("x", if_match="0" * 32))


def test_nothing_is_held_between_two_blocks(space, proxy, monkeypatch):
    """Who reads slowly holds no connection: an outage between two blocks is none."""
    monkeypatch.setattr(module, "BLOCK", 1000)
    space.put("x", data_of(3000))
    blocks = space.stream("x")
    first = next(blocks)
    proxy.down()
    proxy.up()
    assert first + b"".join(blocks) == data_of(3000)


# Listings


def test_a_listing_by_pages(space, make_space, store, proxy):
    names = ["a", "a/1", "a/2", "a/é", "b/1", "ü", "😀"]
    for name in names:
        space.put(name, name.encode())
    make_space("collective.xy").put("a/3", b"of another")
    make_space("collective").put("x/a/4", b"of another")
    store.put_bytes(BLOB, b"a blob")
    proxy.reset()
    found = list(space.list(page_size=2))
    assert [line.key for line in found] == names and proxy.counts() == {"ListObjectsV2": 4}
    assert [line.size for line in found] == [len(name.encode()) for name in names]
    assert [line.key for line in space.list("a/")] == ["a/1", "a/2", "a/é"]
    assert [line.key for line in space.list("a/", start_after="a/1")] == ["a/2", "a/é"]
    assert [line.key for line in space.list(start_after="a/2")] == ["a/é", "b/1", "ü", "😀"]
    assert list(space.list("c")) == []
    for wrong in ("../", "/", "a//b", "\0"):
        for call in (lambda wrong=wrong: space.list(wrong), lambda wrong=wrong: space.list(start_after=wrong)):
            with pytest.raises(ValueError):
                call()


# Copies


def test_copies(space, make_space, store, in_bucket):
    data = data_of(100_000)
    etag = space.put("a", data, metadata={"k": "v"}).etag
    counted: list[int] = []
    copied = space.copy("a", "b", if_match=etag, progress=counted.append)
    assert (copied.key, copied.size, counted) == ("b", len(data), [len(data)])
    assert space.get("b") == data and space.head("b").metadata == space.head("a").metadata
    space.copy("a", "b", metadata={"new": "1"})
    assert space.head("b").metadata["new"] == "1" and "k" not in space.head("b").metadata
    with pytest.raises(PreconditionFailed):
        space.copy("a", "c", if_match="0" * 32)
    other = make_space("collective.y")
    assert other.copy("a", "a", source=space).key == "a" and other.get("a") == data
    assert in_bucket() == [f"p/addons/collective.{key}" for key in ("x/a", "x/b", "y/a")]


def test_a_copy_that_is_none(space, store, settings, proxy):
    space.put("a", b"x")
    proxy.reset()
    with pytest.raises(ValueError, match="two objects"):
        space.copy("a", "a")
    elsewhere = open_store(settings)
    for wrong in (ObjectSpace(elsewhere, NAME), store, "collective.y"):
        with pytest.raises(ValueError, match="of one database"):
            space.copy("a", "b", source=wrong)
    elsewhere.close()
    assert proxy.exchanges == []


def test_a_copy_that_the_store_does_not_make_counts_what_is_sent(space, proxy):
    data = data_of(2 * MB)
    space.put("a", data)
    proxy.fail(answer(501, "NotImplemented"), method="PUT")
    counted: list[int] = []
    space.copy("a", "b", progress=counted.append)
    assert sum(counted) == len(data) and space.get("b") == data


# Progress


class Enough(Exception):
    pass


class Stopping:
    """Raises at the call that passes ``at`` bytes."""

    def __init__(self, at: int, error: type[Exception] = Enough) -> None:
        self.at, self.error, self.sum, self.calls_after = at, error, 0, 0

    def __call__(self, count: int) -> None:
        if self.sum > self.at:
            self.calls_after += 1
        self.sum += count
        if self.sum > self.at:
            raise self.error("enough")


@pytest.mark.parametrize("error", [Enough, ValueError, OSError, Unavailable, KeyError])
@pytest.mark.parametrize("size", [1000, 3 * MB, 40 * MB], ids=["in memory", "one put", "in parts"])
def test_a_callback_that_raises_while_it_is_put(space, store, proxy, size, error):
    before, data = b"what was there", data_of(size)
    space.put("x", before)
    stop = Stopping(size // 2 if size > 1000 else 0, error)
    with pytest.raises(error, match="enough"):
        space.put("x", io.BytesIO(data), progress=stop)
    assert stop.calls_after == 0
    now = space.get("x", limit=size)
    assert now == (data if size == 1000 else before)
    assert list(store.list_uploads()) == []
    # What is left of it disturbs nobody.
    counted: list[int] = []
    space.put("x", io.BytesIO(data), progress=counted.append)
    assert sum(counted) == size and space.get("x", limit=size) == data


@pytest.mark.parametrize("error", [Enough, ValueError, OSError, Unavailable, KeyError])
def test_a_callback_that_raises_while_it_is_read(space, error, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", MB)
    data = data_of(3 * MB)
    space.put("x", data)
    for verb in (
        lambda stop: space.get("x", progress=stop),
        lambda stop: space.get_range("x", 0, 3 * MB, progress=stop),
        lambda stop: list(space.stream("x", progress=stop)),
    ):
        stop = Stopping(MB, error)
        with pytest.raises(error, match="enough"):
            verb(stop)
        assert stop.calls_after == 0
    stop = Stopping(0, error)
    with pytest.raises(error, match="enough"):
        space.copy("x", "y", progress=stop)
    assert space.get("x") == space.get("y") == data


def test_what_is_sent_again_is_counted_once(space, proxy):
    data = data_of(40 * MB)
    broken = [proxy.fail(reset("request", 5 * MB), method="PUT"), proxy.fail(answer(), method="PUT", nth=2)]
    counted: list[int] = []
    space.put("x", io.BytesIO(data), progress=counted.append)
    assert [rule.hits for rule in broken] == [1, 1]
    assert sum(counted) == len(data) and min(counted) < 0
    assert space.get("x", limit=len(data)) == data


def test_a_callback_that_takes_nothing_back(space, store, proxy):
    def only_more(count: int) -> None:
        if count < 0:
            raise ValueError("enough")

    proxy.fail(reset("request", 2 * MB), method="PUT")
    with pytest.raises(ValueError, match="enough"):
        space.put("x", io.BytesIO(data_of(40 * MB)), progress=only_more)
    assert space.head("x") is None and list(store.list_uploads()) == []


# Deleting


def test_deleting_is_tried_dry_first(space, make_space, store, proxy, in_bucket):
    for key in ("a/1", "a/2", "a/b/3", "a1", "b"):
        space.put(key, b"x")
    make_space("collective.xy").put("a/1", b"x")
    store.put_bytes(BLOB, b"x")
    everything = in_bucket()
    proxy.reset()
    assert space.delete_many(["a/1", "none", "a/1"]) == Deletion(would_delete=2)
    assert proxy.exchanges == []
    assert space.delete_prefix("a/") == Deletion(would_delete=3)
    assert space.delete_prefix("") == Deletion(would_delete=5)
    assert in_bucket() == everything
    assert space.delete_many(["a/1", "none"], dry_run=False) == Deletion(deleted=2)
    assert [line.key for line in space.list()] == ["a/2", "a/b/3", "a1", "b"]
    assert space.delete_prefix("a/", dry_run=False) == Deletion(deleted=2)
    assert [line.key for line in space.list()] == ["a1", "b"]
    with pytest.raises(ValueError, match="ends in a slash"):
        space.delete_prefix("a", dry_run=False)
    assert space.delete_prefix("", dry_run=False) == Deletion(deleted=2)
    assert space.delete_prefix("", dry_run=False) == Deletion() == space.delete_many([], dry_run=False)
    assert in_bucket() == ["p/addons/collective.xy/a/1", f"p/{BLOB}"]
    with pytest.raises(TypeError, match="several keys"):
        space.delete_many("abc", dry_run=False)


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(module, "BATCH", 3)


def test_a_prefix_of_many_batches(space, proxy, small_batches):
    for number in range(10):
        space.put(f"a/{number}", b"x")
    proxy.reset()
    assert space.delete_prefix("a/", dry_run=False) == Deletion(deleted=10)
    assert proxy.counts() == {"ListObjectsV2": 5, "DeleteObjects": 4}
    assert list(space.list()) == []


@pytest.mark.parametrize("by_prefix", [False, True])
def test_partial_failures(space, store, small_batches, monkeypatch, by_prefix):
    """The store deletes all but two, as where a policy or a lock is in the way."""
    keys = [f"a/{number}" for number in range(8)]
    for key in keys:
        space.put(key, b"x")
    real = store.connection.writer.delete_objects

    def refusing(**parameters):
        wanted = parameters["Delete"]["Objects"]
        kept = [each for each in wanted if each["Key"].endswith(("/1", "/7"))]
        free = [each for each in wanted if each not in kept]
        done = real(**{**parameters, "Delete": {"Objects": free}}) if free else {}
        return {**done, "Errors": [{"Key": each["Key"], "Code": "AccessDenied"} for each in kept]}

    monkeypatch.setattr(store.connection.writer, "delete_objects", refusing)
    result = space.delete_prefix("a/", dry_run=False) if by_prefix else space.delete_many(keys, dry_run=False)
    assert result == Deletion(deleted=6, failed={"a/1": "AccessDenied", "a/7": "AccessDenied"})
    assert [line.key for line in space.list()] == ["a/1", "a/7"]


@pytest.mark.parametrize("by_prefix", [False, True])
def test_a_store_that_fails_in_the_middle(space, proxy, small_batches, by_prefix):
    keys = [f"a/{number}" for number in range(8)]
    for key in keys:
        space.put(key, b"x")

    def delete() -> Deletion:
        return space.delete_prefix("a/", dry_run=False) if by_prefix else space.delete_many(keys, dry_run=False)

    proxy.fail(answer(403, "AccessDenied"), method="POST", nth=2)
    assert delete() == Deletion(deleted=3, failed=dict.fromkeys(keys[3:6], "Refused"), complete=False)
    proxy.forgive()
    proxy.fail(answer(403, "AccessDenied"), method="POST")
    with pytest.raises(Refused):
        delete()
    proxy.forgive()
    assert delete().complete and list(space.list()) == []


def test_a_listing_that_fails_in_the_middle(space, proxy, small_batches):
    for number in range(8):
        space.put(f"a/{number}", b"x")
    proxy.fail(answer(403, "AccessDenied"), method="GET", nth=2)
    assert space.delete_prefix("a/", dry_run=False) == Deletion(deleted=3, complete=False)


def test_what_a_bucket_with_versions_only_hides(space, s3, bucket):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    space.put("a", b"x")
    assert space.delete_many(["a"], dry_run=False) == Deletion(deleted=1, hidden=1)
    assert space.head("a") is None


# Requests of others, and addresses


def test_presigned(space, make_space):
    space.put("ü b.txt", b"text")
    signed = space.presigned_get(
        "ü b.txt", seconds=60, content_type="text/plain", disposition="inline", cache_control="private"
    )
    status, headers, body = asked("GET", signed.url)
    assert (status, body) == (200, b"text")
    assert (headers["content-type"], headers["content-disposition"], headers["cache-control"]) == (
        "text/plain",
        "inline",
        "private",
    )
    signed = space.presigned_put("up", seconds=60, size=4, sha256=hashlib.sha256(b"four").digest())
    assert asked("PUT", signed.url, b"fours", {**signed.headers, "Content-Length": "5"})[0] == 403
    assert asked("PUT", signed.url, b"four", signed.headers)[0] == 200 and space.get("up") == b"four"
    signed = space.presigned_post("form", seconds=60, most=4)
    for data, taken in ((b"fives", False), (b"four", True)):
        body, headers = form_of(signed.fields, data)
        assert (asked("POST", signed.url, body, headers)[0] in (200, 204)) is taken
    assert space.get("form") == b"four"
    assert "Signature" not in repr(signed) + str(signed)


def test_a_signature_holds_no_longer_than_zope_conf_allows(make_space):
    space = make_space(delivery=DeliverySettings(presign_max_expiry=90.5))
    for seconds, bounded in ((60, 60), (90, 90), (91, 90), (10**9, 90)):
        for signed in (
            space.presigned_get("x", seconds=seconds),
            space.presigned_put("x", seconds=seconds, size=1),
            space.presigned_post("x", seconds=seconds, most=1),
        ):
            left = signed.expires - datetime.now(UTC)
            assert timedelta(seconds=bounded - 5) < left <= timedelta(seconds=bounded)
    for seconds in (0, -1):
        with pytest.raises(ValueError):
            space.presigned_get("x", seconds=seconds)


def test_what_cannot_be_signed(space):
    for wrong in ({"disposition": "inline\r\nX: y"}, {"content_type": "text/ü"}, {"cache_control": "\0"}):
        with pytest.raises(ValueError, match="printable ASCII"):
            space.presigned_get("x", seconds=60, **wrong)
    for wrong in ({"most": -1}, {"most": 1, "least": 2}, {"most": 1, "least": -1}):
        with pytest.raises(ValueError, match="least and most"):
            space.presigned_post("x", seconds=60, **wrong)
    with pytest.raises(ValueError, match="size"):
        space.presigned_put("x", seconds=60, size=-1)
    with pytest.raises(ValueError, match="sha256"):
        space.presigned_put("x", seconds=60, size=1, sha256=b"short")


def test_an_address_is_where_the_object_lies(make_space, settings, bucket, proxy):
    """The same path as that of a signed URL, which the server finds."""
    space = make_space(delivery=DeliverySettings(public_url_base=f"{settings.endpoint_url}/{bucket}/p"))
    for key in ODD:
        space.put(key, key.encode())
        url = space.durable_url(key)
        assert space.key_from_url(url) == key
        signed = space.presigned_get(key, seconds=60).url
        assert asked("GET", signed)[2] == key.encode()
        assert signed.partition("?")[0].replace(proxy.endpoint_url, settings.endpoint_url) == url


# Where it may not be written


def test_what_is_only_read(make_space, settings, proxy, store, in_bucket):
    make_space().put("x", b"there")
    everything = in_bucket()
    reading = open_store(dataclasses.replace(store.configured), read_only=True)
    for space in (make_space(writable=False), ObjectSpace(reading, NAME, prefix="p")):
        proxy.reset()
        assert space.get("x") == b"there"
        assert asked("GET", space.presigned_get("x", seconds=60).url)[2] == b"there"
        assert space.delete_prefix("").would_delete == 1
        proxy.reset()
        for verb in (
            lambda space=space: space.put("x", b"other"),
            lambda space=space: space.put("x", io.BytesIO(b"other")),
            lambda space=space: space.copy("x", "y"),
            lambda space=space: space.delete_many(["x"], dry_run=False),
            lambda space=space: space.delete_prefix("", dry_run=False),
            lambda space=space: space.presigned_put("x", seconds=60, size=1),
            lambda space=space: space.presigned_post("x", seconds=60, most=1),
        ):
            with pytest.raises(Refused):
                verb()
        assert {exchange.method for exchange in proxy.exchanges} <= {"GET"}
    reading.close()
    assert in_bucket() == everything


def test_no_error_names_a_place(space, proxy, bucket):
    space.put("secret-key", data_of(1000))
    raised = []
    for status, code in ((500, "InternalError"), (403, "AccessDenied"), (404, "NoSuchBucket")):
        proxy.fail(answer(status, code), times=1000)
        for verb in (
            lambda: space.get("secret-key"),
            lambda: space.get_range("secret-key", 0, 1),
            lambda: list(space.stream("secret-key")),
            lambda: list(space.list()),
            lambda: space.delete_many(["secret-key"], dry_run=False),
        ):
            with pytest.raises(StoreError) as error:
                verb()
            raised.append(f"{error.value} {error.value!r}")
        proxy.forgive()
    with pytest.raises(StoreError) as error:
        space.get("another-key")
    raised.append(str(error.value))
    for text in raised:
        assert not any(word in text for word in (bucket, "secret-key", "another-key", "127.0.0.1", "addons"))


# Encryption of an add-on's own


@pytest.fixture
def tls(s3_server, ca):
    """A proxy with https to the client, and to a server that takes customer's keys over https only."""
    upstream = getattr(s3_server, "tls_endpoint_url", None)
    with Proxy(upstream or s3_server.endpoint_url, ca=ca, upstream_ca=ca.bundle if upstream else None) as between:
        yield between


@pytest.fixture(params=[None, hashlib.sha256(b"the storage's key").digest()], ids=["plain", "sse-c"])
def over_tls(request, settings, tls, ca, folder):
    """A space over https whose storage has no encryption, or a customer's key."""
    opened = open_store(
        dataclasses.replace(
            settings,
            endpoint_url=tls.endpoint_url,
            ca_bundle=ca.bundle,
            encryption=request.param and sse_c(request.param),
        )
    )
    opened.open_bucket(True)
    yield ObjectSpace(opened, NAME, folder=lambda: folder)
    opened.close()


def readings(space, key, **encryption):
    return [
        lambda: space.get(key, limit=64 * MB, **encryption),
        lambda: space.get_range(key, 0, 64 * MB, **encryption),
        lambda: b"".join(space.stream(key, **encryption)),
    ]


@pytest.mark.parametrize("size", [1000, 2 * MB, 17 * MB])
def test_with_a_key_of_the_addons_own(over_tls, size):
    space, data = over_tls, data_of(size)
    key, other = customer_key(OTHER_KEY), customer_key(b"o" * 32)
    space.put("x", io.BytesIO(data) if size > 1000 else data, encryption=key)
    for read in readings(space, "x", encryption=key):
        assert read() == data
    assert space.head("x", encryption=key).size == size
    for wrong in (None, other, NoEncryption()):
        for read in readings(space, "x", encryption=wrong):
            with pytest.raises(Refused):
                read()
        with pytest.raises(Refused):
            space.head("x", encryption=wrong)
        with pytest.raises(Refused):
            space.copy("x", "y", encryption=key, source_encryption=wrong)
    assert [line.key for line in space.list()] == ["x"]
    assert space.delete_many(["x"], dry_run=False) == Deletion(deleted=1)


@pytest.mark.parametrize("source", ["own", "key"])
@pytest.mark.parametrize("target", ["own", "key", "clear"])
def test_a_copy_encrypts_anew(over_tls, source, target):
    space, data = over_tls, data_of(MB)
    encryptions = {"own": None, "key": customer_key(OTHER_KEY), "clear": NoEncryption()}
    space.put("a", data, encryption=encryptions[source], metadata={"k": "v"})
    counted: list[int] = []
    given = {"encryption": encryptions[target], "source_encryption": encryptions[source], "progress": counted.append}
    assert space.copy("a", "b", **given).size == MB and sum(counted) == MB
    assert space.get("b", encryption=encryptions[target]) == data
    assert space.head("b", encryption=encryptions[target]).metadata["k"] == "v"
    if target == "key":
        with pytest.raises(Refused):
            space.get("b")
    else:
        with pytest.raises((Refused, EncryptionNotHonoured)):
            space.get("b", encryption=encryptions["key"])


def test_what_is_in_clear_is_not_taken_for_encrypted(over_tls):
    over_tls.put("x", b"clear", encryption=NoEncryption())
    for read in readings(over_tls, "x", encryption=customer_key(OTHER_KEY)):
        with pytest.raises((Refused, EncryptionNotHonoured)):
            read()


def test_a_key_never_travels_in_clear(space, proxy):
    if proxy.endpoint_url.startswith("https:"):
        pytest.skip("the server is reached over https")
    for verb in (
        lambda: space.put("x", b"x", encryption=customer_key(OTHER_KEY)),
        lambda: space.get("x", encryption=customer_key(OTHER_KEY)),
        lambda: space.copy("x", "y", source_encryption=customer_key(OTHER_KEY)),
    ):
        with pytest.raises(ConfigurationError, match="clear text") as raised:
            verb()
        assert base64.b64encode(OTHER_KEY).decode() not in str(raised.value)
    assert proxy.exchanges == []


def test_a_large_file_takes_no_memory(space):
    """Of a binary file one block at a time is in memory: it is never read whole."""
    asked_for: list[int] = []

    class Large:
        left = 20 * MB

        def read(self, amount: int = -1) -> bytes:
            asked_for.append(amount)
            given = min(amount, self.left)
            self.left -= given
            return bytes(given)

    space.put("x", Large())
    assert set(asked_for) == {MB} and space.head("x").size == 20 * MB
