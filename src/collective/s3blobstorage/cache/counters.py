"""What the processes of a machine did with a store's cache: counted in memory, kept on the disk.

Each process counts in memory and saves into its own folder: after an eviction, after a download unless it saved within
the last second (writing a small file takes longer than all else that a download costs here), and at the cleaner's tick
(5 s), so that nothing is written on the way of a read that the cache answers. When it ends, or is found dead, what it
saved is added to the store's total. A process that is killed loses what it counted since it last saved.

The file is not mapped into memory, which would lose nothing: a mapped file that is cut, or whose disk fails, ends the
process with SIGBUS (verified), and a broken cache disk must not do as much as raise an error.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from .layout import StoreFolder
from .locks import FileLock
from .processes import COUNTERS

# Adding to a total takes well under a millisecond; who holds its lock for longer was stopped in the middle.
_PATIENCE = 5.0  # seconds

# How soon after it saved a process that downloads saves again. It takes about a millisecond.
_INTERVAL = 1.0  # seconds

# How often to read again while processes end: each time one does, the total changes under the reader.
_ATTEMPTS = 20


class Counters:
    """Whole numbers that only grow. ``snapshot`` is consistent; any thread may call anything.

    hits: reads answered by a file that was here. misses: reads that found none. waits: reads that waited for another
    thread's download. downloads: downloads begun. parts: parts of large blobs downloaded. bytes: downloaded or adopted.
    evictions: files removed for the bound or for cache-min-free, a pair of part and map as one. errors: operations of
    the cache's own disk that failed.
    """

    names = ("hits", "misses", "waits", "downloads", "parts", "bytes", "evictions", "errors")

    def __init__(self, also: tuple[Callable[[], Mapping[str, int]], ...] = ()) -> None:
        self._also = also
        self._lock = threading.Lock()
        self._values = dict.fromkeys(self.names, 0)
        self._saving = threading.Lock()  # so that an older state never replaces a newer one
        self._folder: Path | None = None
        self._before = dict(self._values)  # what does not go into the folder
        self._saved = self._before  # when that is all, there is nothing to save
        self._next = 0.0  # when save_now_and_then saves again, by the monotonic clock

    def add(self, name: str, amount: int = 1) -> None:
        with self._lock:
            self._values[name] += amount

    def snapshot(self) -> dict[str, int]:
        with self._lock:
            return dict(self._values)

    def keep_also(self, counted: Callable[[], Mapping[str, int]]) -> None:
        """Save what somebody else counts too: whole numbers that only grow, and begin at zero in a forked child.

        Their names have a dot in them, the cache's own never (``of_cache``). ``counted`` is called in any thread.
        """
        self._also = (*self._also, counted)

    def for_child(self) -> Counters:
        """Those of a forked child, which begins at zero."""
        return Counters(self._also)

    def _everything(self) -> dict[str, int]:
        values = self.snapshot()
        for counted in self._also:
            values.update(counted())
        return values

    @property
    def folder(self) -> Path | None:
        """Of this process, for what it keeps; None before there is one, and after ``end``."""
        return self._folder

    def keep_in(self, folder: Path) -> None:
        """Save into this folder of the process from now on.

        Where there was another one before, somebody deleted it: then what was counted until now went with it.
        """
        with self._saving:
            if self._folder is not None:
                self._before = self._everything()
            self._folder, self._saved = folder, self._before

    def save_now_and_then(self) -> None:
        """``save``, but not oftener than once a second."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _INTERVAL  # two threads that come at once both save: no harm
            self.save()

    def save(self) -> None:
        """Write what changed since the last time. Never raises for the disk: then it is tried again the next time."""
        with self._saving:
            if self._folder is None:
                return
            values = self._everything()
            if values == self._saved:
                return
            with contextlib.suppress(OSError):
                counted = {name: value - self._before.get(name, 0) for name, value in values.items()}
                write(self._folder / COUNTERS, counted, self._folder)
                self._saved = values

    def end(self) -> None:
        """Save once more; no later ``save`` writes anything."""
        self.save()
        with self._saving:
            self._folder = None


def add_to_total(store: StoreFolder, folder: Path) -> bool:
    """Add what the process with this folder counted to the total of its store, once however often it is called.

    The caller holds the folder's lock: the process is dead, or it is the caller. False where it could not be done.
    Never raises for the disk.
    """
    counted = _read(folder / COUNTERS)
    if counted is None:
        return True  # it counted nothing
    try:
        lock = FileLock.take(store.folder / "counters.lock", wait=_PATIENCE)
        if lock is None:
            return False
        try:
            total = _Total.read(store)
            if folder.name in total.added:
                return True  # whoever did that was killed before it could delete the folder
            # Remembered in the same step, and for as long as there is a folder that could be added again.
            kept = [name for name in total.added if (store.processes / name).exists()]
            document = {"counters": _sum(total.counters, counted), "added": [*kept, folder.name]}
            # Written in the folder that is to go: a crash leaves nothing that somebody else would have to sweep.
            write(store.folder / COUNTERS, document, folder)
        finally:
            lock.release(remove=True)
    except OSError:
        return False
    return True


def counted_since_made(store: StoreFolder) -> tuple[dict[str, int], float]:
    """What all processes, living and dead, counted in this store's folder, and since when (seconds since 1970).

    Changes nothing. OSError where the folder may not be read; where it is not there, FileNotFoundError.
    """
    since = store.marker.stat().st_mtime  # written once, when the folder was made
    for _ in range(_ATTEMPTS):
        total = _Total.read(store)
        counters = _sum({}, total.counters)
        for name in os.listdir(store.processes):
            if name not in total.added:
                counters = _sum(counters, _read(store.processes / name / COUNTERS) or {})
        # A process that ended in between was added to a total that we did not see.
        if _Total.read(store) == total:
            break
    return counters, since


def of_cache(counted: Mapping[str, int]) -> dict[str, int]:
    """What is counted here, without what others keep beside it (``keep_also``)."""
    return {name: value for name, value in counted.items() if "." not in name}


class _Total:
    """counters.json of a store: sums of the processes that ended, and the names of those whose folders may be there."""

    def __init__(self, counters: dict[str, int], added: list[str]) -> None:
        self.counters = counters
        self.added = added

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Total) and (self.counters, self.added) == (other.counters, other.added)

    @classmethod
    def read(cls, store: StoreFolder) -> _Total:
        """Empty where it is not there or damaged: counting starts anew."""
        try:
            document = json.loads((store.folder / COUNTERS).read_bytes())
            return cls(_numbers(document["counters"]), [str(name) for name in document["added"]])
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return cls({}, [])


def _read(path: Path) -> dict[str, int] | None:
    try:
        return _numbers(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError, AttributeError):
        return None  # ended meanwhile, or cut by a crash of the machine


def write(path: Path, document: dict, folder: Path) -> None:
    """Write JSON by way of ``folder``, a process's own. OSError, and then nothing was changed."""
    # Renamed, so that nobody reads half of it. Not synced: a crash of the machine may cost what was counted.
    temporary = folder / f"{COUNTERS}.{os.urandom(8).hex()}"
    try:
        with open(temporary, "x", opener=_private) as file:
            file.write(json.dumps(document))  # five times as fast as json.dump, which has no part in C
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _private(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NOFOLLOW, 0o600)


def _numbers(document: dict) -> dict[str, int]:
    return {str(name): int(value) for name, value in document.items()}


def _sum(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    # Also names that only another release knows.
    names = dict.fromkeys([*Counters.names, *one, *other])
    return {name: one.get(name, 0) + other.get(name, 0) for name in names}
