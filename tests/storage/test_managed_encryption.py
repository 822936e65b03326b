"""SSE-S3 and SSE-KMS on a real server.

MiniStack honours AES256 and aws:kms, and refuses aws:kms:dsse. Ceph has aws:kms with the testing backend's one key,
over https, and ignores AES256. DSSE was not run on a real server: tests/unit/test_managed.py has its headers and echo.
"""

from __future__ import annotations

import dataclasses
import io
import os
import ssl
import urllib.request

import pytest
from servers.ceph import KMS_KEY
from strange_front import Front

from collective.s3blobstorage.encryption.managed import SSEKMS, SSES3
from collective.s3blobstorage.errors import EncryptionNotHonoured, Refused
from collective.s3blobstorage.keys import object_key
from collective.s3blobstorage.objectstore import copy as copying
from collective.s3blobstorage.objectstore import open_store, parts
from collective.s3blobstorage.objectstore.signed import SignedRequests

CONTEXT = {"site": "intranet"}


def kms(key_id=KMS_KEY, **asked) -> SSEKMS:
    return SSEKMS(key_id, CONTEXT, **({"bucket_key": False, "dsse": False, "required": False} | asked))


@pytest.fixture
def kind(pytestconfig) -> str:
    return pytestconfig.getoption("--s3")


@pytest.fixture
def store(settings):
    opened = open_store(settings)
    yield opened
    opened.close()


@pytest.fixture(params=["sse-s3", "sse-kms", "sse-kms with bucket key"])
def encryption(request, kind):
    if request.param == "sse-s3":
        if kind != "ministack":
            pytest.skip("Ceph ignores AES256")
        return SSES3(required=False)
    if kind == "ceph":
        pytest.skip("Ceph takes KMS over https only")
    return kms(bucket_key=request.param.endswith("key"))


ALGORITHMS = {"sse-s3": "AES256", "sse-kms": "aws:kms"}


def told(s3, bucket, key, encryption) -> None:
    """The server itself says that the object is encrypted, and with which key."""
    there = s3.head_object(Bucket=bucket, Key=key)
    assert there["ServerSideEncryption"] == ALGORITHMS[encryption.name]
    if encryption.name == "sse-kms":
        assert there["SSEKMSKeyId"] == KMS_KEY


def test_one_put(store, s3, bucket, encryption):
    encrypted = store.encrypted_with(encryption)
    encrypted.put_bytes("small", b"some bytes")
    told(s3, bucket, "small", encryption)
    # Nothing need be sent to read it, so who does not know of the encryption reads it too.
    for each in (encrypted, store):
        assert each.get_bytes("small") == b"some bytes"
        assert each.head("small").size == 10


def test_in_parts(store, s3, bucket, encryption, tmp_path):
    data = os.urandom(parts.SINGLE_PUT_LIMIT + 1000)
    path = tmp_path / "file"
    path.write_bytes(data)
    encrypted = store.encrypted_with(encryption)
    encrypted.put_file("large", path, metadata={})
    told(s3, bucket, "large", encryption)
    target = io.BytesIO()
    encrypted.get_file("large", target)
    assert target.getvalue() == data
    arrived = bytearray()
    encrypted.get_range("large", 1000, 5000, arrived.extend)
    assert arrived == data[1000:6000]


def test_a_store_whose_answers_to_parts_say_nothing(settings, s3_server, s3, ca, tmp_path, kind, monkeypatch):
    """What begins the upload has told that it is encrypted."""
    if kind == "ceph":
        pytest.skip("Ceph takes KMS over https only")
    front = Front(s3_server, ca)
    front.strange.quiet_parts = True
    store = open_store(dataclasses.replace(settings, endpoint_url=front.endpoint_url, ca_bundle=ca.bundle))
    path = tmp_path / "file"
    path.write_bytes(os.urandom(parts.SINGLE_PUT_LIMIT + 1000))
    encrypted = store.encrypted_with(kms())
    try:
        encrypted.put_file("large", path, metadata={})
        told(s3, settings.bucket, "large", encrypted.connection.encryption)
        if kind == "ministack":  # Ceph copies no encrypted objects
            monkeypatch.setattr(copying, "IN_ONE", 8 * parts.MB)
            monkeypatch.setattr(copying, "COPY_PART", 8 * parts.MB)
            encrypted.copy("large", "copy", metadata={})
            assert encrypted.head("copy").etag.endswith("-3")
            told(s3, settings.bucket, "copy", encrypted.connection.encryption)
        assert any(line.startswith("PUT") for line in front.strange.seen)
    finally:
        store.close()
        front.close()


def test_after_the_first_request_no_other_goes_through_boto3(store, encryption, monkeypatch):
    encrypted = store.encrypted_with(encryption)
    encrypted.put_bytes("first", b"x")  # boto3 shows the way
    encrypted.get_bytes("first")

    def through_boto3(self, operation, parameters):
        raise AssertionError(f"{operation} went through boto3's client")

    monkeypatch.setattr(SignedRequests, "_by_client", through_boto3)
    encrypted.put_bytes("second", b"y")
    assert encrypted.get_bytes("second") == b"y"


def test_a_signed_url_needs_no_key(store, encryption):
    encrypted = store.encrypted_with(encryption)
    encrypted.put_bytes("x", b"some bytes")
    bundle = store.settings.ca_bundle
    trusted = None if bundle is None else ssl.create_default_context(cafile=str(bundle))
    with urllib.request.urlopen(encrypted.presign_get("x", seconds=60).url, context=trusted) as answer:
        assert answer.read() == b"some bytes"


def test_ceph_ignores_sse_s3_and_nothing_stays_in_clear(store, s3, bucket, kind):
    if kind == "ministack":
        pytest.skip("MiniStack has SSE-S3")
    with pytest.raises(EncryptionNotHonoured, match="<sse-s3>"):
        store.encrypted_with(SSES3(required=False)).put_bytes("x", b"in clear")
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize("changed", [{"dsse": True}, {"key_id": None}], ids=["dsse", "no key"])
def test_what_the_servers_of_the_tests_refuse_is_an_error(store, s3, bucket, changed):
    with pytest.raises((Refused, EncryptionNotHonoured)):
        store.encrypted_with(kms(**changed)).put_bytes("x", b"in clear")
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize("size", [1000, 2000])
def test_a_copy_that_is_not_encrypted_takes_no_shared_object_along(settings, front, store, size, monkeypatch):
    """A commit may have stored it, or found it there, while it was copied to."""
    monkeypatch.setattr(copying, "IN_ONE", 1500)
    shared, data = object_key(f"{'ab' * 32}.0"), os.urandom(size)
    for key in ("blobs/0000000000000001/" + "1" * 32, shared):
        store.put_bytes(key, data)
    front.strange.ignores = ("x-amz-server",)
    deaf = open_store(dataclasses.replace(settings, endpoint_url=front.endpoint_url))
    try:
        with pytest.raises(EncryptionNotHonoured):
            deaf.encrypted_with(SSES3(required=False)).copy("blobs/0000000000000001/" + "1" * 32, shared)
    finally:
        deaf.close()
    assert store.get_bytes(shared) == data
