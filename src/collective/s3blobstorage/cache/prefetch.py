"""Which parts to fetch before a reader asks for them.

Decided from the reads alone: nothing here waits, or knows what is on the disk.
"""

from __future__ import annotations

# Parts beyond what was read. As many as boto3's download_file has requests under way, so that a full read takes no
# longer than that, and with part-size 4MB at most 40 MB that nobody reads in the end.
MOST = 10

# What the first step across a border opens. The first part of a blob is often all that is wanted (the header of an
# image, the type of a file), and one part read to its end and then a byte of the next is the least sign of somebody who
# goes on.
_FIRST = 2


class Window:
    """Opened by reading on across the border of a part, doubled at each further border, closed by a seek elsewhere."""

    def __init__(self, size: int, part_size: int) -> None:
        self._size = size
        self._part_size = part_size
        self._count = -(-size // part_size)
        self._end = -1  # where the last read ended; -1: none yet
        self._last = -1  # its last part
        self._width = 0
        self._asked = 0  # parts below it were asked for in this run
        self._from_start = False

    def read(self, start: int, end: int) -> bool:
        """A read of the bytes from ``start`` to ``end`` begins. False where it does not go on from the last one: then
        nobody needs what was asked for and has not begun yet."""
        first, last = start // self._part_size, (end - 1) // self._part_size
        goes_on = start == self._end
        if not goes_on:
            self._width = 0
            self._asked = first + 1
            self._from_start = start == 0
        elif last > self._last:
            self._width = min(MOST, max(_FIRST, 2 * self._width))
        self._end, self._last = end, last
        return goes_on

    def ahead(self, part: int) -> range:
        """What to ask for now that this read has come to ``part``: its own further parts, and those of the window.

        Never more than MOST beyond ``part``, so that little waits for a thread. Each part only once in a run.
        """
        until = min(self._count, self._last + self._width + 1, part + MOST + 1)
        wanted = range(max(self._asked, part + 1), until)
        self._asked = max(self._asked, until)
        return wanted

    @property
    def read_all(self) -> bool:
        """Whether this read is the end of one that began at the first byte and left nothing out."""
        return self._from_start and self._end == self._size
