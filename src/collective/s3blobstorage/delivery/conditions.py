"""Whether a request's conditions hold for a revision (RFC 9110, section 13). Pure.

``etag`` is strong and has its quotes; ``changed`` and ``now`` are seconds since 1970.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime

# Two changes within one second have one date. After so long no clock is off enough for another one to follow
# (RFC 7232, section 2.2.2).
_DATE_IS_STRONG_AFTER = 60.0  # seconds

_TAG = re.compile(r'\s*(W/)?("[\x21\x23-\x7e\x80-\xff]*")\s*(?:,|$)')


@dataclass(frozen=True, slots=True)
class Conditions:
    """The headers of a request, None where it has none of the name."""

    range: str | None = None
    if_range: str | None = None
    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None
    if_unmodified_since: str | None = None


def status(conditions: Conditions, etag: str, changed: float) -> int:
    """412, 304, or 200: go on. In the order of section 13.2.2."""
    if conditions.if_match is not None:
        if not _matches(conditions.if_match, etag, weak=False):
            return 412
    elif conditions.if_unmodified_since is not None:
        date = _seconds(conditions.if_unmodified_since)
        if date is not None and int(changed) > date:
            return 412
    if conditions.if_none_match is not None:
        return 304 if _matches(conditions.if_none_match, etag, weak=True) else 200
    if conditions.if_modified_since is not None:
        date = _seconds(conditions.if_modified_since)
        if date is not None and int(changed) <= date:
            return 304
    return 200


def range_wanted(conditions: Conditions, etag: str, changed: float, now: float) -> str | None:
    """The ``Range`` to answer, or None where ``If-Range`` says that the client has parts of something else."""
    if conditions.range is None or conditions.if_range is None:
        return conditions.range
    wanted = conditions.if_range.strip()
    if wanted.startswith(('"', "W/")):
        same = wanted == etag
    else:
        same = _seconds(wanted) == int(changed) and now - changed > _DATE_IS_STRONG_AFTER
    return conditions.range if same else None


def http_date(seconds: float) -> str:
    return formatdate(int(seconds), usegmt=True)


def _matches(header: str, etag: str, *, weak: bool) -> bool:
    if header.strip() == "*":
        return True
    position = 0
    while match := _TAG.match(header, position):
        if match[2] == etag and (weak or not match[1]):
            return True
        if match.end() == position or match.end() == len(header):
            break
        position = match.end()
    return False


def _seconds(date: str) -> int | None:
    """None where it is no date, which is then ignored."""
    try:
        return int(parsedate_to_datetime(date).timestamp())
    except (ValueError, TypeError, OverflowError):
        return None
