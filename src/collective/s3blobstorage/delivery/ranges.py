"""Which bytes of a file a ``Range`` header asks for (RFC 9110, sections 14.1 and 14.2). Pure."""

from __future__ import annotations

import re

# A player asks for one range, a PDF viewer for some. Each costs a part with headers of its own, and a jump in a file
# that may be far away: whoever asks for more gets the whole, which a server may always give.
MOST = 16

# One that overlaps another is counted with it only after all were read. A header of many thousands is not even read.
MOST_GIVEN = 256

_RANGE = re.compile(r"([0-9]{0,18})-([0-9]{0,18})")  # 18 digits: more than any file has, and no number to be slow with


class NotSatisfiable(Exception):
    """None of the ranges has a byte of the file: 416."""


def ranges_of(header: str, size: int) -> list[tuple[int, int]] | None:
    """The ``(start, end)`` of a file of ``size`` bytes that the header asks for, ``end`` not included.

    None: the whole file, since the header is no range of bytes that we know, or asks for too many, or for all of it in
    one. Those that overlap or touch are one, and then all come in the file's order; else in the order of the header.
    Raises NotSatisfiable.
    """
    unit, equals, given = header.partition("=")
    specs = [spec.strip(" \t") for spec in given.split(",", MOST_GIVEN)]
    specs = [spec for spec in specs if spec]
    if not equals or unit.strip().lower() != "bytes" or not specs or len(specs) > MOST_GIVEN:
        return None
    asked: list[tuple[int, int]] = []
    for spec in specs:
        match = _RANGE.fullmatch(spec)
        if match is None or not (match[1] or match[2]):
            return None
        if match[1]:
            start, end = int(match[1]), int(match[2]) + 1 if match[2] else size
            if match[2] and end <= start:
                return None  # the whole header is invalid
        else:
            start, end = max(0, size - int(match[2])), size
            if size == 0 and int(match[2]):
                return None  # the last bytes of nothing can be given, but no Content-Range can say so
        if start < min(end, size):
            asked.append((start, min(end, size)))
    if not asked:
        raise NotSatisfiable
    together = _joined(asked)
    if together == [(0, size)] or len(together) > MOST:
        return None
    return asked if len(together) == len(asked) else together


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
