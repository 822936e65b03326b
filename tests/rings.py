"""Key rings, and the encryptions that sections of zope.conf make of them, for tests."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from zope.interface import implementer

from collective.s3blobstorage.encryption.configured import ClientSideMode, CustomerKeysMode, configured
from collective.s3blobstorage.encryption.customer_key import CustomerKey
from collective.s3blobstorage.encryption.interfaces import IKeyProvider
from collective.s3blobstorage.encryption.ring import KeyRing
from collective.s3blobstorage.settings import StoreSettings


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


def ring_of(active="one", **keys):
    """A ring of keys by their ids, of which ``active`` writes."""
    return KeyRing([GivenKey(id, data) for id, data in keys.items()], active)


def ring(*ids, active="", salt=""):
    """A ring of these keys, whose bytes follow from their ids and ``salt``; the first one writes unless told."""
    ids = ids or ("2026-11",)
    return KeyRing([GivenKey(id, hashlib.sha256(f"{id}{salt}".encode()).digest()) for id in ids], active or ids[0])


def customer_key(data):
    return CustomerKey(ring_of(one=data), "one")


def sse_c(data=None, *, required=False, active="one", **keys):
    """As of ``<sse-c>``: one key, or several by their ids."""
    return configured([CustomerKeysMode(_providers(data, keys), active)], required=required)


def client_side(data=None, *, required=False, active="one", **keys):
    """As of ``<client-side-encryption>``."""
    return configured([ClientSideMode(_providers(data, keys), active)], required=required)


def _providers(data, keys):
    return tuple(GivenKey(id, each) for id, each in (keys or {"one": data}).items())


def encrypted(mode):
    """What ``--encrypt`` names: two keys, of which objects are written with one."""
    keys = {"one": bytes(range(32)), "two": bytes(range(1, 33))}
    return {"client-side": client_side, "sse-c": sse_c}[mode](active="one", **keys)


SECTIONS = {"client-side": "client-side-encryption", "sse-c": "sse-c"}


def section_of(encryption):
    """The lines of zope.conf that ask for what ``encrypted`` gives; ``variables_of`` has the keys."""
    keys = "".join(f"  <key {id}>\n    value $(SITE_KEY_{id.upper()})\n  </key>\n" for id in encryption.ring.ids)
    name = SECTIONS[encryption.name]
    return f"<{name}>\n  active-key {encryption.ring.active_id}\n{keys}</{name}>"


def variables_of(encryption):
    """The environment that ``section_of`` reads."""
    return {f"SITE_KEY_{key.id.upper()}": base64.b64encode(key.material).decode() for key in encryption.ring}


def store_from_json(given):
    """What ``sites.store_as_json`` was given, in a child process; of encryptions those of ``encrypted``."""
    mode = given.get("encryption")
    return StoreSettings(**{**given, "encryption": encrypted(mode) if mode else None})
