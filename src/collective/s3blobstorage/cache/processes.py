"""Folders that live as long as the process that made them.

Each process keeps what must not outlive it (temporary files, staged files) in a folder of its own, and holds a lock on
the file ``lock`` in it. A folder whose lock can be taken belongs to a process that is dead, and is removed; the name
(pid, time, random) only tells a person whose it was. So a process id that is used again, a container with
process ids of its own and a restarted machine need no rule.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .locks import FileLock

_LOCK = "lock"
STAGING = "staging"  # of files that are being committed
COUNTERS = "counters.json"  # what the process counted


class ProcessFolder:
    """One such folder of this process, mode 0700."""

    def __init__(self, path: Path, lock: FileLock) -> None:
        self.path = path
        self._text = str(path)
        self._lock = lock
        self._process = os.getpid()
        self._names = itertools.count()

    @classmethod
    def make(cls, parent: Path, prefix: str = "") -> ProcessFolder:
        """Make a folder in ``parent``. OSError where the disk does not let us."""
        for _ in range(100):
            name = f"{prefix}{os.getpid()}-{time.time_ns():x}-{os.urandom(4).hex()}"
            path = parent / name
            path.mkdir(mode=0o700)
            # Before the lock is ours, another process may take us for dead and remove the folder: then start again.
            try:
                lock = FileLock.take(path / _LOCK)
            except FileNotFoundError:
                lock = None
            except OSError:
                with contextlib.suppress(OSError):
                    path.rmdir()
                raise
            if lock is not None:
                return cls(path, lock)
        raise FileExistsError(f"another process removes every new folder in {parent}")

    @property
    def usable(self) -> bool:
        """False in a forked child, after ``remove``, and where somebody deleted the folder."""
        return self._process == os.getpid() and self._lock.is_named()

    def new_name(self) -> str:
        """The path of a new file in here. As text: see ``IBlobCache.get_text``."""
        return f"{self._text}/{next(self._names):x}"

    def remove(self) -> None:
        """Delete the folder and what we made in it, and let go of the lock. Never raises.

        A folder that somebody else made in the staging folder and still uses stays: a connection that outlives its
        database has its savepoints there, and aborting them must not fail. The next start sweeps it.
        """
        if self._process != os.getpid():
            return
        _clear(self.path)
        with contextlib.suppress(OSError):
            self._lock.release(remove=True)
        with contextlib.suppress(OSError):
            self.path.rmdir()


def _nothing_to_keep(folder: Path) -> bool:
    return True


def living(parent: Path, prefix: str = "", bury: Callable[[Path], bool] = _nothing_to_keep) -> Iterator[Path]:
    """The folders in ``parent`` after those of dead processes were removed. Never raises for the disk.

    ``bury`` is called with each of the latter, locked and empty but for what its process counted; where it returns
    False, the folder stays until the next time. Only real folders of this user count: ``parent`` may be the machine's
    temporary folder.
    """
    try:
        names = sorted(name for name in os.listdir(parent) if name.startswith(prefix))
    except OSError:
        return
    for name in names:
        path = parent / name
        try:
            status = os.stat(path, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
                continue
            lock = FileLock.take(path / _LOCK)
        except OSError:
            continue  # gone meanwhile, or a disk that does not let us: the next sweep asks again
        if lock is None:
            yield path
            continue
        # Nobody else can be in here: a process that finds the lock taken makes itself another folder, and another
        # sweeper takes us for the living owner.
        _clear(path, others=True, keep=(_LOCK, COUNTERS))
        buried = bury(path)
        if buried:
            _clear(path)
        with contextlib.suppress(OSError):
            lock.release(remove=buried)
        with contextlib.suppress(OSError):
            path.rmdir()


def _clear(folder: Path, *, others: bool = False, keep: tuple[str, ...] = (_LOCK,)) -> None:
    """Delete the files here and in our staging folder; with ``others`` also the folders that we did not make."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.name in keep:
            continue
        with contextlib.suppress(OSError):
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
            elif others:
                shutil.rmtree(entry.path, ignore_errors=True)
            elif entry.name == STAGING:
                _clear(Path(entry.path))
                os.rmdir(entry.path)
