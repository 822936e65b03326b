"""Figures as people of a language write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from collective.s3blobstorage.controlpanel.words import Words, moment_of

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
NO_BREAK = "\N{NO-BREAK SPACE}"


def words(language="en"):
    return Words(language, NOW)


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("en", "1,234,567.5"),
        ("en-us", "1,234,567.5"),
        ("de", "1.234.567,5"),
        ("es", "1.234.567,5"),
        ("fr", "1\N{NARROW NO-BREAK SPACE}234\N{NARROW NO-BREAK SPACE}567,5"),
        ("tlh", "1,234,567.5"),
    ],
)
def test_numbers(language, expected):
    assert words(language).number(1234567.5, 1) == expected
    assert words(language).number(3.0, 1) == "3"


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (1234, "1.2 kB"),
        (123_456, "123 kB"),
        (999_600, "1 MB"),
        (12_345_678_901, "12.3 GB"),
        (5 * 10**18, "5,000 PB"),
    ],
)
def test_sizes(count, expected):
    assert words().size(count) == expected.replace(" ", NO_BREAK)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0043, "4.3 ms"), (0.25, "250 ms"), (0.9999, "1 s"), (1.24, "1.2 s"), (100, "2 min"), (4000, "1 h 7 min")],
)
def test_seconds(value, expected):
    assert words().seconds(value) == expected.replace(" ", NO_BREAK)


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0, "0 %"), (0.0001, "<1 %"), (0.5, "50 %"), (0.985, "98 %"), (0.999, ">99 %"), (1, "100 %")],
)
def test_a_share_is_all_or_nothing_only_where_it_is(share, expected):
    assert words().share(share) == expected.replace(" ", NO_BREAK)


@pytest.mark.parametrize(
    ("before", "text", "count"),
    [
        (timedelta(seconds=59), "just now", None),
        (timedelta(seconds=-300), "just now", None),
        (timedelta(minutes=119), "${count} min ago", "119"),
        (timedelta(hours=2), "${count} h ago", "2"),
        (timedelta(hours=47), "${count} h ago", "47"),
        (timedelta(days=2000), "${count} days ago", "2,000"),
    ],
)
def test_how_long_ago(before, text, count):
    message = words().ago(NOW - before)
    assert str(message) == text
    assert (message.mapping or {}).get("count") == count


def test_times_of_documents():
    assert moment_of(None) is None
    assert moment_of("") is None
    assert moment_of("2026-11-26T12:00:00+00:00") == NOW
    assert moment_of("2026-11-26T12:00:00") == NOW
    assert moment_of("2026-11-26T13:00:00+01:00") == NOW
