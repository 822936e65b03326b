"""Key rings, and the encryptions that sections of zope.conf make of them, for tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zope.interface import implementer

from collective.s3blobstorage.encryption.customer_key import CustomerKey
from collective.s3blobstorage.encryption.interfaces import IEncryption, IKeyProvider
from collective.s3blobstorage.encryption.none import NoEncryption
from collective.s3blobstorage.encryption.ring import KeyRing


@implementer(IKeyProvider)
@dataclass
class GivenKey:
    """A key whose bytes are known already."""

    id: str
    data: bytes
    source: str = "the test"
    keeps: bool = False

    def material(self, kept):
        return self.data

    def make(self):
        raise AssertionError("nothing is kept for this key")


@implementer(IEncryption)
@dataclass
class Configured:
    name: str
    server_side: Any
    readers: tuple
    ring: Any
    seals: bool
    required: bool


def ring_of(active="one", **keys):
    """A ring of keys by their ids, of which ``active`` writes."""
    return KeyRing([GivenKey(id, data) for id, data in keys.items()], active)


def customer_key(data):
    return CustomerKey(ring_of(one=data), "one")


def sse_c(data=None, *, required=False, active="one", **keys):
    """As of ``<sse-c>``: one key, or several by their ids."""
    ring = ring_of(active, **(keys or {"one": data}))
    readers = tuple(CustomerKey(ring, id) for id in ring.ids)
    return Configured("sse-c", readers[0], readers if required else (*readers, NoEncryption()), ring, False, required)


def client_side(data=None, *, required=False, active="one", **keys):
    """As of ``<client-side-encryption>``."""
    ring = ring_of(active, **(keys or {"one": data}))
    none = NoEncryption()
    return Configured("client-side", none, (none,), ring, True, required)
