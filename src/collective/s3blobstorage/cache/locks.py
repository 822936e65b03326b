"""Locks between the processes of a machine.

``flock`` on small files: the kernel releases them when the process ends, however it ends. Locks conflict also between
two openings in one process, so two caches in one process behave like two processes.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

# Descriptors that hold a lock in this process. A fork copies them, and a lock is held until all copies are closed: the
# child closes its copies at once, else a child would keep alive what belonged to a parent that was killed.
_held: set[int] = set()

# A waiter asks again after a tenth of the time it has waited, so that it loses at most a tenth, but at least
# every 50 ms. (A blocking flock could not be given up.)
_FIRST_PAUSE = 0.001
_LAST_PAUSE = 0.05


def _close_copies() -> None:
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_close_copies)


class FileLock:
    """An exclusive lock on a file that is made for it. Any thread may release it; a forked child never does."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._process = os.getpid()

    @classmethod
    def take(cls, path: Path, *, wait: float = 0.0) -> FileLock | None:
        """Lock the file, making it where it is not there; None where somebody else held it for ``wait`` seconds.

        OSError where the disk does not let us.
        """
        started = time.monotonic()
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            keep = False
            try:
                while not _try(descriptor):
                    waited = time.monotonic() - started
                    if waited >= wait:
                        return None
                    time.sleep(min(_LAST_PAUSE, _FIRST_PAUSE + waited / 10, wait - waited))
                # The one who held it may have removed the file after we opened it: then ours is a file without a name,
                # and the next one who comes would lock another. Only a lock on the file that bears the name counts.
                keep = _bears_name(path, descriptor)
                if keep:
                    _held.add(descriptor)
                    return cls(path, descriptor)
            finally:
                if not keep:
                    os.close(descriptor)

    def release(self, *, remove: bool = False) -> None:
        """Let go. ``remove`` deletes the file first: waiters notice that and lock a new one."""
        if self._process != os.getpid() or self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        try:
            if remove:
                self.path.unlink(missing_ok=True)
        except OSError:
            pass  # an empty file stays; the cleaner removes it
        finally:
            # Unlocked by name, not only by closing: a child that is being forked right now may have a copy.
            _held.discard(descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_UN)
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
        return self._descriptor >= 0 and _bears_name(self.path, self._descriptor)


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _bears_name(path: Path, descriptor: int) -> bool:
    ours = os.fstat(descriptor)
    try:
        named = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (ours.st_dev, ours.st_ino) == (named.st_dev, named.st_ino)
