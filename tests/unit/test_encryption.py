"""What the encryptions add to requests, and which echoes they believe."""

from __future__ import annotations

import base64
import hashlib

import pytest
from zope.interface.verify import verifyObject

from collective.s3blobstorage.encryption.customer_key import CustomerKey
from collective.s3blobstorage.encryption.interfaces import IServerSideEncryption
from collective.s3blobstorage.encryption.none import NoEncryption
from collective.s3blobstorage.errors import ConfigurationError, EncryptionNotHonoured

KEY = bytes(range(32))
OTHER = bytes(range(1, 33))


def fingerprint(key: bytes) -> str:
    return base64.b64encode(hashlib.md5(key, usedforsecurity=False).digest()).decode()


@pytest.mark.parametrize("encryption", [NoEncryption(), CustomerKey(KEY)])
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
    encryption = CustomerKey(KEY)
    assert encryption.needs_tls
    expected = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": KEY}
    assert encryption.write_parameters() == encryption.part_parameters() == encryption.read_parameters() == expected
    assert encryption.copy_source_parameters() == {
        "CopySourceSSECustomerAlgorithm": "AES256",
        "CopySourceSSECustomerKey": KEY,
    }


def test_customer_key_believes_its_own_echo_only():
    encryption = CustomerKey(KEY)
    encryption.check_echo({"SSECustomerAlgorithm": "AES256", "SSECustomerKeyMD5": fingerprint(KEY)})
    for answer in (
        {},
        {"ServerSideEncryption": "AES256"},
        {"SSECustomerAlgorithm": "AES256"},
        {"SSECustomerKeyMD5": fingerprint(KEY)},
        {"SSECustomerAlgorithm": "AES256", "SSECustomerKeyMD5": fingerprint(OTHER)},
        {"SSECustomerAlgorithm": "", "SSECustomerKeyMD5": fingerprint(KEY)},
    ):
        with pytest.raises(EncryptionNotHonoured) as raised:
            encryption.check_echo(answer)
        assert "s3-sse-customer-key" in str(raised.value)


@pytest.mark.parametrize("key", [b"", KEY[:31], KEY + b"x", base64.b64encode(KEY), "0" * 32, None])
def test_a_key_of_another_length_is_refused_without_showing_it(key):
    with pytest.raises(ConfigurationError) as raised:
        CustomerKey(key)
    message = str(raised.value)
    assert "s3-sse-customer-key" in message and "32 bytes" in message and "openssl rand" in message
    if isinstance(key, bytes) and key:
        assert key.decode("latin-1") not in message


def test_the_key_is_in_no_repr():
    shown = repr(CustomerKey(KEY)) + str(CustomerKey(KEY))
    assert KEY.hex() not in shown and base64.b64encode(KEY).decode() not in shown and repr(KEY) not in shown
