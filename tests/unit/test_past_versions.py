"""Which versions of a listing no reader gets, and since when."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from collective.s3blobstorage.keys import blob_key, foreign_keys, object_key, reference_key, shared_name
from collective.s3blobstorage.maintenance.gc.candidate import OWN, Candidate
from collective.s3blobstorage.maintenance.gc.versions import past_versions
from collective.s3blobstorage.objectstore.interfaces import Version


def listed(text):
    """`a2* a1` is key a, written at 2 and at 1, of which the first is the latest; `m` instead of a number's end: a
    delete marker."""
    for word in text.split():
        is_latest, word = word.endswith("*"), word.rstrip("*")
        is_marker, word = word.endswith("m"), word.rstrip("m")
        at = int(word[1:])
        yield Version(word[0], word, 1, datetime.fromtimestamp(at, UTC), is_latest, is_marker)


@pytest.mark.parametrize(
    "listing, past",
    [
        ("", []),
        ("a1* b2*", []),
        ("a5* a3 a1", [("a3", 5, False), ("a1", 3, False)]),
        ("a9m* a3 a1", [("a3", 9, True), ("a1", 9, True), ("a9", 9, True)]),
        ("a9m*", [("a9", 9, True)]),
        ("a9* a7m a3", [("a7", 9, False), ("a3", 7, False)]),
        ("a9m* a7m a3", [("a7", 9, True), ("a3", 9, True), ("a9", 9, True)]),
        ("a9m* a3 b5* b4", [("a3", 9, True), ("a9", 9, True), ("b4", 5, False)]),
        ("a3 a1 b5* b4", [("b4", 5, False)]),
    ],
)
def test_past_versions(listing, past):
    found = [(each.version.version, each.since, each.hidden) for each in past_versions(listed(listing))]
    assert found == past


@pytest.mark.parametrize(
    "candidate",
    [
        Candidate("blobs/a/b", 1, "etag", 2, 3, True),
        Candidate("blobs/a/b", 1, "", 2, 3, False, upload="id"),
        Candidate("blobs/a/b", 1, "", 2, 3, False, version="v", hidden=True, last=True),
    ],
)
def test_a_line_of_a_plan_is_the_candidate(candidate):
    assert Candidate.from_line(candidate.to_line()) == candidate


def test_versions_sort_behind_uploads_and_these_behind_objects():
    every = [
        Candidate("blobs/f/f", 1, "", 2, 3, False),
        Candidate("blobs/a/b", 1, "", 2, 3, False, upload="id"),
        Candidate("blobs/a/b", 1, "", 2, 3, False, version="v"),
    ]
    assert sorted(each.entry_key for each in every) == [each.entry_key for each in every]


OID = bytes(7) + b"\1"
KEY = blob_key(OID, "1" * 32)
ONE, TWO = (shared_name(bytes([number]) * 32, 0) for number in (1, 2))
FIRST, SECOND = (reference_key(OID, "1" * 32, shared) for shared in (ONE, TWO))
OLD = foreign_keys(OID, bytes.fromhex("1" * 16))[1]


def of(*written):
    """``(key, *times)``: the last of which is negative where it is a delete marker."""
    for key, *times in written:
        for number, at in enumerate(reversed(times)):
            yield Version(key, str(abs(at)), 1, datetime.fromtimestamp(abs(at), UTC), not number, at < 0)


@pytest.mark.parametrize(
    "written, stands",
    [
        # what a conversion leaves: the revision's own object is hidden, its reference is there
        ([(KEY, 1, -3), (FIRST, 2)], {KEY: ONE}),
        # a writer that went on to another generation
        ([(FIRST, 1, -3), (SECOND, 2)], {FIRST: TWO}),
        ([(FIRST, 1), (SECOND, 2, -3)], {SECOND: ONE}),
        # restored as an object of its own
        ([(KEY, 1), (FIRST, 2, -3)], {FIRST: OWN}),
        # nothing is at hand
        ([(KEY, 1, -3)], {KEY: ""}),
        ([(KEY, 1, -3), (FIRST, 2, -4)], {KEY: "", FIRST: ""}),
        ([(FIRST, 2, -4)], {FIRST: ""}),
        # of another revision, of zodb-s3blobs, and of nobody
        ([(KEY, 1, -3), (reference_key(OID, "2" * 32, ONE), 2)], {KEY: ""}),
        ([(blob_key(OID, "1" * 16), 1), (OLD, 1, -3)], {OLD: ""}),
        ([(object_key(ONE), 1, -3)], {object_key(ONE): ""}),
        # what is there hides nothing
        ([(KEY, 1, 2), (FIRST, 2)], {KEY: ""}),
    ],
)
def test_what_stands_for_a_hidden_key_of_a_revision(written, stands):
    found = list(past_versions(of(*written)))
    assert {each.version.key: each.shared for each in found} == stands
