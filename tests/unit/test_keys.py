"""Names and keys: fixed width, so that a listing sorts by oid; nothing but hex digits ever becomes part of one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.s3blobstorage.keys import (
    addon_prefix,
    blob_key,
    condemned_key,
    draw_name,
    foreign_keys,
    is_addon_key,
    is_bookkeeping,
    is_name,
    is_shared_name,
    object_key,
    read_condemned_key,
    read_foreign_key,
    read_key,
    read_object_key,
    read_reference_key,
    read_shared_name,
    reference_key,
    shared_name,
    tid_name,
)

OID = b"\0\0\0\0\0\0\x1a\x2b"
TID = b"\x03\xf0\0\0\0\0\0\x01"


def test_keys():
    assert blob_key(OID, "0" * 32) == "blobs/0000000000001a2b/" + "0" * 32
    assert tid_name(TID) == "03f0000000000001"
    assert foreign_keys(OID, TID) == (
        "blobs/1a2b/3f0000000000001.blob",
        "blobs/0000000000001a2b/03f0000000000001.blob",
    )
    assert foreign_keys(b"\0" * 8, TID)[0] == "blobs/0/3f0000000000001.blob"


def test_drawn_names_differ_and_are_names():
    names = {draw_name() for _ in range(1000)}
    assert len(names) == 1000
    assert all(is_name(name) and len(name) == 32 for name in names)


@pytest.mark.parametrize(
    "name", ["", "..", "a" * 15, "a" * 17, "A" * 32, "g" * 32, "a" * 32 + "\n", "a/b", None, 16, b"a" * 32]
)
def test_nothing_else_is_a_name(name):
    assert not is_name(name)
    with pytest.raises(ValueError):
        blob_key(OID, name)


@pytest.mark.parametrize("oid", [b"", b"\0" * 7, b"\0" * 9])
def test_an_oid_has_eight_bytes(oid):
    with pytest.raises(ValueError):
        blob_key(oid, "0" * 32)


@given(st.lists(st.binary(min_size=8, max_size=8), min_size=2))
def test_keys_sort_by_oid(oids):
    keys = [blob_key(oid, "0" * 32) for oid in oids]
    assert sorted(keys) == [blob_key(oid, "0" * 32) for oid in sorted(oids)]


@given(st.binary(min_size=8, max_size=8), st.binary(min_size=8, max_size=8))
def test_keys_are_read_as_they_are_made(oid, tid):
    assert read_key(blob_key(oid, tid_name(tid))) == (oid, tid_name(tid))
    assert read_key(blob_key(oid, "c" * 32)) == (oid, "c" * 32)
    for key in foreign_keys(oid, tid):
        assert read_foreign_key(key) == (oid, tid) and read_key(key) is None


@pytest.mark.parametrize(
    "key",
    [
        "blobs/1/1",
        "blobs/01/1.blob",
        "blobs/0000000000000001/1.blob",
        "x/1/1.blob",
        "blobs/g/1.blob",
        "blobs/1/1.blob\n",
    ],
)
def test_nothing_else_is_a_key(key):
    assert read_key(key) is None and read_foreign_key(key) is None


@pytest.mark.parametrize("name", ["a", "0", "collective.reports", "my-add_on.x", "a" * 64])
def test_the_keys_of_an_addon_lie_below_its_own_prefix(name):
    key = f"{addon_prefix(name)}x"
    assert key == f"addons/{name}/x" and is_addon_key(key) and is_addon_key(f"{key}/ü\n")
    assert read_key(key) is None and read_foreign_key(key) is None and not is_bookkeeping(key)


@pytest.mark.parametrize("name", ["", ".", "..", "-a", "_a", ".a", "A", "a/b", "a b", "ä", "a\n", "a" * 65, None, b"a"])
def test_nothing_else_is_a_name_of_an_addon(name):
    with pytest.raises(ValueError, match="example: collective.reports"):
        addon_prefix(name)


@pytest.mark.parametrize("key", ["addons", "addons/", "addons/x", "addons/x/", "addons//x", "xaddons/a/b", "blobs/a/b"])
def test_nothing_else_is_a_key_of_an_addon(key):
    assert not is_addon_key(key)


DIGEST = bytes(range(0x10, 0x30))
SHARED = f"{DIGEST.hex()}.7"


def test_what_equal_blobs_share():
    assert shared_name(DIGEST, 7) == SHARED
    assert read_shared_name(SHARED) == (DIGEST, 7)
    assert object_key(SHARED) == f"objects/10/11/{SHARED}"
    assert condemned_key(SHARED) == f"condemned/{SHARED}"
    assert reference_key(OID, "0" * 32, SHARED) == f"blobs/0000000000001a2b/{'0' * 32}.{SHARED}"


@given(st.binary(min_size=32, max_size=32), st.integers(0, 999_999_999), st.binary(min_size=8, max_size=8))
def test_each_of_their_keys_is_read_as_what_it_was_made_of(digest, generation, oid):
    shared = shared_name(digest, generation)
    assert read_shared_name(shared) == (digest, generation)
    assert read_object_key(object_key(shared)) == shared
    assert read_condemned_key(condemned_key(shared)) == shared
    for name in (draw_name(), TID.hex()):
        key = reference_key(oid, name, shared)
        assert read_reference_key(key) == (oid, name, shared)
        assert read_key(key) is None and read_foreign_key(key) is None
        assert blob_key(oid, name) < key < blob_key(oid, f"{int(name, 16) + 1:0{len(name)}x}")


@pytest.mark.parametrize(
    "name",
    ["", DIGEST.hex(), f"{DIGEST.hex()}.", f"{DIGEST.hex()}.01", f"{DIGEST.hex()}.-1", f"{DIGEST.hex()}.1000000000"]
    + [f"{DIGEST.hex().upper()}.0", f"{SHARED}\n", f"../{SHARED}", f"{DIGEST.hex()}.\u0661", None, 7],
)
def test_nothing_else_is_the_name_of_a_shared_object(name):
    assert not is_shared_name(name)
    for make in (object_key, condemned_key, read_shared_name, lambda name: reference_key(OID, "0" * 32, name)):
        with pytest.raises((ValueError, TypeError)):
            make(name)
    assert read_object_key(f"objects/10/11/{name}") is None
    assert read_condemned_key(f"condemned/{name}") is None
    assert read_reference_key(f"blobs/0000000000001a2b/{'0' * 32}.{name}") is None


@pytest.mark.parametrize("key", [f"objects/{SHARED}", f"objects/11/10/{SHARED}", f"objects/10/11/x/{SHARED}", SHARED])
def test_a_shared_object_lies_at_one_place(key):
    assert read_object_key(key) is None
