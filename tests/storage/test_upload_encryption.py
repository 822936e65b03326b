"""Direct uploads and encryption: how what is uploaded is encrypted while it waits, and as a blob."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
from contextlib import closing

import pytest
from browser import send, send_all
from rings import client_side, sse_c
from servers.ceph import KMS_KEY
from sites import bucket_keys, raw_client, unfinished_uploads

from collective.s3blobstorage.directupload.area import UploadArea
from collective.s3blobstorage.directupload.interfaces import UploadWrong
from collective.s3blobstorage.encryption.configured import StoreMode, configured
from collective.s3blobstorage.encryption.managed import SSEKMS, SSES3
from collective.s3blobstorage.errors import ConfigurationError, EncryptionNotHonoured, PreconditionFailed
from collective.s3blobstorage.keys import blob_key, upload_key
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.settings import UploadSettings

MB = 1024 * 1024
SMALL = os.urandom(100_000)
LARGE = os.urandom(17 * MB + 5)  # two parts
KEY = bytes(range(32))
TARGET = blob_key(b"\0" * 7 + b"\1", "a" * 32)

MODES = {
    "none": None,
    "sse-s3": configured([StoreMode("sse-s3", lambda required: SSES3(required=required))]),
    "sse-kms": configured(
        [StoreMode("sse-kms", lambda required: SSEKMS(KMS_KEY, {}, bucket_key=False, dsse=False, required=required))]
    ),
    "sse-c": sse_c(KEY),
    "client-side": client_side(KEY),
}
# The storage's mode, direct-upload-staging, and how the object waits.
CASES = [
    ("none", "sse-s3", None),
    ("sse-s3", "none", "AES256"),
    ("sse-kms", "none", "aws:kms"),
    ("sse-c", "sse-s3", "AES256"),
    ("sse-c", "none", None),
    ("client-side", "sse-s3", "AES256"),
    ("client-side", "none", None),
]

pytestmark = pytest.mark.clear  # each test chooses its encryption


@pytest.fixture
def opened(secure):
    stores = []

    def make(mode, staging):
        stores.append(open_store(dataclasses.replace(secure, encryption=MODES[mode])))
        return stores[-1], UploadArea(stores[-1], UploadSettings(staging=staging))

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def on_ceph(pytestconfig):
    return pytestconfig.getoption("--s3") != "ministack"


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["one request", "parts"])
@pytest.mark.parametrize(("mode", "staging", "waits"), CASES)
def test_there_and_to_a_blob(opened, secure, on_ceph, mode, staging, waits, data):
    if on_ceph and waits == "AES256":
        pytest.skip("Ceph ignores AES256")
    store, area = opened(mode, staging)
    assert area.why_not() == ""
    upload = area.begin(len(data), single=len(data) == len(SMALL))
    send_all(area, upload, data)
    staged = area.finish(upload)
    told = raw_client(secure).head_object(Bucket=secure.bucket, Key=f"p/{upload_key(upload.id)}")
    assert told.get("ServerSideEncryption") == waits
    assert (told["ContentType"], told["ContentDisposition"]) == ("application/octet-stream", "attachment")
    assert staged.beginning() == data[:4096]
    with staged.open() as file:
        assert file.read() == data
    copied = staged.copy_to(TARGET, {"oid": "0000000000000001"})
    assert store.protection(TARGET).mode == mode
    assert store.get_bytes(TARGET, limit=1 << 30) == data
    digest = hashlib.sha256(data).digest()
    assert (copied.size, copied.sha256 in (None, digest)) == (len(data), True)
    if mode == "client-side":
        assert copied.sha256 == digest
    assert store.head(TARGET).metadata["oid"] == "0000000000000001"
    area.drop(upload)
    assert bucket_keys(secure) == [TARGET]
    assert unfinished_uploads(secure) == []


def test_what_has_to_be_signed_along(opened):
    """A browser cannot leave out that the store is to encrypt; parts need nothing but their length."""
    _, area = opened("sse-kms", "none")
    upload = area.begin(len(SMALL), single=True)
    request = area.put_request(upload, seconds=600)
    assert request.headers["x-amz-server-side-encryption"] == "aws:kms"
    assert send(request, SMALL, **{"x-amz-server-side-encryption": None}) == 403
    assert send(request, SMALL) == 200
    request = area.part_request(area.begin(len(LARGE)), 1, seconds=600)
    assert dict(request.headers) == {"Content-Length": str(16 * MB)}


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["one request", "parts"])
def test_the_announced_hash_is_compared_while_it_is_encrypted(opened, secure, on_ceph, data, tls_proxy):
    """Not before: it comes here once. What the store compared is not announced to the copy any more."""
    store, area = opened("client-side", "none")
    digest = hashlib.sha256(data).digest()
    upload = area.begin(len(data), sha256=digest)
    other = bytes(len(data))
    if upload.parts or on_ceph:
        send_all(area, upload, other)
        tls_proxy.reset()
        staged = area.finish(upload)
        assert tls_proxy.counts()["GetObject"] == 0
        with pytest.raises(UploadWrong, match="SHA-256"):
            staged.copy_to(TARGET, {})
        with pytest.raises(UploadWrong, match="SHA-256"):
            staged.download(io.BytesIO())
        assert bucket_keys(secure) == [upload_key(upload.id)]
        assert unfinished_uploads(secure) == []
        upload = area.begin(len(data), sha256=digest)
    send_all(area, upload, data)
    assert area.finish(upload).copy_to(TARGET, {}).sha256 == digest
    assert store.get_bytes(TARGET, limit=1 << 30) == data


@pytest.mark.parametrize("mode", ["sse-c", "client-side"])
def test_nobody_swaps_it_while_it_is_encrypted(opened, secure, mode):
    _, area = opened(mode, "none")
    upload = area.begin(len(SMALL), single=True)
    send_all(area, upload, SMALL)
    staged = area.finish(upload)
    send_all(area, upload, SMALL[::-1])
    with pytest.raises(PreconditionFailed):
        staged.copy_to(TARGET, {})
    assert bucket_keys(secure) == [upload_key(upload.id)]


def test_what_is_not_encrypted_as_it_has_to_be_is_deleted(opened, s3, secure):
    """Whoever has other credentials put it there; or the store stopped to encrypt."""
    _, area = opened("sse-kms", "none")
    upload = area.begin(len(SMALL), single=True)
    s3.put_object(Bucket=secure.bucket, Key=f"p/{upload_key(upload.id)}", Body=SMALL)
    with pytest.raises(EncryptionNotHonoured):
        area.finish(upload)
    assert bucket_keys(secure) == []


@pytest.mark.parametrize("mode", ["sse-c", "client-side"])
def test_no_upload_is_begun_with_a_key_of_ours(opened, secure, mode):
    store, _ = opened(mode, "none")
    with pytest.raises(ConfigurationError, match="a browser must not have the key"):
        store.begin_upload(TARGET)
    assert unfinished_uploads(secure) == []


def test_a_store_that_does_not_encrypt_by_itself(settings, front, bucket):
    """As Ceph does not: nothing waits in clear there unless zope.conf says so."""
    front.strange.ignores = ("x-amz-server-side-encryption",)
    configuration = dataclasses.replace(
        settings, endpoint_url=front.endpoint_url, encryption=client_side(KEY), prefix="p"
    )
    with closing(open_store(configuration)) as store:
        area = UploadArea(store, UploadSettings(staging="sse-s3"))
        assert "direct-upload-staging none" in area.why_not()
        asked = len(front.strange.seen)
        with pytest.raises(ConfigurationError, match="direct-upload-staging none"):
            area.begin(len(SMALL), single=True)
        assert len(front.strange.seen) == asked  # it was tried out once
        assert bucket_keys(configuration) == []
        assert UploadArea(store, UploadSettings(staging="none")).why_not() == ""
    front.strange.ignores, front.strange.refuses = (), ("x-amz-server-side-encryption",)
    with closing(open_store(configuration)) as store:
        area = UploadArea(store, UploadSettings(staging="sse-s3"))
        assert "direct-upload-staging none" in area.why_not()
