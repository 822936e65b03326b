"""Client-side encryption: what the store gets is sealed, what callers see is as without it."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
import logging
import random

import pytest
from rings import client_side, customer_key, ring_of
from servers.faults import flip, reset
from sites import raw_client
from zope.interface.verify import verifyObject

from collective.s3blobstorage.encryption import segments
from collective.s3blobstorage.encryption.envelope import SEALED, SEALED_SHA256
from collective.s3blobstorage.encryption.none import NoEncryption
from collective.s3blobstorage.encryption.segments import SEGMENT
from collective.s3blobstorage.errors import (
    ConfigurationError,
    Corrupt,
    EncryptionKeyMissing,
    EncryptionNotHonoured,
    PreconditionFailed,
)
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.objectstore.interfaces import IObjectStore

MB = 1024 * 1024
KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
NAME = "blobs/0000000000000001/" + "0" * 32
TWIN = "blobs/0000000000000002/" + "1" * 32
SIZES = (0, 1, 1000, SEGMENT, SEGMENT + 1, 3 * MB, 16 * MB, 17 * MB + 5)


@pytest.fixture
def opened(settings):
    stores = []

    def make(encryption, **changed):
        store = open_store(dataclasses.replace(settings, encryption=encryption, prefix="p", **changed))
        stores.append(store)
        return store

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def store(opened):
    return opened(client_side(KEY))


@pytest.fixture
def file(tmp_path):
    def make(size):
        data = random.Random(size).randbytes(size)
        path = tmp_path / f"{size}.bin"
        path.write_bytes(data)
        return path, data

    return make


@pytest.fixture
def raw(settings):
    """``raw(key)``: bytes and metadata as the bucket has them; ``raw.put(key, bytes, metadata)``."""
    client = raw_client(settings)

    class Raw:
        def __call__(self, key):
            answer = client.get_object(Bucket=settings.bucket, Key=f"p/{key}")
            return answer["Body"].read(), answer["Metadata"]

        def put(self, key, data, metadata):
            client.put_object(Bucket=settings.bucket, Key=f"p/{key}", Body=data, Metadata=metadata)

    return Raw()


def read(store, key=NAME, **expected):
    target = io.BytesIO()
    store.get_file(key, target, **expected)
    return target.getvalue()


def part(store, start, length, key=NAME, **expected):
    arrived = bytearray()
    info = store.get_range(key, start, length, arrived.extend, **expected)
    return bytes(arrived), info


def test_contract(store):
    assert verifyObject(IObjectStore, store)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("hashed", [True, False], ids=["hashed", "unhashed"])
def test_there_and_back(store, raw, file, size, hashed):
    path, data = file(size)
    digest = hashlib.sha256(data).digest()
    counted = []
    stored = store.put_file(
        NAME, path, metadata={"oid": "1"}, sha256=digest if hashed else None, progress=counted.append
    )
    assert (stored.size, stored.sha256) == (size, digest)
    inside, metadata = raw(NAME)
    assert len(inside) == segments.sealed_size(size) and sum(counted) == size
    assert digest.hex() not in str(metadata) and data[:16] not in inside or size < 16
    assert metadata["oid"] == "1" and metadata[SEALED].startswith("1 one/")
    assert (SEALED_SHA256 in metadata) is (hashed or size < 16 * MB - 10_000)
    assert read(store) == data and read(store, size=size, sha256=digest) == data
    told = store.head(NAME)
    assert told.size == size and told.metadata["size"] == str(size) and told.metadata["oid"] == "1"
    if SEALED_SHA256 in metadata:
        assert told.metadata["sha256"] == digest.hex()
    assert {SEALED, SEALED_SHA256}.isdisjoint(told.metadata)


def test_bytes(store, raw):
    stored = store.put_bytes(NAME, b"abc", metadata={"oid": "1"})
    assert (stored.size, stored.sha256) == (3, hashlib.sha256(b"abc").digest())
    assert store.get_bytes(NAME) == b"abc" and b"abc" not in raw(NAME)[0]
    with pytest.raises(PreconditionFailed):
        store.put_bytes(NAME, b"x", if_absent=True)


@pytest.mark.parametrize("size", [0, 1, SEGMENT, 3 * SEGMENT + 17, 17 * MB + 5])
def test_ranges(store, file, size, proxy):
    path, data = file(size)
    store.put_file(NAME, path, metadata={})
    starts = sorted({0, 1, SEGMENT - 1, SEGMENT, 2 * SEGMENT + 5, max(0, size - 1), size, size + SEGMENT})
    etag = store.head(NAME).etag
    for start, length in itertools.product(starts, (1, 2, SEGMENT, 3 * SEGMENT, 4 * MB)):
        got, info = part(store, start, length, size=size, if_match=etag)
        assert got == data[start : start + length], (start, length)
        assert (info.size, info.etag) == (size, etag)


def test_a_range_is_one_request_and_little_more_than_its_bytes(opened, file, proxy):
    store = opened(client_side(KEY), endpoint_url=proxy.endpoint_url)
    path, data = file(17 * MB + 5)
    store.put_file(NAME, path, metadata={})
    proxy.reset()
    got, _ = part(store, 5 * MB + 3, 4 * MB, size=len(data))
    assert got == data[5 * MB + 3 : 9 * MB + 3]
    assert proxy.counts() == {"GetObject": 1}
    assert sum(exchange.bytes_down for exchange in proxy.exchanges) < 4 * MB + 3 * SEGMENT


def test_every_object_has_a_key_of_its_own(store, raw):
    store.put_bytes(NAME, b"the same")
    first = raw(NAME)
    store.put_bytes(NAME, b"the same")
    second = raw(NAME)
    assert first[0] != second[0] and first[1][SEALED] != second[1][SEALED]


def test_only_content_is_sealed(store, raw):
    for key in (".s3blobs.json", "gc/ledger", "keys/one"):
        store.put_bytes(key, b"{}")
        assert raw(key)[0] == b"{}" and store.get_bytes(key) == b"{}"
    store.put_bytes("addons/reports/1.txt", b"content")
    assert b"content" not in raw("addons/reports/1.txt")[0]
    assert store.get_bytes("addons/reports/1.txt") == b"content"


def test_a_wrong_size_or_hash_is_found(store, file):
    path, data = file(100_000)
    store.put_file(NAME, path, metadata={})
    for expected in ({"size": 99_999}, {"sha256": b"x" * 32}, {"size": segments.sealed_size(100_000)}):
        with pytest.raises(Corrupt):
            read(store, **expected)
    with pytest.raises(Corrupt):
        part(store, 0, 10, size=99_999)


def test_clear_objects_are_read_unless_they_must_not_be(opened, store, file, proxy):
    through = opened(client_side(KEY), endpoint_url=proxy.endpoint_url)
    plain, strict = opened(None), opened(client_side(KEY, required=True))
    path, data = file(300_000)
    plain.put_file(NAME, path, metadata={"oid": "1"})
    assert read(store, size=len(data)) == data
    assert store.head(NAME) == plain.head(NAME)
    for requests in (2, 1):  # the second time it is known
        proxy.reset()
        assert part(through, 100_000, 5000, size=len(data))[0] == data[100_000:105_000]
        assert proxy.counts() == {"GetObject": requests}
    for refused in (lambda: read(strict), lambda: part(strict, 0, 10), lambda: strict.head(NAME)):
        with pytest.raises(EncryptionNotHonoured, match="require-encryption"):
            refused()
    plain.put_bytes(".s3blobs.json", b"{}")
    assert strict.get_bytes(".s3blobs.json") == b"{}"
    # And the other way round: sealed before, written in clear now.
    store.put_file(TWIN, path, metadata={})
    back = opened(dataclasses.replace(client_side(KEY), seals=False, name="none"), endpoint_url=proxy.endpoint_url)
    assert read(back, TWIN) == data and part(back, 70_000, 10, TWIN)[0] == data[70_000:70_010]


def test_other_keys_and_none(opened, store, caplog):
    store.put_bytes(NAME, b"secret")
    same_id, other_id, none = opened(client_side(OTHER_KEY)), opened(client_side(active="two", two=KEY)), opened(None)
    for reader in (same_id, other_id, none):
        for asked in (lambda: read(reader), lambda: part(reader, 0, 3), lambda: reader.head(NAME)):  # noqa: B023
            caplog.clear()
            with pytest.raises(EncryptionKeyMissing) as raised:
                asked()
            assert "one/" in caplog.text and NAME in caplog.text
            assert NAME not in str(raised.value)
    both = opened(client_side(active="two", one=KEY, two=OTHER_KEY))
    assert read(both) == b"secret"


def test_two_processes_with_different_active_keys(opened):
    """As while a new key is rolled out: each reads what the other wrote."""
    old = opened(client_side(active="one", one=KEY, two=OTHER_KEY))
    new = opened(client_side(active="two", one=KEY, two=OTHER_KEY))
    old.put_bytes(NAME, b"old")
    new.put_bytes(TWIN, b"new")
    for store in (old, new):
        assert (read(store), read(store, TWIN)) == (b"old", b"new")


@pytest.mark.parametrize("where", ["body", "envelope", "hash"])
def test_an_object_in_anothers_place_is_refused(store, raw, where):
    store.put_bytes(NAME, b"mine")
    store.put_bytes(TWIN, b"his!")
    (mine, metadata), (his, others) = raw(NAME), raw(TWIN)
    swapped = {
        "body": (his, metadata),
        "envelope": (his, others),
        "hash": (mine, {**metadata, SEALED_SHA256: others[SEALED_SHA256]}),
    }
    data, described = swapped[where]
    if where == "body":
        described = {**described, "sha256": hashlib.sha256(data).hexdigest()}
    raw.put(NAME, data, described)
    with pytest.raises(Corrupt):
        read(store)


def test_a_copy_moves_no_bytes_and_is_bound_to_its_own_name(opened, store, raw, file, proxy):
    through = opened(client_side(active="two", one=KEY, two=OTHER_KEY), endpoint_url=proxy.endpoint_url)
    path, data = file(17 * MB)
    store.put_file(NAME, path, metadata={"oid": "1"})
    proxy.reset()
    copied = through.copy(NAME, TWIN)
    assert copied.size == len(data) and "GetObject" not in proxy.counts()
    assert raw(NAME)[0] == raw(TWIN)[0]
    assert raw(TWIN)[1][SEALED].startswith("1 two/") and raw(NAME)[1][SEALED].startswith("1 one/")
    assert read(through, TWIN) == data and through.head(TWIN).metadata["oid"] == "1"
    through.copy(NAME, TWIN, metadata={"oid": "2"})
    assert read(through, TWIN) == data and through.head(TWIN).metadata["oid"] == "2"


def test_a_copy_of_what_is_in_clear_is_sealed(opened, store, raw, file):
    path, data = file(100_000)
    opened(None).put_file(NAME, path, metadata={"oid": "1"})
    assert store.copy(NAME, TWIN).size == len(data)
    assert SEALED in raw(TWIN)[1] and read(store, TWIN) == data and store.head(TWIN).metadata["oid"] == "1"
    store.copy(NAME, "addons/x/1", source_store=store.encrypted_with(NoEncryption()))
    assert SEALED in raw("addons/x/1")[1]


def test_a_copy_from_a_source_with_its_own_ring(opened, settings, store, raw, file):
    source = open_store(dataclasses.replace(settings, encryption=client_side(OTHER_KEY), prefix="theirs"))
    path, data = file(3 * MB)
    digest = hashlib.sha256(data).digest()
    source.put_file(NAME, path, metadata={}, sha256=digest)
    metadata = {"oid": "1", "size": str(len(data)), "sha256": digest.hex()}
    copied = store.copy_from(source, source.head(NAME), NAME, metadata=metadata)
    assert copied.size == len(data) and read(store) == data
    inside = raw(NAME)[1]
    assert digest.hex() not in str(inside) and inside["size"] == str(segments.sealed_size(len(data)))
    plain = opened(None)
    for target, origin in ((plain, source), (store, plain)):
        origin.put_bytes(TWIN, b"abc")
        assert target.copy_from(origin, origin.head(TWIN), "blobs/x", metadata={}) is None
    source.close()


def test_no_address_for_others(store, opened):
    store.put_bytes(NAME, b"secret")
    for encryption in (client_side(KEY), dataclasses.replace(client_side(KEY), seals=False)):
        with pytest.raises(ConfigurationError, match="client-side-encryption"):
            opened(encryption).presign_get(NAME, seconds=60)


def test_an_add_ons_own_encryption_is_instead_of_ours(store, raw):
    store.encrypted_with(NoEncryption()).put_bytes("addons/x/1", b"clear")
    assert raw("addons/x/1")[0] == b"clear" and store.get_bytes("addons/x/1") == b"clear"


def test_faults_on_the_way(opened, file, proxy):
    store = opened(client_side(KEY), endpoint_url=proxy.endpoint_url)
    path, data = file(3 * MB)
    proxy.fail(reset("request", at=1 * MB), method="PUT")
    store.put_file(NAME, path, metadata={})
    proxy.fail(reset("response", at=1 * MB), method="GET")
    assert read(store) == data
    proxy.fail(reset("response", at=100_000), method="GET")
    assert part(store, 1000, 2 * MB)[0] == data[1000 : 1000 + 2 * MB]
    proxy.fail(flip(at=200_000), method="GET")
    assert read(store) == data  # asked for once more
    proxy.fail(flip(at=200_000), method="GET", times=10)
    with pytest.raises(Corrupt):
        read(store)


def test_no_key_in_any_log_or_error(settings, opened, caplog):
    caplog.set_level(logging.DEBUG)
    store = opened(client_side(KEY))
    store.put_bytes(NAME, b"secret content")
    read(store)
    store.copy(NAME, TWIN)
    shown = caplog.text + repr(store) + repr(store.settings) + repr(store.ring) + repr(ring_of(one=KEY).active)
    for form in (KEY.hex(), repr(KEY), "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"):
        assert form not in shown
    assert customer_key(KEY).key.material == KEY  # the forms that are looked for are its


def test_a_sealed_object_without_its_metadata_is_no_blob(store, raw):
    store.put_bytes(NAME, b"secret")
    raw.put(NAME, raw(NAME)[0], {})
    for asked in (lambda: read(store), lambda: part(store, 0, 100)):
        with pytest.raises(Corrupt, match="lost its metadata"):
            asked()
