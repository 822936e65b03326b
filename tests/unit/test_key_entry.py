"""An entry of the register is read as it was written, or refused: whatever else lies in its place."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.s3blobstorage.encryption.register import STATES, Entry
from collective.s3blobstorage.errors import RecordError

MOMENT = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
ENTRY = Entry("2026-11", "0b12e7de", "client-side", "active", {"added": MOMENT, "active": MOMENT}, b"c" * 42, b"kept")
WRITTEN = json.loads(ENTRY.to_json())

moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.sampled_from(STATES),
    st.dictionaries(st.sampled_from(STATES), moments),
    moments,
    st.binary(max_size=80),
    st.none() | st.binary(max_size=200),
    st.dictionaries(st.text().filter(lambda name: name not in WRITTEN), st.none() | st.text() | st.integers()),
)
def test_there_and_back(state, since, moment, canary, kept, more):
    entry = Entry("a.B-1_", "0123abcd", "sse-c", state, {**since, "added": moment, state: moment}, canary, kept, more)
    assert Entry.from_json("a.B-1_", entry.to_json()) == entry
    assert Entry.from_json("a.B-1_", entry.to_json()).to_json() == entry.to_json()


@given(st.sampled_from(sorted(WRITTEN)), anything)
def test_any_value_of_any_field(name, value):
    data = json.dumps(WRITTEN | {name: value}).encode()
    try:
        read = Entry.from_json(ENTRY.id, data)
    except RecordError as error:
        assert "keys/2026-11" in str(error) and "\n" not in str(error)
    else:  # another one that could have been written: it is written again just so
        assert json.loads(read.to_json()) == WRITTEN | {name: value} and read.id == ENTRY.id


@given(anything)
def test_any_document(value):
    with pytest.raises(RecordError):
        Entry.from_json(ENTRY.id, json.dumps(value).encode())


@given(st.binary(max_size=100))
def test_any_bytes(data):
    with pytest.raises(RecordError):
        Entry.from_json(ENTRY.id, data)


@pytest.mark.parametrize("name", sorted(set(WRITTEN) - {"kept"}))
def test_no_field_may_be_left_out(name):
    with pytest.raises(RecordError):
        Entry.from_json(ENTRY.id, json.dumps({each: WRITTEN[each] for each in WRITTEN if each != name}).encode())


def test_moments_of_other_zones():
    """As another tool may have written them."""
    there = MOMENT.astimezone(timezone(timedelta(hours=2)))
    data = json.dumps(WRITTEN | {"since": {"added": there.isoformat(), "active": there.isoformat()}}).encode()
    assert Entry.from_json(ENTRY.id, data) == ENTRY
