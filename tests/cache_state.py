"""What goes on in a cache folder."""

import fcntl
import os
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
