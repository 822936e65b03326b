"""What a rotation and a count keep in the bucket, and what they make of it."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.s3blobstorage.errors import Corrupt, EncryptionKeyMissing, UnsafeError
from collective.s3blobstorage.maintenance.findings import Count
from collective.s3blobstorage.maintenance.retire import refuse_needed
from collective.s3blobstorage.maintenance.rotate import Position
from collective.s3blobstorage.maintenance.usage import (
    LISTED,
    Failures,
    Line,
    Usage,
    id_of,
    is_content,
    may_need_a_key,
    reason,
)
from collective.s3blobstorage.maintenance.verify_keys import Sample
from collective.s3blobstorage.objectstore.interfaces import Protection

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
BLOB = "blobs/0000000000000001/" + "0" * 32
ONE = Protection("client-side", "one/0123abcd", 100)

counts = st.builds(Count, st.integers(0, 10**9), st.integers(0, 10**15))
usages = st.builds(
    Usage, *[st.dictionaries(st.tuples(st.sampled_from(["none", "sse-c"]), st.text(max_size=9)), counts)] * 3
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
)


@given(st.text(), st.booleans(), st.text(), st.lists(st.text()), st.dictionaries(st.sampled_from("ab"), counts), usages)
def test_a_position_is_read_as_it_was_written(target, convert, after, failed, done, usage):
    position = Position(target, convert, after, failed, done, usage)
    assert Position.from_json(position.to_json(NOW)) == position


@given(values, st.sampled_from(["format", "target", "after", "failed", "done", "usage", None]))
def test_of_a_damaged_position_nothing_is_taken_that_breaks_later(value, name):
    told = json.loads(Position("sse-s3", False, "blobs/1", ["blobs/0"]).to_json(NOW))
    data = json.dumps(value if name is None else told | {name: value}).encode()
    read = Position.from_json(data)
    assert read is None or Position.from_json(read.to_json(NOW)) == read


def test_a_position_of_a_newer_format_begins_anew():
    told = json.loads(Position("sse-s3", False, "blobs/1").to_json(NOW))
    assert Position.from_json(json.dumps(told | {"format": 2}).encode()) is None
    assert Position.from_json(b"\xff{") is None


@pytest.mark.parametrize(
    "key, content, needs",
    [
        (BLOB, True, True),
        ("blobs/0000000000000001/0000000000000002", True, True),
        ("blobs/1f/3c4d.blob", True, True),
        (f"objects/ab/ab/{'ab' * 32}.0", True, True),
        (f"objects/ab/ab/{'ab' * 32}", False, False),
        (f"{BLOB}.{'ab' * 32}.0", False, False),
        (f"condemned/{'ab' * 32}.0", False, False),
        ("addons/collective.reports/a", True, True),
        (".s3blobs.json", False, True),
        (".s3blobs-mirrored.json", False, True),
        ("gc/ledger", False, True),
        ("gc/witness/abc", False, True),
        ("gc-log/x.ndjson", False, True),
        ("manifests/20261127T080000Z-03f0000000000001", False, True),
        ("gc/lease/000000000001", False, False),
        ("gc/claim/abc", False, False),
        (".s3blobs-check/x", False, False),
        ("keys/one", False, False),
        ("keys/.rotation", False, False),
        ("blobs/notes.txt", False, False),
        ("somebody/else", False, False),
    ],
)
def test_what_may_need_a_key(key, content, needs):
    assert (is_content(key), may_need_a_key(key)) == (content, needs)


def test_ids_of_keys():
    assert id_of("2026-11/0b12e7de") == "2026-11"
    for other in ("", "one", "arn:aws:kms:eu-central-1:111122223333:key/1234abcd", "/0b12e7de", "one/0b12"):
        assert id_of(other) is None


def test_usage_tells_what_needs_a_key_whatever_its_version():
    usage = Usage()
    usage.add(Line(BLOB, 100), ONE)
    usage.add(Line(BLOB, 100), Protection("client-side", "one/ffffffff", 50))
    usage.add(Line("gc/ledger", 7), Protection("sse-c", "one/0123abcd", 7))
    usage.add(Line(BLOB, 100, "v1"), Protection("client-side", "two/0123abcd", 100))
    assert usage.of_key("one") == {"content": Count(2, 150), "beside": Count(1, 7)}
    assert usage.of_key("two") == {"past": Count(1, 100)} and usage.of_key("on") == {}


def test_why_a_key_is_not_retired():
    usage, failures = Usage(), Failures()
    refuse_needed("one", usage, failures)
    failures.add(BLOB, EncryptionKeyMissing("three"))
    with pytest.raises(UnsafeError, match="1 objects could not be looked at .* it needs the key three"):
        refuse_needed("one", usage, failures)
    usage.add(Line(BLOB, 100, "v1"), ONE)
    with pytest.raises(UnsafeError, match="1 former versions that the bucket keeps: .*gc --versions"):
        refuse_needed("one", usage, Failures())
    usage.add(Line(BLOB, 100), ONE)
    with pytest.raises(UnsafeError, match="1 objects and 1 former versions .*keys rotate"):
        refuse_needed("one", usage, Failures())
    refuse_needed("two", usage, Failures())


def test_a_reason_names_the_key():
    assert reason(EncryptionKeyMissing("a")) == "it needs the key a, which zope.conf does not have"
    assert reason(EncryptionKeyMissing("a", other=True)).endswith("the one that zope.conf has by the id a")
    assert reason(Corrupt("Two\nlines.")) == "Two lines."


def test_failures_are_all_counted_and_the_first_named():
    failures = Failures()
    for number in range(LISTED + 5):
        failures.add(str(number), Corrupt("x"))
    assert failures.count == LISTED + 5 and len(failures.first) == LISTED
    more = Failures()
    more.add("y", EncryptionKeyMissing("z"))
    failures.merge(more)
    assert failures.by_kind == {"Corrupt": LISTED + 5, "EncryptionKeyMissing": 1} and len(failures.first) == LISTED


def test_each_object_has_the_same_chance_to_be_in_a_sample():
    drawn = Counter()
    for seed in range(2000):
        sample = Sample(2, random.Random(seed))
        for number in range(8):
            sample.seen(Line(f"addons/x/{number}", 1), ONE)
        sample.seen(Line("gc/ledger", 1), ONE)  # nobody's content
        sample.seen(Line("addons/y/0", 1), Protection("none", "", 1))
        assert len(sample.lines) == 3
        drawn.update(line.key for line in sample.lines)
    assert drawn.pop("addons/y/0") == 2000 and len(drawn) == 8
    assert all(400 < count < 600 for count in drawn.values())  # 500 each, by six standard deviations
