"""Which versions of a listing no reader gets, and since when."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from collective.s3blobstorage.maintenance.gc.candidate import Candidate
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
