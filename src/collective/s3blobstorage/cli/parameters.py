"""Values on the command line that several verbs take."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click
from persistent.TimeStamp import TimeStamp
from ZODB.utils import z64

from .. import datatypes
from ..errors import ConfigurationError

_HEX = set("0123456789abcdef")


class Parsed(click.ParamType):
    """What a function reads that raises ConfigurationError with a reason, as the datatypes of zope.conf do."""

    def __init__(self, name: str, convert: Callable[[str], Any]) -> None:
        self.name = name
        self._convert = convert

    def convert(self, value: Any, parameter: Any, context: Any) -> Any:
        if not isinstance(value, str):
            return value  # a default
        try:
            return self._convert(value)
        except ConfigurationError as reason:
            self.fail(f"{value!r} {reason}", parameter, context)


def oid(text: str) -> bytes:
    digits = text.strip().lower().removeprefix("0x")
    if not digits or len(digits) > 16 or set(digits) - _HEX:
        raise ConfigurationError("is not an oid, 1 to 16 hex digits such as 0x1f")
    return bytes.fromhex(digits.rjust(16, "0"))


def oid_range(text: str) -> tuple[bytes, bytes]:
    """``0-1fff``, ``2000-``: both ends belong to it, an end that is left out is the first or the last oid."""
    first, dash, last = text.partition("-")
    if not dash or not (first.strip() or last.strip()):
        raise ConfigurationError("is not a range of oids such as 0x0-0x1fff or 0x2000-")
    begin = oid(first) if first.strip() else z64
    end = oid(last) if last.strip() else b"\xff" * 8
    if begin > end:
        raise ConfigurationError("is a range of oids whose first is above its last")
    return begin, end


def since(text: str) -> bytes:
    """A tid, or a date with or without a time (UTC where it names no zone), as a tid."""
    digits = text.strip().lower().removeprefix("0x")
    if len(digits) == 16 and not set(digits) - _HEX:
        return bytes.fromhex(digits)
    try:
        moment = datetime.fromisoformat(text.strip())
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        return TimeStamp(*moment.timetuple()[:5], moment.second + moment.microsecond / 1e6).raw()
    except (ValueError, OverflowError):
        raise ConfigurationError(
            "is neither a date such as 2026-11-01 or 2026-11-01T18:30 (UTC) nor a tid of 16 hex digits"
        ) from None


OID = Parsed("oid", oid)
OID_RANGE = Parsed("a-b", oid_range)
SINCE = Parsed("date or tid", since)
SIZE = Parsed("size", datatypes.size)
