"""The blob record: recognised in every form ZODB wrote it in, refused when damaged, ignored by ZODB."""

from __future__ import annotations

import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ZODB.blob import Blob, is_blob_record
from ZODB.serialize import ObjectWriter, referencesf

from collective.s3blobstorage.errors import RecordError
from collective.s3blobstorage.keys import shared_name
from collective.s3blobstorage.storage.record import (
    _AS_WRITTEN,
    _WRITTEN_HERE,
    BlobState,
    _unpickled,
    is_blob,
    read_state,
    with_state,
)

NAME = "0123456789abcdef0123456789abcdef"
FULL = BlobState(NAME, 12345, bytes(range(32)))


def written_by_zodb(obj) -> bytes:
    class Jar:
        def new_oid(self):
            return b"\0" * 7 + b"\1"

        def db(self):
            return self

        xrefs = True

    obj._p_jar = None
    return ObjectWriter().serialize(obj)


BLOB = written_by_zodb(Blob())
# Forms of earlier ZODB releases: (class, args) and ((module, name), args)
PAIR = pickle.dumps((Blob, None), 2) + pickle.dumps(None, 2)
PAIR_OF_NAMES = pickle.dumps((("ZODB.blob", "Blob"), None), 2) + pickle.dumps(None, 2)
PROTOCOL_1 = pickle.dumps(Blob, 1) + pickle.dumps(None, 1)


@pytest.mark.parametrize("record", [BLOB, PAIR, PAIR_OF_NAMES, PROTOCOL_1])
def test_each_form_of_a_blob_record_is_recognised(record):
    assert read_state(record) == BlobState()
    changed = with_state(record, FULL)
    assert read_state(changed) == FULL
    assert changed.startswith(record[: -len(pickle.dumps(None, 1)) - 2])


def test_zodb_reads_our_record_as_the_blob_record_it_is():
    record = with_state(BLOB, FULL)
    assert is_blob_record(record)
    assert referencesf(record) == []
    class_pickle_end = BLOB.index(b"\x80", 1)
    state = pickle.loads(record[class_pickle_end:])
    blob = Blob.__new__(Blob)
    blob.__setstate__(state)
    assert blob.readers == [] and blob.writers == []


def test_what_zodb_writes_is_recognised_by_its_beginning():
    assert BLOB.startswith(_AS_WRITTEN)


@pytest.mark.parametrize("record", [BLOB, PAIR, PAIR_OF_NAMES, PROTOCOL_1])
def test_a_blob_may_lie_in_its_record(record):
    state = BlobState(size=3, inline=b"abc")
    changed = with_state(record, state)
    assert is_blob(changed) and referencesf(changed) == []
    assert is_blob_record(changed) == is_blob_record(record)
    assert read_state(changed) == state
    assert not state.nameless and BlobState().nameless and not FULL.nameless
    assert read_state(with_state(record, BlobState(size=0, inline=b""))) == BlobState(size=0, inline=b"")


@pytest.mark.parametrize(
    "state",
    [{"s3blob": 1, "inline": "text"}, {"s3blob": 1, "inline": None}, {"s3blob": 1, "inline": b"", "name": NAME}],
)
def test_damaged_inline_states(state):
    with pytest.raises(RecordError):
        read_state(BLOB[: len(_AS_WRITTEN)] + pickle.dumps(state, 3))


def test_a_state_replaces_an_earlier_one():
    other = BlobState("f" * 32, 1, None)
    assert read_state(with_state(with_state(BLOB, FULL), other)) == other


@pytest.mark.parametrize(
    "record",
    [
        None,
        b"",
        b"ZODB.blob",
        b"\x80\x03cZODB.blob\nBlo",
        pickle.dumps(dict, 2) + pickle.dumps(b"ZODB.blob", 2),
        pickle.dumps((dict, ("ZODB.blob", "Blob")), 2),
        pickle.dumps((Blob, ("an argument",)), 2) + pickle.dumps(None, 2),
        b"x\x9cZODB.blob compressed by somebody",
    ],
)
def test_other_records_are_not_blobs(record):
    assert read_state(record) is None and not is_blob(record or b"")
    with pytest.raises(RecordError, match="not a ZODB.blob.Blob"):
        with_state(record or b"", FULL)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"s3blob": 2, "name": NAME, "size": 1, "sha256": None}, "newer release"),
        ({"s3blob": 1, "name": NAME, "size": 1, "sha256": None, "elsewhere": "x"}, "newer release"),
        ({"s3blob": "1", "name": NAME, "size": 1, "sha256": None}, "format is not a number"),
        ({"s3blob": 0, "name": NAME, "size": 1, "sha256": None}, "format is not a number"),
        ({"s3blob": 1, "name": "../../etc/passwd", "size": 1, "sha256": None}, "name"),
        ({"s3blob": 1, "name": NAME.upper(), "size": 1, "sha256": None}, "name"),
        ({"s3blob": 1, "name": NAME[:31], "size": 1, "sha256": None}, "name"),
        ({"s3blob": 1, "name": NAME + "\n", "size": 1, "sha256": None}, "name"),
        ({"s3blob": 1, "name": None, "size": 1, "sha256": None}, "name"),
        ({"s3blob": 1, "name": NAME, "size": -1, "sha256": None}, "size"),
        ({"s3blob": 1, "name": NAME, "size": None, "sha256": None}, "size"),
        ({"s3blob": 1, "name": NAME, "size": 1, "sha256": b"short"}, "SHA-256"),
        ({"s3blob": 1, "name": NAME, "size": 1, "sha256": "x" * 32}, "SHA-256"),
    ],
)
def test_a_damaged_or_newer_state_is_an_error(state, message):
    record = PAIR[: -len(pickle.dumps(None, 2))] + pickle.dumps(state, 3)
    with pytest.raises(RecordError, match=message):
        read_state(record)


@pytest.mark.parametrize(
    "shared", ["ab" * 32 + ".0", "", "../x", f"{bytes(range(32)).hex()}.01", f"{bytes(range(32)).hex()}.0/", None, 1]
)
def test_what_is_shared_is_an_object_of_its_digest(shared):
    fields = {"s3blob": 1, "name": NAME, "size": 3, "sha256": bytes(range(32)), "object": shared}
    with pytest.raises(RecordError, match="its object is not one of its SHA-256"):
        read_state(BLOB[: len(_AS_WRITTEN)] + pickle.dumps(fields, 3))


@pytest.mark.parametrize("state", [pickle.dumps(BlobState, 2), b"\x80\x03Qgarbage", b"", b"\x80\x03(X"])
def test_a_state_that_names_a_class_or_is_cut_off_is_an_error(state):
    with pytest.raises(RecordError, match="damaged"):
        read_state(PAIR[: -len(pickle.dumps(None, 2))] + state)


def test_what_another_package_left_in_the_state_is_no_name():
    assert read_state(PAIR[: -len(pickle.dumps(None, 2))] + pickle.dumps({"other": 1}, 2)) == BlobState()


@given(st.binary(max_size=200))
def test_random_bytes_never_raise_anything_else(data):
    for record in (data, b"ZODB.blob" + data, PAIR + data, PAIR[:-5] + data):
        try:
            read_state(record)
        except RecordError:
            pass


@given(st.binary(min_size=16, max_size=16), st.integers(0, 2**50), st.none() | st.binary(min_size=32, max_size=32))
def test_every_state_reads_back(name, size, sha256):
    state = BlobState(name.hex(), size, sha256)
    assert read_state(with_state(BLOB, state)) == state


sizes = st.one_of(st.integers(0, 2**40), st.sampled_from([0, 255, 256, 65535, 65536, 2**31 - 1, 2**31]))
digests = st.one_of(st.none(), st.binary(min_size=32, max_size=32))
names = st.one_of(st.from_regex(r"[0-9a-f]{32}", fullmatch=True), st.from_regex(r"[0-9a-f]{16}", fullmatch=True))


generations = st.none() | st.integers(0, 999_999_999)


def stated(name, size, digest, generation) -> BlobState:
    shared = None if digest is None or generation is None else shared_name(digest, generation)
    return BlobState(name, size, digest, object=shared)


@given(names, sizes, digests, generations)
def test_a_record_as_we_write_it_is_read_as_the_pickle_it_is(name, size, digest, generation):
    state = stated(name, size, digest, generation)
    record = with_state(BLOB, state)
    assert read_state(record) == _unpickled(record) == state
    assert (_WRITTEN_HERE.fullmatch(record) is not None) == (len(name) == 32 and size < 2**31)


def outcome(read, record):
    try:
        return read(record)
    except RecordError as error:
        return re.sub(r"\(.*\)", "", str(error))


@given(sizes, digests, generations, st.data())
def test_one_with_another_byte_is_too(size, digest, generation, data):
    record = bytearray(with_state(BLOB, stated(NAME, size, digest, generation)))
    record[data.draw(st.integers(len(_AS_WRITTEN), len(record) - 1))] = data.draw(st.integers(0, 255))
    assert outcome(read_state, bytes(record)) == outcome(_unpickled, bytes(record))
