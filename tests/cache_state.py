"""What goes on in a cache folder."""

import fcntl
import os
import struct
import time


def until_idle(*caches):
    """What the caches' own threads were asked to clean is done: they come between nothing that a test counts."""
    idle = 0
    while idle < 20:
        busy = any(cache._cleaner._requested or cache._cleaner._cleaning.locked() for cache in caches)
        idle = 0 if busy else idle + 1
        time.sleep(0.01)


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
