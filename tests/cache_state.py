"""What goes on in a cache folder."""

import contextlib
import fcntl
import os
import random
import struct
import time


def until_idle(*caches):
    """What the caches' own threads were asked to clean is done: they come between nothing that a test counts."""
    idle = 0
    while idle < 3:
        idle = 0 if any(_is_busy(cache._cleaner) for cache in caches) else idle + 1
        time.sleep(0.01)


def _is_busy(cleaner):
    """Syncing is part of it: while a file's blocks are allocated, ext4 counts them twice for a moment."""
    asked = cleaner._thread is not None and (cleaner._requested or not cleaner._changed._waiters)
    return asked or cleaner._cleaning.locked()


def downloads_are_locked(root):
    """Whether any thread or process holds the lock of a download in one of the stores below ``root``."""
    return any(_is_locked(path) for path in root.glob("**/downloads.lock"))


def _is_locked(path):
    descriptor = os.open(path, os.O_RDWR)
    try:
        asked = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)  # a length of 0: to the end
        kind, *_ = struct.unpack("hhqqi", fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked))
        return kind != fcntl.F_UNLCK
    finally:
        os.close(descriptor)


class Form:
    """In which form the caches of a test keep their files: with a ring they are encrypted."""

    ring = None


def stored_bytes(cache, path, oid, tid):
    """The blob in a file of the cache, in whichever form it lies there."""
    file = cache.open_stored(path, oid, tid)
    data = bytearray(file.size)
    file.read_into(memoryview(data), 0)
    return bytes(data)


MARK = b"a secret sentence of the board. "


def marked(size, seed=1):
    """The bytes of a blob that say so wherever some of them lie in clear, and are of no other seed."""
    return (MARK * (size // len(MARK) + 1))[: size - 8] + random.Random(seed).randbytes(8)


def in_clear(*folders):
    """The files below the folders in which a piece of ``marked`` can be read; of a database only its blobs' files."""
    found = []
    for folder in folders:
        for path in folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file() and path.name != "Data.fs" and MARK[:16] in path.read_bytes():
                    found.append(path)
    return found
