"""One look at a status document: tables, and that nothing is called good that nobody knows."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.s3blobstorage.controlpanel.judgement import BAD, GOOD, LOOK, UNKNOWN, judge
from collective.s3blobstorage.controlpanel.words import Words

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
KEY = {"id": "k1", "state": "active", "in_configuration": True, "writes": True, "age_days": 3, "objects": 7}
FSCK = {"job": "fsck-7", "at": NOW.isoformat(), "deep": False, "found": {}, "repaired": 0, "wrong": 0, "unknown": 0}
WELL = {
    "reachable": True,
    "store": {"owner": "production", "bucket": "b"},
    "check": {"at": NOW.isoformat(), "ok": True, "findings": [{"name": "read", "ok": True}]},
    "encryption": {"mode": "client-side", "keys": [KEY], "key_max_age": 86400 * 365.0, "error": None},
    "outside": {"objects": 0, "bytes": 0},
    "jobs": {},
    "fsck": {**FSCK, "earlier": 0},
    "cache": {
        "used": 5,
        "bound": 10,
        "hour": {"hits": 95, "misses": 5, "rate": 0.95},
        "day": {"hits": 950, "misses": 50, "rate": 0.95},
    },
    "requests": {"all": {"requests": 100, "errors": 0, "p95": 0.1}},
}


def changed(path, value):
    """The document where all is well, but for what lies at that path."""
    document = deepcopy(WELL)
    inner = document
    *way, last = path.split(".")
    for name in way:
        inner = inner[name]
    inner[last] = value
    return document


def judged(document):
    return judge(document, Words("en", NOW), NOW)


def test_all_is_well():
    judgement = judged(WELL)
    assert judgement.level == GOOD
    assert judgement.advice == []
    assert [sign.level for sign in (*judgement.safe, *judgement.fast)] == [GOOD, GOOD]


@pytest.mark.parametrize(
    ("path", "value", "level", "word"),
    [
        ("reachable", False, BAD, "does not answer"),
        ("check.ok", False, BAD, "something to mend"),
        ("check", None, UNKNOWN, "Nobody has tried"),
        ("check.at", (NOW - timedelta(days=31)).isoformat(), UNKNOWN, "The last check was"),
        ("fsck", None, UNKNOWN, "whether every file"),
        ("fsck.wrong", 3, BAD, "missing or damaged"),
        ("fsck.earlier", 3, BAD, "missing or damaged"),
        ("outside.objects", 3, LOOK, "only in a source"),
        ("store.owner", None, LOOK, "whose bucket"),
        ("encryption.keys", [KEY | {"in_configuration": False}], BAD, "does not have the key"),
        ("encryption.keys", [KEY | {"in_configuration": False, "objects": None}], LOOK, "does not have the key"),
        ("encryption.keys", [KEY | {"age_days": 366}], LOOK, "days old"),
        ("encryption.error", "a damaged entry", LOOK, "cannot be read"),
    ],
)
def test_what_is_not_safe_is_said_first(path, value, level, word):
    judgement = judged(changed(path, value))
    assert judgement.level == judgement.safe[0].level == level
    assert word in judgement.safe[0].text
    assert judgement.advice[0] is judgement.safe[0].advice
    assert judgement.advice[0]


@pytest.mark.parametrize(
    "key",
    [
        KEY | {"in_configuration": False, "state": "retired", "writes": False},
        KEY | {"age_days": 365},
        KEY | {"age_days": None},
        KEY | {"age_days": 999, "writes": False},
    ],
)
def test_keys_that_are_as_they_shall_be(key):
    assert judged(changed("encryption.keys", [key])).level == GOOD


def test_what_a_source_has_is_not_known_before_it_was_counted():
    document = changed("outside", None) | {"sources": [{"name": "old", "type": "blobdirsource", "mirror": "on"}]}
    assert judged(document).safe[0].level == UNKNOWN
    assert judged(document | {"mirrored": {"complete_up_to": "1", "sources": ["old"]}}).level == GOOD
    assert judged(document | {"sources": []}).level == GOOD


def test_who_may_not_know_of_jobs_is_not_told_that_nobody_looked():
    assert judged(changed("jobs", None) | {"fsck": None}).level == GOOD


def test_an_age_without_a_bound_is_no_trouble():
    document = changed("encryption.keys", [KEY | {"age_days": 9999}])
    document["encryption"]["key_max_age"] = 0
    assert judged(document).level == GOOD


@pytest.mark.parametrize(
    ("cache", "level", "advised"),
    [
        ({"hour": {"hits": 90, "misses": 10}}, GOOD, False),
        ({"hour": {"hits": 89, "misses": 11}}, GOOD, False),
        ({"hour": {"hits": 89, "misses": 11}, "used": 9}, LOOK, True),
        ({"hour": {"hits": 59, "misses": 41}}, LOOK, True),
        ({"hour": {"hits": 49, "misses": 0}, "day": {"hits": 10, "misses": 90}}, LOOK, True),
        ({"hour": {"hits": 0, "misses": 49}, "day": {"hits": 90, "misses": 10}}, GOOD, False),
        ({"hour": {"hits": 9, "misses": 9}, "day": {"hits": 9, "misses": 9}}, UNKNOWN, False),
        ({"hour": None, "day": None}, UNKNOWN, False),
    ],
)
def test_how_fast_the_cache_is(cache, level, advised):
    judgement = judged(WELL | {"cache": WELL["cache"] | cache})
    assert judgement.fast[0].level == level
    assert bool(judgement.advice) is advised


@pytest.mark.parametrize(
    ("requests", "level"),
    [
        ({"requests": 200, "errors": 2, "p95": 1.0}, GOOD),
        ({"requests": 200, "errors": 3, "p95": 0.1}, LOOK),
        ({"requests": 199, "errors": 99, "p95": 0.1}, GOOD),
        ({"requests": 100, "errors": 0, "p95": 1.1}, LOOK),
        ({"requests": 19, "errors": 19, "p95": 9.0}, GOOD),
        ({"requests": 0, "errors": 0, "p95": None}, GOOD),
    ],
)
def test_how_fast_the_bucket_is(requests, level):
    judgement = judged(changed("requests.all", requests))
    assert judgement.fast[0].level == level


parts = st.fixed_dictionaries({}, optional={name: st.just(value) | st.none() for name, value in WELL.items()})


@given(parts)
def test_what_is_not_known_is_not_called_good(document):
    judgement = judged(document)
    if not document.get("check"):
        assert judgement.safe[0].level != GOOD
    if not document.get("cache"):
        assert judgement.fast[0].level != GOOD
    assert judgement.safe and judgement.fast
