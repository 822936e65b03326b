"""What the sections of zope.conf say reaches the bucket: how is written, what is read after a change, what is refused.

Over https throughout, as SSE-C and Ceph's KMS want it.
"""

from __future__ import annotations

import base64
import dataclasses
import io

import boto3
import pytest
import ZConfig
from botocore.exceptions import ClientError
from servers.ceph import KMS_KEY
from sites import raw_client
from ZODB.config import getStorageSchema

from collective.s3blobstorage.encryption.register import open_ring
from collective.s3blobstorage.errors import EncryptionKeyMissing, EncryptionNotHonoured, Refused
from collective.s3blobstorage.keys import MARKER
from collective.s3blobstorage.objectstore import open_store

NAME = "blobs/0000000000000001/" + "0" * 32
NEXT = "blobs/0000000000000002/" + "0" * 32
DATA = b"what a visitor uploaded"
KEYS = [base64.b64encode(bytes([number]) * 32).decode() for number in range(4)]

SECTIONS = {
    "none": "<no-encryption/>",
    "sse-s3": "<sse-s3/>",
    "sse-kms": f"<sse-kms>\nkms-key-id {KMS_KEY}\nencryption-context site=intranet\nbucket-key on\n</sse-kms>",
    "sse-c": f"<sse-c>\n<key c1>\nvalue {KEYS[0]}\n</key>\n</sse-c>",
    "client-side": f"<client-side-encryption>\n<key a1>\nvalue {KEYS[1]}\n</key>\n</client-side-encryption>",
}


@pytest.fixture
def opened(settings, tls_proxy, ca):
    """``opened(section, …)``: the store of a file of configuration with these sections."""
    secure = dataclasses.replace(settings, endpoint_url=tls_proxy.endpoint_url, ca_bundle=ca.bundle)
    stores = []

    def make(*sections: str):
        lines = ["%import collective.s3blobstorage", "<s3blobstorage>", *sections, "bucket-name plone-blobs"]
        lines += [f"s3-endpoint-url {secure.endpoint_url}", "cache-dir /nonexistent", "<mappingstorage/>"]
        text = "\n".join([*lines, "</s3blobstorage>", ""])
        config, _ = ZConfig.loadConfigFile(getStorageSchema(), io.StringIO(text))
        encryption = config.storage.settings.store.encryption
        store = open_store(dataclasses.replace(secure, encryption=encryption))
        stores.append(store)
        return store

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def known(pytestconfig):
    """The ways that the server has."""
    kind = pytestconfig.getoption("--s3")
    return [name for name in SECTIONS if not (name == "sse-s3" and kind != "ministack")]


@pytest.fixture
def raw(settings, tls_proxy, ca):
    client = raw_client(dataclasses.replace(settings, endpoint_url=tls_proxy.endpoint_url, ca_bundle=ca.bundle))
    return lambda key, **sent: client.get_object(Bucket=settings.bucket, Key=key, **sent)


def check_stored(raw, key: str, way: str) -> None:
    """What the server itself has, asked around everything under test."""
    own = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": bytes(32)} if way == "sse-c" else {}
    if own:
        with pytest.raises(ClientError) as raised:
            raw(key)
        assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 403)
    answer = raw(key, **own)
    algorithms = {"sse-s3": "AES256", "sse-kms": "aws:kms"}
    if way in algorithms:
        assert answer["ServerSideEncryption"] == algorithms[way]
    stored = answer["Body"].read()
    assert (stored == DATA) is (way != "client-side")
    assert DATA not in stored or way != "client-side"


def read(store, key: str = NAME) -> bytes:
    target = io.BytesIO()
    store.get_file(key, target)
    return target.getvalue()


@pytest.mark.parametrize("after", SECTIONS)
@pytest.mark.parametrize("before", SECTIONS)
def test_from_one_way_to_another(opened, known, raw, before, after):
    if not {before, after} <= set(known):
        pytest.skip("Ceph ignores SSE-S3")
    opened(SECTIONS[before]).put_bytes(NAME, DATA)
    check_stored(raw, NAME, before)
    sections = [SECTIONS[after]] + ([SECTIONS[before]] if before != after else [])
    changed = opened(*sections)
    assert read(changed) == DATA and changed.head(NAME).size == len(DATA)
    changed.put_bytes(NEXT, DATA)
    check_stored(raw, NEXT, after)
    assert read(changed, NEXT) == DATA
    if after == "none":
        return
    strict = opened(*sections, "require-encryption on")
    assert read(strict, NEXT) == DATA
    if before == after or (before, after) == ("sse-kms", "sse-s3"):
        assert read(strict) == DATA
    else:
        for verb in (read, lambda store: store.head(NAME)):
            with pytest.raises((EncryptionNotHonoured, Refused)):
                verb(strict)


@pytest.mark.parametrize("after", ["sse-kms", "sse-c", "client-side"])
@pytest.mark.parametrize("before", ["none", "sse-kms", "sse-c", "client-side"])
def test_the_owner_marker_is_read_in_whatever_way_it_was_written(opened, before, after):
    opened(SECTIONS[before]).put_bytes(MARKER, b"{}")
    sections = [SECTIONS[after]] + ([SECTIONS[before]] if before != after else [])
    strict = opened(*sections, "require-encryption on")
    assert strict.get_bytes(MARKER) == b"{}" and strict.head(MARKER).size == 2


def test_an_earlier_key_reads_and_the_active_one_writes(opened, raw):
    first = f"<sse-c>\n<key c1>\nvalue {KEYS[0]}\n</key>\n</sse-c>"
    opened(first).put_bytes(NAME, DATA)
    keys = f"<key c1>\nvalue {KEYS[0]}\n</key>\n<key c2>\nvalue {KEYS[2]}\n</key>"
    both = opened(f"<sse-c>\nactive-key c2\n{keys}\n</sse-c>")
    assert read(both) == DATA
    both.put_bytes(NEXT, DATA)
    with pytest.raises((EncryptionNotHonoured, Refused)):  # the process that nobody told of the new key
        read(opened(first), NEXT)
    own = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": bytes([2]) * 32}
    assert raw(NEXT, **own)["Body"].read() == DATA


def test_the_key_of_zodb_s3blobs_reads_beside_a_ring(opened, raw):
    opened(f"s3-sse-customer-key {KEYS[0]}").put_bytes(NAME, DATA)
    check_stored(raw, NAME, "sse-c")
    for section in (SECTIONS["client-side"], f"<sse-c>\n<key c2>\nvalue {KEYS[2]}\n</key>\n</sse-c>"):
        assert read(opened(section, f"s3-sse-customer-key {KEYS[0]}")) == DATA


def test_two_processes_while_a_key_is_rolled_out(opened):
    """Readers know a key before a writer uses it: then each reads what the other writes."""

    def section(active: str) -> str:
        keys = f"<key a1>\nvalue {KEYS[1]}\n</key>\n<key a2>\nvalue {KEYS[3]}\n</key>"
        return f"<client-side-encryption>\nactive-key {active}\n{keys}\n</client-side-encryption>"

    old, new = opened(section("a1")), opened(section("a2"))
    old.put_bytes(NAME, DATA)
    new.put_bytes(NEXT, DATA)
    for store in (old, new):
        assert read(store) == read(store, NEXT) == DATA
    with pytest.raises(EncryptionKeyMissing) as raised:
        read(opened(SECTIONS["client-side"]), NEXT)
    assert raised.value.id == "a2"


def test_a_key_that_aws_kms_wraps(opened, s3_server, pytestconfig, monkeypatch, raw):
    if pytestconfig.getoption("--s3") != "ministack":
        pytest.skip("Ceph has no KMS of AWS")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    kms = boto3.client("kms", endpoint_url=s3_server.endpoint_url, region_name=s3_server.region)
    lines = f"kms-key-id {kms.create_key()['KeyMetadata']['Arn']}\nregion {s3_server.region}"
    section = f"<kms-key k1>\n{lines}\nendpoint-url {s3_server.endpoint_url}\n</kms-key>"
    first, second = (opened(f"<client-side-encryption>\n{section}\n</client-side-encryption>") for _ in range(2))
    for store in (first, second):
        open_ring(store, store.encryption.ring, "client-side", writable=True)
    first.put_bytes(NAME, DATA)
    check_stored(raw, NAME, "client-side")
    assert read(second) == DATA
