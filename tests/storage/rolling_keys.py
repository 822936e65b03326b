"""Configurations of a site whose keys are changed, and objects as they were written with each."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import random

from rings import GivenKey

from collective.s3blobstorage.encryption.configured import NO_ENCRYPTION, ClientSideMode, CustomerKeysMode, configured
from collective.s3blobstorage.encryption.register import open_ring
from collective.s3blobstorage.keys import MARKER
from collective.s3blobstorage.objectstore import open_store

ONE, TWO = bytes(range(32)), bytes(range(1, 33))
MODES = {"client-side": ClientSideMode, "sse-c": CustomerKeysMode}

BLOB = "blobs/0000000000000001/" + "0" * 32
OTHER = "blobs/0000000000000002/0000000000000007"
OLD_FORM = "blobs/3/7.blob"
ADDON = "addons/collective.reports/2026/one.pdf"
FOREIGN = "somebody/else.txt"
OURS = (ADDON, BLOB, OTHER, OLD_FORM)


def section(mode, active, **keys):
    """One section with keys by their ids."""
    if mode == "none":
        return NO_ENCRYPTION
    return MODES[mode](tuple(GivenKey(id, data) for id, data in keys.items()), active)


def before(mode):
    """As a site is configured before its keys are changed: one key, one section."""
    return configured([section(mode, "one", one=ONE)])


def after(mode, former=None):
    """As it is configured when everything shall be written with the key ``two``; ``former``: the mode before, where it
    was another one."""
    if former in (None, mode):
        return configured([section(mode, "two", one=ONE, two=TWO)])
    first = section(mode, "two", two=TWO)
    return configured([first] if former == "none" else [first, section(former, "one", one=ONE)])


def alone(mode):
    """The same once the former key is gone."""
    return configured([section(mode, "two", two=TWO)])


class Stores:
    """Opens stores on one prefix, as a site does it: with the keys registered. All are closed at the end."""

    def __init__(self, settings):
        self.settings = settings
        self._opened = []

    def open(self, encryption, *, register=True, **changed):
        store = open_store(dataclasses.replace(self.settings, encryption=encryption), **changed)
        self._opened.append(store)
        if register and encryption.ring is not None:
            open_ring(store.unencrypted(), encryption.ring, encryption.name, writable=not store.read_only)
        return store

    def close(self):
        for store in self._opened:
            store.close()


def content(key, size=None):
    """The bytes of the object of that key."""
    chance = random.Random(key)
    return chance.randbytes(chance.choice([0, 1, 3000, 70_000]) if size is None else size)


def fill(store, tmp_path, keys=OURS):
    """Objects of every kind, the marker, and one that is not ours; by their keys."""
    wrote = {key: content(key) for key in keys}
    for key, data in wrote.items():
        path = tmp_path / "filled"
        path.write_bytes(data)
        store.put_file(key, path, metadata={"oid": "1"}, sha256=hashlib.sha256(data).digest())
    store.put_bytes(MARKER, b"the marker")
    return wrote


def blob_keys(count):
    return [f"blobs/{number:016x}/{number:032x}" for number in range(count)]


def read(store, key):
    target = io.BytesIO()
    store.get_file(key, target)
    return target.getvalue()


def used(store, keys):
    """Mode and id of the key of each, once."""
    found = (store.protection(key) for key in keys)
    return {(each.mode, each.key.partition("/")[0]) for each in found}
