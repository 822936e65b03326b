"""Which objects were seen in the bucket, remembered by all processes of the machine and over restarts.

Whoever hands out a URL must know that there is something behind it, and a request to find that out costs more than all
the rest. Keys are write-once and name one revision, so what was there once stays until nothing refers to it.

A table of fixed size and no order: where a key belongs follows from its digest, and a later key may take its place. A
lookup compares 64 bits more of the digest, so of 10^12 keys that are not in it one in about ten million looks as if it
were. Eight megabytes at most, a hole until they are used.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

_SLOTS = 1 << 20
_WIDTH = 8  # bytes; written and read by one call each, never across a page


class Found:
    """``path``: the table's file, made at the first note. Any thread of any process; no method raises for the disk.

    Opened for each call: that takes a few microseconds, and there is nothing to close and nothing that a fork could
    leave behind. Not a map of the file into memory: writing to one ends the process where the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(self, key: str) -> None:
        """The object was seen."""
        place, mark = _place(key)
        with contextlib.suppress(OSError), _opened(self._path, os.O_WRONLY | os.O_CREAT) as descriptor:
            os.pwrite(descriptor, mark, place)

    def __contains__(self, key: str) -> bool:
        place, mark = _place(key)
        with contextlib.suppress(OSError), _opened(self._path, os.O_RDONLY) as descriptor:
            return os.pread(descriptor, _WIDTH, place) == mark
        return False


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _place(key: str) -> tuple[int, bytes]:
    digest = hashlib.blake2b(key.encode(), digest_size=_WIDTH + 4).digest()
    # A hole reads as zeros.
    mark = digest[:_WIDTH] if any(digest[:_WIDTH]) else b"\1" * _WIDTH
    return int.from_bytes(digest[_WIDTH:], "big") % _SLOTS * _WIDTH, mark
