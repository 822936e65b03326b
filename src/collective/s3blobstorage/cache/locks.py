"""Locks between the processes of a machine.

``flock`` on small files, and locks on one byte of a file (``F_OFD_SETLK``, fcntl(2), "Open file description locks"):
the kernel releases them when the process ends, however it ends. Both conflict also between two openings in one process,
so two caches in one process behave like two processes.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import struct
import threading
import time

# Descriptors that hold a lock in this process, or may do so in a moment. A fork copies them, and a lock is held until
# all copies are closed: the child closes its copies at once, else it would keep alive what belonged to a parent that
# was killed.
_held: set[int] = set()

# Held where a descriptor is open and not yet in ``_held``, and by a thread that forks. Reentrant: a handler of a signal
# may fork.
_opening = threading.RLock()

# Whether one byte of a file can be locked: on Linux, but for sandboxes that have not all of its system calls. Elsewhere
# each key has a file of its own.
_places = hasattr(fcntl, "F_OFD_SETLK")

# A waiter asks again after a tenth of the time it has waited, so that it loses at most a tenth, but at least
# every 50 ms. (A blocking flock could not be given up.)
_FIRST_PAUSE = 0.001
_LAST_PAUSE = 0.05


def _close_copies() -> None:
    while _held:
        os.close(_held.pop())
    _opening.release()


os.register_at_fork(before=_opening.acquire, after_in_parent=_opening.release, after_in_child=_close_copies)


class FileLock:
    """An exclusive lock on a file, or on one place in it. Any thread may release it; a forked child never does."""

    def __init__(self, path: str, descriptor: int, place: int | None, file: tuple[int, int]) -> None:
        self.path = path
        self._descriptor = descriptor
        self._place = place
        self._process = os.getpid()
        self._file = file

    @classmethod
    def take(cls, path: os.PathLike[str] | str, *, key: str | None = None, wait: float = 0.0) -> FileLock | None:
        """Lock the file, making it where it is not there; None where somebody else held it for ``wait`` seconds.

        ``key``: lock only that key's place in the file, which stays for all other keys. For what is locked often: a
        file of its own, made and removed each time, costs more than writing a small blob. OSError where the disk does
        not let us.
        """
        path = os.fspath(path)
        if key is None:
            return cls._take(path, None, wait)
        if _places:
            try:
                return cls._take(path, _place(key), wait)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                _give_up_places()  # the same kernel tells every process so
        return cls._take(f"{path}.{_place(key):016x}", None, wait)

    @classmethod
    def _take(cls, path: str, place: int | None, wait: float) -> FileLock | None:
        started = time.monotonic()
        while True:
            with _opening:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
                _held.add(descriptor)
            keep = False
            try:
                while not _lock(descriptor, place):
                    waited = time.monotonic() - started
                    if waited >= wait:
                        return None
                    time.sleep(min(_LAST_PAUSE, _FIRST_PAUSE + waited / 10, wait - waited))
                # The one who held it may have removed the file after we opened it: then ours is a file without a name,
                # and the next one who comes would lock another. Only a lock on the file that bears the name counts.
                file = _identity(os.fstat(descriptor))
                keep = _named(path) == file
                if keep:
                    return cls(path, descriptor, place, file)
            finally:
                if not keep:
                    _held.discard(descriptor)
                    os.close(descriptor)

    def release(self, *, remove: bool = False) -> None:
        """Let go. ``remove`` deletes the file first, unless it is for many keys: waiters notice that and lock a new
        one."""
        if self._process != os.getpid() or self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        try:
            if remove and self._place is None:
                os.unlink(self.path)
        except OSError:
            pass  # an empty file stays; the cleaner removes it
        finally:
            # Unlocked by name, not only by closing: a child that is being forked right now may have a copy.
            _held.discard(descriptor)
            try:
                _unlock(descriptor, self._place)
            finally:
                os.close(descriptor)

    def note(self) -> str:
        """What the last holder left for the next one; "" where it left nothing. OSError."""
        return os.pread(self._descriptor, 1024, 0).decode("ascii", "replace")

    def leave_note(self, text: str) -> None:
        """For whoever holds the lock next, as long as the file is there. Replaces the last one. OSError."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text.encode("ascii"), 0)

    def is_named(self) -> bool:
        """Whether the lock file still is where it was made: false when somebody deleted the folder."""
        return self._descriptor >= 0 and _named(self.path) == self._file


def _give_up_places() -> None:
    global _places
    _places = False


def _place(key: str) -> int:
    """Of 2**62: that two keys share one is not to be expected, and they would only wait for each other."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) >> 2


def _lock(descriptor: int, place: int | None) -> bool:
    try:
        if place is None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            _set(descriptor, fcntl.F_WRLCK, place)
    except BlockingIOError:
        return False
    return True


def _unlock(descriptor: int, place: int | None) -> None:
    if place is None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    else:
        _set(descriptor, fcntl.F_UNLCK, place)


def _set(descriptor: int, kind: int, place: int) -> None:
    """One byte at that place, which need not exist: struct flock of fcntl(2), with an l_pid of 0."""
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack("hhqqi", kind, os.SEEK_SET, place, 1, 0))


def _named(path: str) -> tuple[int, int] | None:
    """Which file has that name."""
    try:
        return _identity(os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return None


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
