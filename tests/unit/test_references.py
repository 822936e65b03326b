"""A record is read without its class, in each form that ZODB has written, and whatever is wrong with it."""

from __future__ import annotations

import sys

import pytest
from BTrees.OOBTree import OOBTree
from hypothesis import given
from hypothesis import strategies as st
from persistent import Persistent
from ZODB.serialize import ObjectWriter
from ZODB.utils import p64

from collective.s3blobstorage.maintenance.content import Contents
from collective.s3blobstorage.maintenance.references import Found, Kind, read_record
from collective.s3blobstorage.maintenance.spool import Spool


class Content(Persistent):
    """As an add-on's."""


def record(found, **state):
    """As ZODB writes it; what is persistent in it gets an oid."""
    if state:
        found.__dict__.update(state)
    numbers = iter(range(100, 200))
    for each in _persistent(found):
        each._p_oid = each._p_oid or p64(next(numbers))
    return ObjectWriter().serialize(found)


def _persistent(value):
    if isinstance(value, Persistent):
        yield value
        value = dict(value) if isinstance(value, OOBTree) else value.__dict__
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        if inner is not value:
            yield from _persistent(inner)


GLOBAL = b"\x80\x03cno.such\nThing\nq\0."
OLD = b"(cno.such\nThing\nNt."
OLDEST = b"((U\x07no.suchU\x05ThingtNt."
ID = b"U\x02idU\x01a"


@pytest.mark.parametrize("described", [GLOBAL, OLD, OLDEST])
def test_every_form_of_a_class(described):
    assert read_record(described + b"}(" + ID + b"u.").id == "a"


def reference(form):
    return read_record(GLOBAL + b"\x80\x03}(" + ID + b"X\x01\0\0\0f" + form + b"Qu.").references


OID = b"C\x08\0\0\0\0\0\0\0\7"


@pytest.mark.parametrize(
    ("form", "found"),
    [
        (OID, True),
        (OID + b"cno.such\nThing\n\x86", True),
        (b"U\x08\0\0\0\0\0\0\0\7", True),  # of Python 2
        (b"](U\x01w" + OID + b"\x85e", False),  # weak
        (b"]" + OID + b"a", False),  # weak, of old
        (b"](U\x01mU\x05other" + OID + b"N\x87e", False),  # in another database
        (b"C\x03abc", False),
        (b"N", False),
    ],
)
def test_every_form_of_a_reference(form, found):
    assert reference(form) == ((("f", p64(7)),) if found else ())


def test_nothing_is_imported_or_called():
    calls = b"\x80\x03}(" + ID + b"X\x01\0\0\0xcno_such_module\nsystem\nX\x04\0\0\0exit\x85Ru."
    assert read_record(GLOBAL + calls) == Found(id="a")
    state = b"\x80\x03}X\x01\0\0\0xcantigravity\nfly\n)Rs."
    read_record(b"\x80\x03cthis\ns\n." + state)
    assert "antigravity" not in sys.modules and "this" not in sys.modules


def test_names_of_references():
    one, other, parent = Content(), Content(), Content()
    found = read_record(
        record(Content(), id="a", portal_type="File", file=one, more={"deep": [other]}, __parent__=parent)
    )
    assert (found.id, found.portal_type, found.parent) == ("a", "File", parent._p_oid)
    assert set(found.references) == {("file", one._p_oid), ("more", other._p_oid)}
    tree = read_record(record(OOBTree({"x": one, "y": other})))
    assert tree.kind is Kind.BTREE and set(tree.references) == {("x", one._p_oid), ("y", other._p_oid)}


def test_a_cycle_inside_a_state_ends():
    inner = []
    inner.append(inner)
    assert read_record(record(Content(), id="a", cycle=inner)).id == "a"


SOUND = [
    record(Content(), id="a", portal_type="File", file=Content(), more=[{"x": (1, 2)}]),
    record(OOBTree({"x": Content()})),
]


@given(st.sampled_from(SOUND), st.data())
def test_damage_never_raises(sound, data):
    """But for opcode LONG_BINPUT with an index of gigabytes, for which Python's own unpickler makes room: ZODB cannot
    load such a record either."""
    changed = bytearray(sound[: data.draw(st.integers(0, len(sound)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if changed:
            byte = data.draw(st.integers(0, 255).filter(lambda value: value != ord("r")))
            changed[data.draw(st.integers(0, len(changed) - 1))] = byte
    found = read_record(bytes(changed))
    assert isinstance(found, Found) and all(len(oid) == 8 for _, oid in found.references)


@given(st.binary(max_size=200).filter(lambda value: b"r" not in value))
def test_anything_at_all(value):
    assert isinstance(read_record(value), Found)


def test_half_a_surrogate_is_written_down_so_that_it_can_be_stored():
    """Names of files that were decoded wrongly have them; neither SQLite nor a UTF-8 file takes one."""
    found = read_record(record(Content(), id="caf\udce9", portal_type="caf\xe9"))
    assert (found.id, found.portal_type) == ("caf\\udce9", "caf\xe9")
    with Spool() as spool:
        Contents(spool).add(p64(1), p64(2), record(Content(), files={"caf\udce9": Content()}))
