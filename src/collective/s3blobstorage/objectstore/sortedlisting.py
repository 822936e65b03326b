"""A listing on the local disk: rows in any order go in, and are read sorted by key, from any key on.

An external sort: runs of some lines are sorted in memory, and whenever there are ``FAN_IN`` of one level they become
one of the next. So neither memory nor the number of open files grows with the rows. The files have no name, so that
nothing is left of them after kill -9; they lie in Python's temporary folder (``TMPDIR``).

A line is key, size, ETag, seconds since 1970 and storage class, with a zero byte between two of them. Lines are
compared as bytes. A zero sorts before whatever goes on, and ``_escaped`` leaves none in a key: so lines sort as keys.
"""

from __future__ import annotations

import heapq
import os
import re
import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import BinaryIO

from collective.s3blobstorage.errors import InventoryError, StagingError
from collective.s3blobstorage.objectstore.interfaces import Listed

RUN = 100_000  # lines that are sorted in memory, some 20 MB
# Files that are merged at a time, of which each has a buffer. Of a hundred million lines each is written three times,
# and no more than two times so many files are open.
FAN_IN = 128
_BUFFER = 1 << 16  # bytes
_STEP = 4096  # lines between two entries of the index, which is in memory: 25,000 of a hundred million
_BLOCK = 1 << 18  # bytes of one read of the listing
_ODD = re.compile(r"[\x00-\x0a]")
_ESCAPE = re.compile(r"\x01(.)", re.DOTALL)


class Sorter:
    """Takes rows, then gives the listing. For one thread. Raises StagingError where the disk does not take them."""

    def __init__(self, run: int = RUN, fan_in: int = FAN_IN) -> None:
        self._run = run
        self._fan_in = fan_in
        self._waiting: list[bytes] = []
        self._levels: list[list[BinaryIO]] = []
        self.most_files = 0  # that were open at a time

    def add(self, key: str, size: int, etag: str, modified: int, storage: str = "") -> None:
        """``modified``: seconds since 1970. ETag and storage class have no control characters, else InventoryError."""
        rest = f"\0{size}\0{etag}\0{modified}\0{storage}"
        if "\n" in rest or rest.count("\0") != 4:
            raise InventoryError("The inventory has a control character in an ETag or a storage class.")
        self._waiting.append((_escaped(key) + rest + "\n").encode("utf-8", "surrogatepass"))
        if len(self._waiting) >= self._run:
            self._spill()

    def listing(self) -> SortedListing:
        """Of all that was added; the caller closes it. Raises InventoryError where a key was added twice."""
        self._waiting.sort()
        with ExitStack() as stack:
            stack.callback(self.close)
            runs: list[Iterable[bytes]] = [self._waiting]
            runs += [file for level in self._levels for file in _rewound(level)]
            made = SortedListing(heapq.merge(*runs))
            self.most_files = max(self.most_files, len(runs))
        return made

    def close(self) -> None:
        for level in self._levels:
            for file in level:
                file.close()
        self._levels, self._waiting = [], []

    def _spill(self) -> None:
        self._waiting.sort()
        self._keep(self._waiting, 0)
        self._waiting = []

    def _keep(self, lines: Iterable[bytes], level: int) -> None:
        if level == len(self._levels):
            self._levels.append([])
        here = self._levels[level]
        here.append(_written(lines))
        self.most_files = max(self.most_files, sum(map(len, self._levels)))
        if len(here) == self._fan_in:
            self._keep(heapq.merge(*_rewound(here)), level + 1)
            for file in here:
                file.close()
            here.clear()


class SortedListing:
    """``list`` as ``IObjectStore.list``, of what lies on the disk, in any thread, as often as wanted."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._keys: list[bytes] = []  # every _STEP-th
        self._offsets: list[int] = []
        self.count = 0
        with on_disk():
            self._file = tempfile.TemporaryFile(buffering=_BLOCK, prefix="s3blobs-inventory-")
            try:
                self._write(lines)
            except BaseException:
                self._file.close()
                raise

    def _write(self, lines: Iterable[bytes]) -> None:
        file, offset, last, count = self._file, 0, b"", 0
        for line in lines:
            key = line[: line.index(b"\0")]
            if key == last:
                raise InventoryError("The inventory has a key twice, so it is not one report: use another one.")
            if count % _STEP == 0:
                self._keys.append(key)
                self._offsets.append(offset)
            file.write(line)
            offset += len(line)
            last = key
            count += 1
        file.flush()
        self.count = count

    def list(self, prefix: str = "", *, start_after: str = "", page_size: int = 1000) -> Iterator[Listed]:
        """``page_size`` is the store's affair: here it means nothing."""
        begin, after = _encoded(prefix), _encoded(start_after)
        at = bisect_right(self._keys, max(begin, after)) - 1
        for line in self._lines(self._offsets[at] if at >= 0 else 0):
            key, size, etag, modified, storage = line.split(b"\0")
            if key < begin or (after and key <= after):
                continue
            if not key.startswith(begin):
                return
            moment = datetime.fromtimestamp(int(modified), UTC)
            yield Listed(_plain(key), int(size), etag.decode(), moment, storage.decode())

    def _lines(self, offset: int) -> Iterator[bytes]:
        # Not the file's own position: fsck and gc read it in more than one place at a time.
        rest = b""
        while True:
            with on_disk():
                block = os.pread(self._file.fileno(), _BLOCK, offset)
            if not block:
                return
            offset += len(block)
            *whole, rest = (rest + block).split(b"\n")
            yield from whole

    def close(self) -> None:
        self._file.close()


def _escaped(key: str) -> str:
    """The same order, without the two characters that end a field or a line. No key of ours has any of them."""
    return _ODD.sub(lambda found: "\x01" + chr(ord(found[0]) + 32), key) if _ODD.search(key) else key


def _encoded(key: str) -> bytes:
    return _escaped(key).encode("utf-8", "surrogatepass")


def _plain(key: bytes) -> str:
    text = key.decode("utf-8", "surrogatepass")
    return _ESCAPE.sub(lambda found: chr(ord(found[1]) - 32), text) if "\x01" in text else text


def _written(lines: Iterable[bytes]) -> BinaryIO:
    with on_disk():
        file = tempfile.TemporaryFile(buffering=_BUFFER, prefix="s3blobs-inventory-")
        try:
            file.writelines(lines)
            file.flush()
        except BaseException:
            file.close()
            raise
    return file  # type: ignore[return-value]


def _rewound(files: list[BinaryIO]) -> list[BinaryIO]:
    for file in files:
        file.seek(0)
    return files


@contextmanager
def on_disk() -> Iterator[None]:
    """Say of what the disk does not take which folder it lies in: StagingError."""
    try:
        yield
    except OSError as error:
        raise StagingError(
            f"the temporary folder (TMPDIR) does not take the rows of the inventory: {error.strerror}"
        ) from None
