"""What the encryptions add to requests, and which echoes they believe."""

from __future__ import annotations

import base64
import hashlib

import pytest
from rings import customer_key
from zope.interface.verify import verifyObject

from collective.s3blobstorage.encryption.interfaces import IServerSideEncryption
from collective.s3blobstorage.encryption.none import NoEncryption
from collective.s3blobstorage.errors import ConfigurationError, Corrupt, EncryptionNotHonoured

KEY = bytes(range(32))
OTHER = bytes(range(1, 33))


def fingerprint(key: bytes) -> str:
    return base64.b64encode(hashlib.md5(key, usedforsecurity=False).digest()).decode()


@pytest.mark.parametrize("encryption", [NoEncryption(), customer_key(KEY)])
def test_contract(encryption):
    assert verifyObject(IServerSideEncryption, encryption)


def test_no_encryption_asks_for_nothing_and_believes_everything():
    encryption = NoEncryption()
    assert not encryption.needs_tls
    for parameters in ("write", "part", "read", "copy_source"):
        assert getattr(encryption, f"{parameters}_parameters")() == {}
    encryption.check_echo({})
    encryption.check_echo({"SSECustomerAlgorithm": "AES256"})


def test_customer_key_goes_with_every_request():
    encryption = customer_key(KEY)
    assert encryption.needs_tls
    expected = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": KEY}
    assert encryption.write_parameters() == encryption.part_parameters() == encryption.read_parameters() == expected
    assert encryption.copy_source_parameters() == {
        "CopySourceSSECustomerAlgorithm": "AES256",
        "CopySourceSSECustomerKey": KEY,
    }


def test_customer_key_believes_its_own_echo_only():
    encryption = customer_key(KEY)
    encryption.check_echo({"SSECustomerAlgorithm": "AES256", "SSECustomerKeyMD5": fingerprint(KEY)})
    for answer in (
        {},
        {"ServerSideEncryption": "AES256"},
        {"SSECustomerAlgorithm": "AES256"},
        {"SSECustomerKeyMD5": fingerprint(KEY)},
        {"SSECustomerAlgorithm": "AES256", "SSECustomerKeyMD5": fingerprint(OTHER)},
        {"SSECustomerAlgorithm": "", "SSECustomerKeyMD5": fingerprint(KEY)},
    ):
        with pytest.raises(EncryptionNotHonoured):
            encryption.check_echo(answer)


@pytest.mark.parametrize("key", [b"", KEY[:31], KEY + b"x", base64.b64encode(KEY)])
def test_a_key_of_another_length_is_refused_without_showing_it(key):
    with pytest.raises(ConfigurationError) as raised:
        customer_key(key).write_parameters()
    message = str(raised.value)
    assert "the key one has" in message and "must have 32" in message
    if key:
        assert key.decode("latin-1") not in message


def test_a_customer_key_hides_the_hash_of_the_content():
    encryption, metadata = customer_key(KEY), {"oid": "0" * 16, "size": "3", "sha256": "ab" * 32}
    written = encryption.written_metadata("blobs/x", metadata)
    assert "ab" * 8 not in repr(written) and {"oid", "size"} < set(written)
    assert encryption.read_metadata("blobs/x", written) == metadata
    assert encryption.read_metadata("blobs/x", metadata) == metadata  # written without a key of ours
    for other, key in ((encryption, "blobs/y"), (customer_key(OTHER), "blobs/x")):
        with pytest.raises(Corrupt):
            other.read_metadata(key, written)


def test_the_key_is_in_no_repr():
    shown = repr(customer_key(KEY)) + str(customer_key(KEY))
    assert KEY.hex() not in shown and base64.b64encode(KEY).decode() not in shown and repr(KEY) not in shown
