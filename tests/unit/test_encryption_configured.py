"""What several encryption sections ask for together: how is written, and how may be read."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from zope.interface.verify import verifyObject

from collective.s3blobstorage.encryption.configured import (
    NO_ENCRYPTION,
    ClientSideMode,
    CustomerKeysMode,
    ExceptBlobs,
    StoreMode,
    configured,
)
from collective.s3blobstorage.encryption.customer_key import CustomerKey
from collective.s3blobstorage.encryption.interfaces import IEncryption, IEncryptionMode, IServerSideEncryption
from collective.s3blobstorage.encryption.key_sources import ValueKey
from collective.s3blobstorage.encryption.managed import SSEKMS, SSES3
from collective.s3blobstorage.encryption.none import NoEncryption
from collective.s3blobstorage.errors import ConfigurationError, EncryptionNotHonoured
from collective.s3blobstorage.keys import object_key


def key(id: str) -> ValueKey:
    return ValueKey(id, (id * 32).encode()[:32], "value of the tests")


SSE_S3 = StoreMode("sse-s3", lambda required: SSES3(required=required))
SSE_KMS = StoreMode("sse-kms", lambda required: SSEKMS(None, {}, bucket_key=False, dsse=False, required=required))
SSE_C = CustomerKeysMode((key("c1"), key("c2")), "c2")
OLD_C = CustomerKeysMode((key("customer-key"),), "customer-key")
CLIENT = ClientSideMode((key("a1"), key("a2")), "a2")


def shown(readers) -> list[str]:
    """What is no way of reading blobs is in brackets."""
    names = []
    for reader in readers:
        name = reader.name if reader.name != "sse-c" else f"sse-c {reader.id}"
        names.append(f"({name})" if isinstance(reader, ExceptBlobs) else name)
    return names


@pytest.mark.parametrize("mode", [NO_ENCRYPTION, SSE_S3, SSE_KMS, SSE_C, CLIENT])
def test_contract(mode):
    assert verifyObject(IEncryptionMode, mode)
    assert verifyObject(IEncryption, configured([mode]))


@dataclass
class Row:
    modes: list
    name: str
    server_side: str
    readers: list[str]
    required: list[str] | None  # the readers where encryption is required; None: that is refused
    active: str | None = None
    seals: bool = False


ROWS = {
    "nothing": Row([], "none", "none", ["none"], None),
    "none": Row([NO_ENCRYPTION], "none", "none", ["none"], None),
    "sse-s3": Row([SSE_S3], "sse-s3", "sse-s3", ["sse-s3"], ["sse-s3"]),
    "sse-kms": Row([SSE_KMS], "sse-kms", "sse-kms", ["sse-kms"], ["sse-kms"]),
    "client": Row([CLIENT], "client-side", "none", ["none"], ["none"], "a2", True),
    "from sse-s3 to client": Row([CLIENT, SSE_S3], "client-side", "none", ["none"], ["none"], "a2", True),
    "from client back": Row([NO_ENCRYPTION, CLIENT], "none", "none", ["none"], None, "a2"),
    "sse-c": Row([SSE_C], "sse-c", "sse-c", ["sse-c c2", "sse-c c1", "none"], ["sse-c c2", "sse-c c1", "(none)"], "c2"),
    "from one sse-c to a ring": Row(
        [SSE_C, OLD_C],
        "sse-c",
        "sse-c",
        ["sse-c c2", "sse-c c1", "sse-c customer-key", "none"],
        ["sse-c c2", "sse-c c1", "sse-c customer-key", "(none)"],
        "c2",
    ),
    "from sse-c to kms": Row(
        [SSE_KMS, SSE_C],
        "sse-kms",
        "sse-kms",
        ["sse-kms", "sse-c c2", "sse-c c1"],
        ["sse-kms", "(sse-c c2)", "(sse-c c1)"],
        "c2",
    ),
    "from sse-c to client": Row(
        [CLIENT, SSE_C],
        "client-side",
        "none",
        ["none", "sse-c c2", "sse-c c1"],
        ["none", "(sse-c c2)", "(sse-c c1)"],
        "a2",
        True,
    ),
    "from client to sse-c": Row(
        [SSE_C, CLIENT], "sse-c", "sse-c", ["sse-c c2", "sse-c c1", "none"], ["sse-c c2", "sse-c c1", "(none)"], "c2"
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_together(row):
    found = configured(row.modes)
    assert (found.name, found.server_side.name, found.seals, found.required) == (
        row.name,
        row.server_side,
        row.seals,
        False,
    )
    assert shown(found.readers) == row.readers
    assert (None if found.ring is None else found.ring.active_id) == row.active
    if row.required is None:
        with pytest.raises(ConfigurationError, match="require-encryption is on"):
            configured(row.modes, required=True)
    else:
        strict = configured(row.modes, required=True)
        assert strict.required and shown(strict.readers) == row.required


def test_what_is_required_reaches_the_reader():
    for mode in (SSE_S3, SSE_KMS):
        for required in (False, True):
            [reader] = configured([mode], required=required).readers
            assert reader.required is required


def test_a_way_that_is_not_for_blobs():
    clear, old = ExceptBlobs(NoEncryption()), ExceptBlobs(CustomerKey(configured([SSE_C]).ring, "c1"))
    for way in (clear, old):
        assert verifyObject(IServerSideEncryption, way)
        with pytest.raises(EncryptionNotHonoured, match="require-encryption"):
            way.check_read("blobs/0000000000000001/" + "0" * 32, {})
        with pytest.raises(EncryptionNotHonoured, match="require-encryption"):
            way.check_read(object_key(f"{'ab' * 32}.0"), {})  # of several blobs
    clear.check_read(".s3blobs.json", {})
    with pytest.raises(EncryptionNotHonoured, match="customer's key"):
        old.check_read(".s3blobs.json", {})
    assert old.read_parameters()["SSECustomerKey"] == key("c1").material(None) and old.own_key and old.needs_tls


def test_the_ring_has_the_keys_of_all_sections():
    ring = configured([CLIENT, SSE_C, OLD_C]).ring
    assert ring.ids == ("a2", "a1", "c1", "c2", "customer-key")


def test_one_id_twice_is_refused():
    with pytest.raises(ConfigurationError, match="two keys have the id 'c1'"):
        configured([SSE_C, ClientSideMode((key("c1"),), "c1")])


def test_repr_has_names_alone():
    encryption = configured([CLIENT, OLD_C], required=True)
    assert repr(encryption) == "<Encryption client-side a2 a1 customer-key required>"
    assert repr(configured([])) == "<Encryption none>"
