"""The report of a job, which is plain values for JSON, as rows that people can read. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .messages import _
from .rows import Row
from .words import Words

_YES_NO = {True: _("yes"), False: _("no")}
_LISTED = 20  # of longer lists only their length is shown here; REST and the command line have all of it


def result_rows(result: Mapping[str, Any], words: Words) -> list[Row]:
    """One row for each value, in its own order; what is inside something else has that one's name before its own."""
    return list(_rows(result, words, ""))


def _rows(values: Mapping[str, Any], words: Words, before: str) -> Iterator[Row]:
    for name, value in values.items():
        label = f"{before}{name}".replace("_", " ")
        if isinstance(value, Mapping):
            yield from _rows(value, words, f"{label}, ")
        elif value not in (None, "", [], ()):
            yield Row(label, _value(name, value, words))


def _value(name: str, value: Any, words: Words) -> Any:
    if isinstance(value, bool):
        return _YES_NO[value]
    if isinstance(value, (int, float)):
        if name == "bytes" or name.endswith("_bytes"):
            return words.size(value)
        return words.seconds(value) if name == "seconds" else words.number(value, 0 if isinstance(value, int) else 2)
    if isinstance(value, (list, tuple)):
        if len(value) > _LISTED or any(isinstance(each, (Mapping, list, tuple)) for each in value):
            return words.number(len(value))
        return ", ".join(str(each) for each in value)
    return str(value)
