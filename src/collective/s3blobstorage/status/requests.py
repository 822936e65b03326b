"""What was counted of the requests to a store, as the status document has it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ..objectstore.traffic import Counted, read
from .dates import iso


def told(counters: Mapping[str, int], since: float) -> dict[str, Any]:
    """``counters``: of ``Traffic``, or a sum of them. ``since``: when counting began, seconds since 1970."""
    found = read(counters)
    total = Counted()
    for counted in found.values():
        total.add(counted)
    return {
        "since": iso(datetime.fromtimestamp(since, UTC)),
        "verbs": {verb: _told(counted) for verb, counted in found.items() if counted.requests},
        "all": _told(total),
    }


def _told(counted: Counted) -> dict[str, Any]:
    return {
        "requests": counted.requests,
        "errors": sum(counted.errors.values()),
        "bytes": counted.bytes,
        "p50": _rounded(counted.percentile(0.5)),
        "p95": _rounded(counted.percentile(0.95)),
        "p99": _rounded(counted.percentile(0.99)),
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
