"""Over TLS: a private authority, encryption with a customer's key, and no secret in any log."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import logging
import math
import random
import subprocess
import sys
from urllib.parse import quote

import pytest
from rings import customer_key, sse_c
from servers.faults import answer, reset, truncate
from servers.proxy import Proxy
from sites import raw_client
from zope.interface.verify import verifyObject

from collective.s3blobstorage.encryption.customer_key import CustomerKey
from collective.s3blobstorage.encryption.none import NoEncryption
from collective.s3blobstorage.errors import (
    ConfigurationError,
    EncryptionNotHonoured,
    PreconditionFailed,
    Refused,
    S3BlobStorageError,
    StoreError,
    Unavailable,
)
from collective.s3blobstorage.objectstore import copy as copying
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.objectstore.interfaces import IObjectStore

MB = 1024 * 1024
KEY = hashlib.sha256(b"the key of these tests").digest()
OTHER_KEY = hashlib.sha256(b"another key").digest()


@pytest.fixture
def proxy(s3_server, ca):
    """With https to the client, and to a server that takes customer's keys over https only."""
    upstream = getattr(s3_server, "tls_endpoint_url", None)
    with Proxy(upstream or s3_server.endpoint_url, ca=ca, upstream_ca=ca.bundle if upstream else None) as between:
        yield between


@pytest.fixture
def secure(settings, proxy, ca):
    return dataclasses.replace(
        settings, endpoint_url=proxy.endpoint_url, ca_bundle=ca.bundle, encryption=sse_c(KEY, required=True), prefix="p"
    )


@pytest.fixture
def store(secure):
    opened = open_store(secure)
    opened.open_bucket(True)
    yield opened
    opened.close()


@pytest.fixture
def plain(secure):
    opened = open_store(dataclasses.replace(secure, encryption=None))
    yield opened
    opened.close()


@pytest.fixture
def file(tmp_path):
    def make(size: int):
        data = random.Random(size).randbytes(size)
        path = tmp_path / f"{size}.blob"
        path.write_bytes(data)
        return path, data

    return make


def read(store, key: str, **expected) -> bytes:
    target = io.BytesIO()
    store.get_file(key, target, **expected)
    return target.getvalue()


# The customer's key


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "HTTP://example.org"])
def test_the_key_never_travels_in_clear(settings, endpoint):
    for wrong in ({"endpoint_url": endpoint}, {"endpoint_url": None, "use_ssl": False}):
        with pytest.raises(ConfigurationError, match="s3-sse-customer-key") as raised:
            open_store(dataclasses.replace(settings, encryption=sse_c(KEY), **wrong))
        assert KEY.hex() not in str(raised.value) and base64.b64encode(KEY).decode() not in str(raised.value)


@pytest.mark.parametrize("size", [0, 1000, 2 * MB, 16 * MB + 1])
def test_written_and_read_with_the_key(store, plain, s3, bucket, file, size):
    path, data = file(size)
    stored = store.put_file("x", path, metadata={"oid": "1"}, if_absent=True)
    assert stored.sha256 == hashlib.sha256(data).digest()
    assert store.head("x").size == size
    assert read(store, "x", size=size, sha256=stored.sha256) == data
    assert list(store.list_uploads()) == []
    with pytest.raises(StoreError):
        plain.head("x")
    with pytest.raises(Refused):
        read(plain, "x")
    with pytest.raises(PreconditionFailed):
        store.put_file("x", path, metadata={}, if_absent=True)


def test_another_key_reads_nothing(store, secure, file):
    path, _ = file(1000)
    store.put_file("x", path, metadata={})
    other = open_store(dataclasses.replace(secure, encryption=sse_c(OTHER_KEY)))
    with pytest.raises(Refused):
        read(other, "x")
    with pytest.raises(StoreError):
        other.head("x")
    other.close()


def test_an_object_in_clear_is_not_read_as_encrypted(store, plain):
    plain.put_bytes("blobs/x", b"abc")
    with pytest.raises((EncryptionNotHonoured, Refused)):
        store.get_bytes("blobs/x")
    with pytest.raises((EncryptionNotHonoured, Refused)):
        store.head("blobs/x")


def test_what_was_written_before_is_read(store, secure, plain, file, proxy, caplog):
    """With an earlier key, or in clear; which it was is found out once for each object, and is no warning."""
    path, data = file(100_000)
    plain.put_file("clear", path, metadata={})
    store.put_file("old", path, metadata={})
    changed = open_store(dataclasses.replace(secure, encryption=sse_c(active="two", one=KEY, two=OTHER_KEY)))
    changed.put_file("new", path, metadata={})
    for key, tries in (("new", 1), ("old", 2), ("clear", 3)):
        proxy.reset()
        assert read(changed, key) == data
        assert proxy.counts()["GetObject"] == tries
        arrived = bytearray()
        info = changed.get_range(key, 50_000, 1000, arrived.extend, size=len(data))
        assert arrived == data[50_000:51_000] and info.size == len(data)
        assert changed.head(key).metadata["sha256"] == hashlib.sha256(data).hexdigest()
        assert proxy.counts() == {"GetObject": tries + 1, "HeadObject": 1}
        assert changed.copy(key, f"{key}-copy").size == len(data)
        with pytest.raises(PreconditionFailed):
            changed.put_file(key, path, metadata={}, if_absent=True)
    assert "WARNING" not in {record.levelname for record in caplog.records if "failed" in record.getMessage()}
    for key in ("new", "old", "clear"):
        assert read(changed, f"{key}-copy") == data
        with pytest.raises((Refused, EncryptionNotHonoured)):
            read(store, f"{key}-copy")  # encrypted with the new key
    changed.close()


def test_an_object_that_is_encrypted_in_another_way_while_it_is_read(store, secure, plain, file, proxy):
    """The request that goes on is refused. What came of the first one is not what the next way begins with."""
    path, data = file(3 * MB)
    both = open_store(dataclasses.replace(secure, encryption=sse_c(active="two", one=KEY, two=OTHER_KEY)))
    for again in (lambda: plain.put_file("x", path, metadata={}), lambda: both.put_file("x", path, metadata={})):
        store.put_file("x", path, metadata={})
        assert read(both, "x") == data  # it knows now which key it is

        class Target(io.BytesIO):
            def write(self, block, again=again):
                if self.tell() == 0:
                    again()
                return super().write(block)

        proxy.fail(reset("response", at=1 * MB), method="GET", nth=1)
        target = Target()
        both.get_file("x", target, size=len(data), sha256=hashlib.sha256(data).digest())
        assert target.getvalue() == data
        proxy.forgive()
        store.put_file("x", path, metadata={})
        read(both, "x")
        arrived = bytearray()

        def write(block, arrived=arrived, again=again):
            if not arrived:
                again()
            arrived.extend(block)

        proxy.fail(reset("response", at=1 * MB), method="GET", nth=1)
        with pytest.raises(PreconditionFailed):
            both.get_range("x", 0, len(data), write)
        assert data.startswith(arrived)
        proxy.forgive()
    both.close()


def test_the_hash_of_the_content_is_hidden(store, secure, file):
    path, data = file(1000)
    store.put_file("x", path, metadata={"oid": "1"})
    client = raw_client(secure)
    key = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": KEY}
    metadata = client.head_object(Bucket=secure.bucket, Key="p/x", **key)["Metadata"]
    assert set(metadata) == {"oid", "size", "hidden-sha256"}
    assert store.head("x").metadata["sha256"] == hashlib.sha256(data).hexdigest()


def test_a_copy_is_encrypted_too(store, plain, file):
    path, data = file(2 * MB)
    store.put_file("x", path, metadata={"oid": "1"})
    copied = store.copy("x", "y", if_match=store.head("x").etag)
    assert copied.size == len(data)
    assert read(store, "y") == data and store.head("y").metadata == store.head("x").metadata
    store.copy("x", "z", metadata={"new": "1", "size": str(len(data))})
    assert store.head("z").metadata["new"] == "1" and "oid" not in store.head("z").metadata
    with pytest.raises(Refused):
        read(plain, "y")


def test_a_copy_that_the_store_cannot_make_is_downloaded_and_uploaded(store, proxy, file):
    path, data = file(2 * MB)
    store.put_file("x", path, metadata={"oid": "1"})
    proxy.reset()
    real = proxy.fail(answer(501, "NotImplemented"), method="PUT")
    copied = store.copy("x", "y")
    assert real.hits == 1
    assert proxy.counts() == {"HeadObject": 1, "CopyObject": 1, "GetObject": 1, "PutObject": 1} or proxy.counts() == {
        "HeadObject": 2,  # the ETag of an encrypted object is no proof of its bytes: the size is asked for
        "CopyObject": 1,
        "GetObject": 1,
        "PutObject": 1,
    }
    assert copied.sha256 == hashlib.sha256(data).digest()
    assert read(store, "y") == data
    assert store.head("y").metadata == store.head("x").metadata


def test_an_encrypted_body_is_resumed(store, proxy, file):
    path, data = file(2 * MB)
    store.put_file("x", path, metadata={})
    proxy.reset()
    proxy.fail(truncate(MB), method="GET")
    assert read(store, "x") == data
    assert [exchange.status for exchange in proxy.exchanges] == [200, 206]


# Another encryption than the store's own


@pytest.mark.parametrize("size", [0, 1000, 16 * MB + 1])
def test_a_store_with_another_key_beside_its_own(store, plain, file, size):
    path, data = file(size)
    other = store.encrypted_with(customer_key(OTHER_KEY))
    assert verifyObject(IObjectStore, other)
    other.put_file("x", path, metadata={}, if_absent=True)
    assert other.head("x").size == size and read(other, "x") == data
    for wrong in (store, plain, store.encrypted_with(NoEncryption())):
        with pytest.raises(Refused):
            read(wrong, "x")
    store.encrypted_with(NoEncryption()).put_file("clear", path, metadata={})
    assert read(plain, "clear") == data
    other.close()
    assert read(other, "x") == data and read(store.encrypted_with(customer_key(OTHER_KEY)), "x") == data


def test_a_copy_is_encrypted_anew(store, secure, file):
    path, data = file(2 * MB)
    other, clear = customer_key(OTHER_KEY), NoEncryption()
    stores = {"own": store, "other": store.encrypted_with(other), "clear": store.encrypted_with(clear)}
    for name, of in stores.items():
        of.put_file(f"blobs/{name}", path, metadata={"oid": "1"})
    for source, reading in stores.items():
        for target, of in stores.items():
            counted: list[int] = []
            key = f"blobs/{source}-{target}"
            of.copy(f"blobs/{source}", key, source_store=reading, progress=counted.append)
            assert read(of, key) == data and sum(counted) == len(data)
            assert of.head(key).metadata["oid"] == "1"
            for name, wrong in stores.items():
                if name != target:
                    with pytest.raises((Refused, EncryptionNotHonoured)):
                        read(wrong, key)
    with pytest.raises(Refused):
        store.copy("blobs/other", "blobs/y")
    assert store.head("blobs/y") is None
    elsewhere = open_store(dataclasses.replace(secure, prefix="q"))
    with pytest.raises(ValueError, match="one store"):
        store.copy("blobs/own", "blobs/y", source_store=elsewhere)
    elsewhere.close()


def test_a_copy_in_parts_is_encrypted_anew(store, proxy, file, monkeypatch):
    path, data = file(12 * MB)
    monkeypatch.setattr(copying, "IN_ONE", 0)
    monkeypatch.setattr(copying, "COPY_PART", 5 * MB)
    other = store.encrypted_with(customer_key(OTHER_KEY))
    other.put_file("x", path, metadata={"oid": "1"})
    counted: list[int] = []
    store.copy("x", "y", source_store=other, progress=counted.append)
    assert read(store, "y") == data and sum(counted) == len(data)
    if "UploadPartCopy" in proxy.counts() and "PutObject" not in proxy.counts("/y"):  # Ceph refuses, and it is relayed
        assert sorted(counted) == [2 * MB, 5 * MB, 5 * MB]
    assert list(store.list_uploads()) == []


def test_an_object_that_is_encrypted_anew_in_place_is_not_deleted(store, proxy, file, monkeypatch):
    path, data = file(1000)
    other = customer_key(OTHER_KEY)
    store.encrypted_with(other).put_file("x", path, metadata={})
    monkeypatch.setattr(CustomerKey, "check_echo", lambda self, response: refuse(self is not other))
    with pytest.raises(EncryptionNotHonoured):
        store.copy("x", "x", source_store=store.encrypted_with(other))
    monkeypatch.undo()
    if "GetObject" in proxy.counts():
        pytest.skip("this store copies nothing that a customer's key encrypts")
    assert "DeleteObject" not in proxy.counts()
    assert [line.key for line in store.list()] == ["x"]


def refuse(whether: bool) -> None:
    if whether:
        raise EncryptionNotHonoured("not confirmed")


def test_another_key_never_travels_in_clear(settings):
    store = open_store(dataclasses.replace(settings, endpoint_url="http://127.0.0.1:9"))
    with pytest.raises(ConfigurationError, match="clear text"):
        store.encrypted_with(customer_key(OTHER_KEY))
    store.close()


# Certificates


def test_an_unknown_authority_is_refused_and_not_asked_again(secure, proxy):
    store = open_store(dataclasses.replace(secure, ca_bundle=None))
    with pytest.raises(Unavailable, match="s3-ca-bundle"):
        store.open_bucket(True)
    with pytest.raises(Unavailable, match="s3-ca-bundle"):
        store.put_bytes("x", b"")
    assert proxy.exchanges == []
    store.close()


def test_plain_http_to_a_tls_port(secure):
    wrong = dataclasses.replace(
        secure,
        endpoint_url=secure.endpoint_url.replace("https", "http"),
        encryption=None,
        download_read_timeout=1.0,
        outage_patience=2.0,
    )
    store = open_store(wrong)
    with pytest.raises(Unavailable):
        store.get_bytes("x")
    store.close()


# Secrets


class Catching(logging.Handler):
    """Formats every record at once, as a file's handler would."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record) + "".join(map(repr, (record.msg, record.args, record.exc_info))))


@pytest.fixture
def everything():
    """All that is logged, with the root logger at DEBUG."""
    root = logging.getLogger()
    before = root.level
    handler = Catching()
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler.lines
    root.setLevel(before)
    root.removeHandler(handler)


def forms(secret: bytes) -> set[str]:
    encoded = base64.b64encode(secret).decode()
    text = secret.decode("latin-1")
    return {encoded, quote(encoded, safe=""), secret.hex(), repr(secret)[2:-1], text, quote(secret, safe="")}


def test_no_secret_in_any_log_or_error(secure, proxy, file, everything):
    token = "FwoGZXIvYXdzEXAMPLE/session+token==/of-these-tests-0123456789"
    secrets = [KEY, OTHER_KEY, secure.secret_key.encode(), token.encode()]
    raised: list[BaseException] = []

    def tried(verb) -> None:
        try:
            verb()
        except S3BlobStorageError as error:
            raised.append(error)

    small, _ = file(1000)
    large, _ = file(16 * MB + 1)
    for changed in ({}, {"session_token": token}):
        store = open_store(dataclasses.replace(secure, outage_patience=2.0, **changed))
        tried(lambda store=store: store.open_bucket(True))
        tried(lambda store=store: store.put_bytes("m", b"x"))
        tried(lambda store=store: store.put_file("x", small, metadata={}))
        tried(lambda store=store: store.put_file("l", large, metadata={}))
        tried(lambda store=store: store.copy("x", "y"))
        tried(lambda store=store: store.encrypted_with(customer_key(OTHER_KEY)).put_file("x", small, metadata={}))
        tried(lambda store=store: store.copy("x", "y", source_store=store.encrypted_with(customer_key(OTHER_KEY))))
        tried(lambda store=store: store.head("x"))
        tried(lambda store=store: read(store, "x"))
        tried(lambda store=store: list(store.list()))
        tried(lambda store=store: store.delete(["x", "y"]))
        proxy.fail(answer(500, "InternalError"), times=math.inf)
        tried(lambda store=store: store.get_bytes("m"))
        proxy.forgive()
        proxy.down()
        tried(lambda store=store: store.head("m"))
        proxy.up()
        everything.append(repr(store) + repr(store.settings) + repr(vars(store)))
        store.close()
    everything.extend(repr(error) + str(error) for error in raised)
    assert raised

    text = "\n".join(everything)
    # botocore did log its requests, with the headers that carry the secrets
    assert "x-amz-server-side-encryption-customer-key" in text.lower()
    assert "x-amz-security-token" in text.lower()
    assert "Making request for OperationModel(name=PutObject)" in text
    for secret in secrets:
        for form in forms(secret):
            assert form not in text
    assert not [line for line in everything if "Signature=" in line and "Signature=[hidden]" not in line]


def test_every_logger_of_the_libraries_is_filtered():
    """In a fresh process: whatever botocore imports late must be filtered as well."""
    code = """
import logging
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.objectstore.redaction import SecretsFilter
from collective.s3blobstorage.settings import StoreSettings
keys = {"access_key": "a", "secret_key": "b" * 20}
settings = StoreSettings(bucket="bucket", endpoint_url="http://127.0.0.1:9", outage_patience=2.0, **keys)
store = open_store(settings)
for verb in (lambda: store.open_bucket(True), lambda: store.get_bytes("x"), lambda: store.delete(["a", "b"])):
    try:
        verb()
    except Exception as error:
        print(type(error).__name__)
names = [n for n in logging.Logger.manager.loggerDict if n.split(".")[0] in ("botocore", "boto3", "urllib3")]
found = {n: logging.getLogger(n) for n in names}
bare = [n for n, l in found.items() if not any(isinstance(f, SecretsFilter) for f in l.filters)]
print(len(names) > 10, bare)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["Unavailable"] * 3 + ["True []"]
