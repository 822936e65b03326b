"""Encryption with keys of the store's own: what is asked, which echoes are believed, and when a blob is refused."""

from __future__ import annotations

import base64
import json

import pytest
from zope.interface.verify import verifyObject

from collective.s3blobstorage.encryption.interfaces import IServerSideEncryption
from collective.s3blobstorage.encryption.managed import SSEKMS, SSES3
from collective.s3blobstorage.errors import EncryptionNotHonoured
from collective.s3blobstorage.keys import object_key

ID = "1234abcd-12ab-34cd-56ef-1234567890ab"
ARN = f"arn:aws:kms:eu-central-1:111122223333:key/{ID}"
ALIAS = "alias/plone"
BLOB = "blobs/0000000000000001/" + "0" * 32
SHARED = object_key(f"{'ab' * 32}.0")  # of several blobs
KMS, DSSE, AES = "aws:kms", "aws:kms:dsse", "AES256"


def kms(key_id=ID, context=None, *, bucket_key=False, dsse=False, required=False) -> SSEKMS:
    return SSEKMS(key_id, context or {}, bucket_key=bucket_key, dsse=dsse, required=required)


@pytest.mark.parametrize("encryption", [SSES3(required=False), kms()])
def test_contract(encryption):
    assert verifyObject(IServerSideEncryption, encryption)
    assert not encryption.needs_tls and not encryption.own_key
    for parameters in ("part", "read", "copy_source"):
        assert getattr(encryption, f"{parameters}_parameters")() == {}
    metadata = {"size": "1", "sha256": "00"}
    assert encryption.written_metadata(BLOB, metadata) == encryption.read_metadata(BLOB, metadata) == metadata


def test_what_is_asked():
    assert SSES3(required=True).write_parameters() == {"ServerSideEncryption": AES}
    assert kms(None).write_parameters() == {"ServerSideEncryption": KMS, "BucketKeyEnabled": False}
    assert kms(ARN, bucket_key=True).write_parameters() == {
        "ServerSideEncryption": KMS,
        "SSEKMSKeyId": ARN,
        "BucketKeyEnabled": True,
    }
    # DSSE-KMS knows no bucket keys, and refuses the header.
    assert kms(bucket_key=True, dsse=True).write_parameters() == {"ServerSideEncryption": DSSE, "SSEKMSKeyId": ID}


def test_the_context_is_json_in_base64():
    context = {"site": "intranet", "department": "hr"}
    text = kms(context=context).write_parameters()["SSEKMSEncryptionContext"]
    assert json.loads(base64.b64decode(text, validate=True)) == context


@pytest.mark.parametrize(
    ("asked", "told", "believed"),
    [
        (SSES3(required=False), {"ServerSideEncryption": AES}, True),
        (SSES3(required=False), {}, False),
        (SSES3(required=False), {"ServerSideEncryption": KMS}, False),
        (SSES3(required=False), {"SSECustomerAlgorithm": AES}, False),
        (kms(), {}, False),
        (kms(), {"ServerSideEncryption": AES}, False),
        (kms(), {"ServerSideEncryption": AES, "SSEKMSKeyId": ID}, False),
        (kms(), {"ServerSideEncryption": DSSE, "SSEKMSKeyId": ID}, False),
        (kms(dsse=True), {"ServerSideEncryption": KMS, "SSEKMSKeyId": ID}, False),
        (kms(dsse=True), {"ServerSideEncryption": DSSE, "SSEKMSKeyId": ID}, True),
        (kms(), {"ServerSideEncryption": KMS}, True),  # it does not tell the key
        (kms(), {"ServerSideEncryption": KMS, "SSEKMSKeyId": ID}, True),
        (kms(), {"ServerSideEncryption": KMS, "SSEKMSKeyId": ARN}, True),
        (kms(ARN), {"ServerSideEncryption": KMS, "SSEKMSKeyId": ARN}, True),
        (kms(ARN), {"ServerSideEncryption": KMS, "SSEKMSKeyId": ID}, True),
        (kms(), {"ServerSideEncryption": KMS, "SSEKMSKeyId": ARN[:-1] + "c"}, False),
        (kms(), {"ServerSideEncryption": KMS, "SSEKMSKeyId": "x" + ID}, False),
        (kms(None), {"ServerSideEncryption": KMS, "SSEKMSKeyId": ARN}, True),
        (kms(ALIAS), {"ServerSideEncryption": KMS, "SSEKMSKeyId": ARN}, True),
        (kms("arn:aws:kms:eu-central-1:1:alias/plone"), {"ServerSideEncryption": KMS, "SSEKMSKeyId": ARN}, True),
        (kms("testkey-1"), {"ServerSideEncryption": KMS, "SSEKMSKeyId": "testkey-1"}, True),
        (kms("testkey-1"), {"ServerSideEncryption": KMS, "SSEKMSKeyId": "testkey-2"}, False),
    ],
)
def test_echo(asked, told, believed):
    if believed:
        asked.check_echo(told)
        return
    with pytest.raises(EncryptionNotHonoured) as raised:
        asked.check_echo(told)
    assert f"<{asked.name}>" in str(raised.value) and ID not in str(raised.value)


@pytest.mark.parametrize("told", [None, AES, KMS, DSSE])
@pytest.mark.parametrize("encryption", [SSES3, kms])
@pytest.mark.parametrize("blob", [BLOB, SHARED])
def test_a_blob_must_be_encrypted_where_that_is_required(encryption, told, blob):
    answer = {} if told is None else {"ServerSideEncryption": told}
    encryption(required=False).check_read(blob, answer)
    strict = encryption(required=True)
    strict.check_read(".s3blobs.json", answer)  # no blob
    if told is None or (encryption is kms and told == AES):
        with pytest.raises(EncryptionNotHonoured, match="require-encryption"):
            strict.check_read(blob, answer)
    else:
        strict.check_read(blob, answer)
