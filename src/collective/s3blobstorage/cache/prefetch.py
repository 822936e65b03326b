"""Which parts to fetch before a reader asks for them, and which of them by one request.

Decided from the reads alone: nothing here waits, or knows what is on the disk.
"""

from __future__ import annotations

from collections.abc import Sequence

MB = 1024 * 1024

# Bytes of one request. Stores charge by request, and some do work for each that does not depend on its length: with
# ranges of 32 MB MiniStack takes a sixth of the time that it takes with ranges of 4 MB (docs/performance.md). Longer
# ones would gain little more, and less would be under way at a time.
LONGEST = 32 * MB

# Bytes beyond what was read that a reader may have asked for: two requests of full length, so that the next one is
# under way before the last one ends. Whoever stops in the middle has fetched at most these for nothing.
AHEAD = 64 * MB

# Requests at one time for a whole file. boto3's download_file has ten; with fewer, longer ones each takes longer.
PARALLEL = 8

# A blob, or a read of several parts, that is too small for that is divided among this many at least.
_DIVISION = 4

# Parts that the first step across a border asks for, the one it comes to among them. The first part of a blob is often
# all that is wanted (the header of an image, the type of a file), and one part read to its end and then a byte of the
# next is the least sign of somebody who goes on.
_FIRST = 2


def run_length(count: int, part_size: int) -> int:
    """How many of ``count`` parts that are all wanted one request brings."""
    return max(1, min(count // _DIVISION, LONGEST // part_size))


def split(parts: Sequence[int], part_size: int) -> list[range]:
    """The parts, in ascending order, as runs of adjacent ones."""
    length = run_length(len(parts), part_size)
    runs: list[range] = []
    for part in parts:
        if runs and runs[-1].stop == part and len(runs[-1]) < length:
            runs[-1] = range(runs[-1].start, part + 1)
        else:
            runs.append(range(part, part + 1))
    return runs


class Window:
    """Opened by reading on across the border of a part, doubled at each further border, closed by a seek elsewhere."""

    def __init__(self, size: int, part_size: int) -> None:
        self._size = size
        self._part_size = part_size
        self._count = -(-size // part_size)
        self._longest = max(1, LONGEST // part_size)
        self._most = max(2, AHEAD // part_size)
        self._end = -1  # where the last read ended; -1: none yet
        self._last = -1  # its last part
        self._length = 1  # of a run of its own parts
        self._width = 0  # of the next run beyond it
        self._open = False  # whether this read may ask for a run beyond its own parts
        self._asked = 0  # parts below it were asked for since the last seek
        self._from_start = False

    def read(self, start: int, end: int) -> bool:
        """A read of the bytes from ``start`` to ``end`` begins. False where it does not go on from the last one: then
        nobody needs what was asked for and has not arrived yet."""
        first, last = start // self._part_size, (end - 1) // self._part_size
        goes_on = start == self._end
        if not goes_on:
            self._width = 0
            self._open = False
            # One part the reader brings by itself.
            self._asked = first if last > first else first + 1
            self._from_start = start == 0
        elif last > self._last:
            self._width = min(self._longest, max(_FIRST, 2 * self._width))
            self._open = True
        self._length = run_length(last - first + 1, self._part_size)
        self._end, self._last = end, last
        return goes_on

    def ahead(self, part: int) -> list[range]:
        """The runs to ask for now that this read has come to ``part``: its own parts, then one beyond them per border.

        Never more than AHEAD beyond ``part``. Each part only once between two seeks.
        """
        runs = []
        self._asked = max(self._asked, part)  # what is behind it was read without asking ahead
        while self._asked < self._count:
            if self._asked <= self._last:
                until = self._asked + max(self._length, self._width)
                if not self._width:
                    until = min(until, self._last + 1)
            elif self._open:
                until = self._asked + self._width
            else:
                break
            until = min(until, self._count)
            if until > part + 1 + self._most:
                break
            self._open = self._open and until <= self._last + 1
            runs.append(range(self._asked, until))
            self._asked = until
        return runs

    @property
    def read_all(self) -> bool:
        """Whether this read is the end of one that began at the first byte and left nothing out."""
        return self._from_start and self._end == self._size
