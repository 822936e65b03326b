"""From any encryption to the one that is written with now: by the store where it can, and nothing is ever lost."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import random

import pytest
from rings import client_side, sse_c
from servers.faults import answer, reset

from collective.s3blobstorage.encryption.configured import Encryption
from collective.s3blobstorage.encryption.managed import SSES3
from collective.s3blobstorage.errors import EncryptionKeyMissing, EncryptionNotHonoured, PreconditionFailed, StoreError
from collective.s3blobstorage.objectstore import copy as copying
from collective.s3blobstorage.objectstore import open_store

MB = 1024 * 1024
ONE, TWO = bytes(range(32)), bytes(range(1, 33))
NAME = "blobs/0000000000000001/" + "0" * 32
LARGE = "blobs/0000000000000002/" + "0" * 32


def both(make):
    return lambda active: make(active=active, one=ONE, two=TWO)


def sse_s3(active):
    return Encryption("sse-s3", SSES3(required=False), (SSES3(required=False),), None, False, False)


# What a storage was configured with, by its name; which reads all that came before.
BEFORE = {
    "clear": lambda: None,
    "sse-s3": lambda: sse_s3(""),
    "sse-c one": lambda: both(sse_c)("one"),
    "client-side one": lambda: both(client_side)("one"),
}


def after(name):
    """The configuration that comes then: its own section first, and one for what was there before."""
    sealed, keyed = both(client_side)("two"), both(sse_c)("two")
    if name == "clear":
        return Encryption(
            "none", sealed.server_side, (sealed.server_side, *keyed.readers[:2]), sealed.ring, False, False
        )
    if name == "sse-s3":
        first = SSES3(required=False)
        return Encryption("sse-s3", first, (first, *keyed.readers[:2]), sealed.ring, False, False)
    if name == "sse-c two":
        return dataclasses.replace(keyed, name="sse-c")
    return dataclasses.replace(sealed, readers=(sealed.server_side, *keyed.readers[:2]))


AFTER = ("clear", "sse-s3", "sse-c two", "client-side two")


@pytest.fixture(autouse=True)
def _not_sse_s3_on_ceph(request):
    if request.config.getoption("--s3") != "ministack" and "sse-s3" in request.node.name:
        pytest.skip("Ceph ignores AES256")


@pytest.fixture
def opened(settings, tls_proxy, ca):
    stores = []
    secure = dataclasses.replace(settings, endpoint_url=tls_proxy.endpoint_url, ca_bundle=ca.bundle, prefix="p")

    def make(encryption, **changed):
        store = open_store(dataclasses.replace(secure, encryption=encryption, **changed))
        stores.append(store)
        return store

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def file(tmp_path):
    def make(size):
        data = random.Random(size).randbytes(size)
        path = tmp_path / f"{size}.bin"
        path.write_bytes(data)
        return path, data

    return make


def read(store, key=NAME):
    target = io.BytesIO()
    store.get_file(key, target)
    return target.getvalue()


def wrote(store, file, key=NAME, size=300_000):
    path, data = file(size)
    store.put_file(key, path, metadata={"oid": "1"}, sha256=hashlib.sha256(data).digest())
    return data


@pytest.mark.parametrize("target", AFTER)
@pytest.mark.parametrize("origin", BEFORE)
def test_from_each_to_each(opened, file, origin, target):
    data = wrote(opened(BEFORE[origin]()), file)
    store = opened(after(target))
    before = store.protection(NAME)
    assert read(store) == data
    left = store.protect(NAME, convert=False)
    same = origin.split()[0] == target.split()[0]
    current = origin in AFTER and (same or (origin, target) == ("sse-s3", "clear"))
    assert left.what == ("current" if current else "rewrapped" if same else "left")
    assert left.before == before
    done = store.protect(NAME, convert=True)
    assert done.what in ("converted", "current") and read(store) == data
    found = store.protection(NAME)
    wanted = "none" if target == "clear" else target.split()[0]
    # What the store does by itself is as good as nothing.
    assert found.mode == wanted or (found.mode, wanted) == ("sse-s3", "none")
    assert found.key.partition("/")[0] == ("two" if "two" in target else "")
    told = store.head(NAME)
    assert (told.size, told.metadata["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert told.metadata["oid"] == "1"
    assert store.protect(NAME, convert=True).what == "current"
    assert store.protect("blobs/none", convert=True).what == "gone" and store.protection("blobs/none") is None


@pytest.mark.parametrize("make", [sse_c, client_side])
def test_a_new_key_moves_no_bytes(opened, file, tls_proxy, make):
    data = wrote(opened(both(make)("one")), file, size=3 * MB)
    store = opened(both(make)("two"))
    tls_proxy.reset()
    assert store.protect(NAME, convert=False).what == "rewrapped"
    moved = sum(exchange.bytes_up + exchange.bytes_down for exchange in tls_proxy.exchanges)
    if store.provider.value("copies_encrypted") or make is client_side:
        assert moved < 10_000
    assert read(store) == data
    alone = opened(make(active="two", two=TWO))
    assert read(alone) == data  # nothing needs the old key any more


@pytest.mark.parametrize("make", [sse_c, client_side])
def test_a_large_object_is_copied_in_parts(opened, file, make, monkeypatch):
    monkeypatch.setattr(copying, "IN_ONE", 16 * MB)
    monkeypatch.setattr(copying, "COPY_PART", 8 * MB)
    data = wrote(opened(both(make)("one")), file, LARGE, 20 * MB)
    store = opened(both(make)("two"))
    assert store.protect(LARGE, convert=False).what == "rewrapped"
    assert read(store, LARGE) == data and store.protection(LARGE).key.startswith("two/")


@pytest.mark.parametrize("make", [sse_c, client_side])
def test_an_object_that_was_changed_meanwhile_is_left(opened, file, make, monkeypatch, request):
    """Its ETag is another one than that whose metadata were read."""
    if make is client_side and request.config.getoption("--s3") != "ministack":
        pytest.skip("Ceph ignores the condition of a copy; keys are written once, and one rotation runs at a time")
    old = opened(both(make)("one"))
    wrote(old, file)
    store = opened(both(make)("two"))
    looked = store.as_stored

    def late(key):
        found = looked(key)
        old.put_bytes(key, b"another one")
        return found

    monkeypatch.setattr(store, "as_stored", late)
    try:
        store.protect(NAME, convert=False)
    except (PreconditionFailed, StoreError):
        pass
    assert read(old) == b"another one"


def test_a_key_that_is_not_there(opened, file):
    data = wrote(opened(both(client_side)("one")), file)
    store = opened(client_side(active="two", two=TWO))
    with pytest.raises(EncryptionKeyMissing):
        store.protect(NAME, convert=True)
    assert store.protection(NAME).key.startswith("one/")
    assert read(opened(both(client_side)("two"))) == data


@pytest.mark.parametrize("origin", BEFORE)
@pytest.mark.parametrize("target", ["sse-c two", "client-side two", "clear"])
@pytest.mark.parametrize(
    "fault, times", [(answer(403, "AccessDenied"), 100), (reset("after"), 1), (reset("request"), 1)]
)
def test_whatever_fails_the_bytes_stay(opened, file, tls_proxy, origin, target, fault, times):
    data = wrote(opened(BEFORE[origin]()), file)
    store = opened(after(target))
    tls_proxy.fail(fault, method="PUT", times=times)
    try:
        store.protect(NAME, convert=True)
    except StoreError:
        pass
    tls_proxy.forgive()
    assert read(store) == data
    assert store.protect(NAME, convert=True).what in ("converted", "rewrapped", "current")
    assert read(store) == data


def test_an_encryption_that_is_not_confirmed_deletes_nothing(opened, file, monkeypatch):
    data = wrote(opened(BEFORE["client-side one"]()), file)
    store = opened(after("sse-c two"))
    encryption = type(store.connection.encryption)

    def refuse(self, response):
        raise EncryptionNotHonoured("not confirmed")

    with monkeypatch.context() as patched:
        patched.setattr(encryption, "check_echo", refuse)
        patched.setattr(encryption, "check_read", lambda self, key, response: None)
        with pytest.raises(EncryptionNotHonoured):
            store.protect(NAME, convert=True)
    assert read(store) == data
