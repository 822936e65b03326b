"""Which files to evict, and evicting them, over all stores of a cache folder.

Memory does not grow with anything but sixteen bytes per file: the folders are read twice, once to find how old a file
must be to go, once to let those go. Names are kept of one folder at a time.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from .layout import BLOB_SUFFIX, GOING_SUFFIX, MAP_SUFFIX, PART_SUFFIX, StoreFolder, lock_key, occupied
from .locks import FileLock
from .processes import COUNTERS

# What we may delete: nothing is, whatever lies there, that is not called like this.
_FOLDER = re.compile("[0-9a-f]{3}")
_SUFFIXES = "|".join(map(re.escape, (BLOB_SUFFIX, PART_SUFFIX, MAP_SUFFIX)))
_FILE = re.compile(f"([0-9a-f]{{16}}-[0-9a-f]{{16}})((?:{_SUFFIXES})(?:{re.escape(GOING_SUFFIX)})?)")

# Sorts before every time: a file larger than the whole bound goes first.
_FIRST = float("-inf")


@dataclass(frozen=True, slots=True)
class Margins:
    """How much may stay, and what must not go.

    size: the bound in bytes.
    target: what a cleaning leaves. A tenth of the bound below it, since the next cleaning comes after another tenth
    has been written: so the bound holds in between, too.
    protect: seconds for which a file that was handed out stays, whatever the bound. Somebody may hold its path
    without having opened it yet.
    """

    size: int
    protect: float

    @property
    def target(self) -> int:
        return self.size - self.size // 10


@dataclass(slots=True)
class Survey:
    """What is there: bytes in all, and last use and bytes of each entry that may go."""

    total: int = 0
    used: array = field(default_factory=lambda: array("d"))
    sizes: array = field(default_factory=lambda: array("q"))


@dataclass(frozen=True, slots=True)
class Entry:
    """What goes as one: a complete file, or the map of a large blob's parts (``path``) and their data.

    By part, by punching holes into the data, would be no better. benchmarks/evicting_parts.py replays readers against
    a cache for a fifth of the files; found were, as one and by part: of files read whole 55.3% and 55.3%, from the
    start and given up 72.0% and 73.7%, a few parts from anywhere 66.6% and 62.5%, all mixed 56.8% and 55.2%. And each
    read would have to note the use of its parts, and to look again afterwards whether they were punched.

    status: of ``path``. Its access time is the last use, noted by whoever hands out the file or reads parts.
    """

    store: StoreFolder
    path: str
    data: str | None
    status: os.stat_result
    size: int


def survey(stores: Iterable[StoreFolder], margins: Margins, now: float, stopped: Callable[[], bool]) -> Survey:
    """Read the folders of all stores, and delete what a crash left of an eviction or of a pair.

    Temporary and staged files of living processes count; they may not go. For whoever holds cleaner.lock.
    """
    found = Survey()
    for store in stores:
        for files in _folders(store, stopped):
            found.total += files.others
            for path, status, size in files.strays:
                if not _removed_stray(path, status, margins, now):
                    found.total += size
            for entry in files.entries:
                found.total += entry.size
                if entry.status.st_atime > now + 1.0:
                    # From a time before the clock was set back. It may have been handed out a second ago: from now on
                    # it is as if it had been handed out now, so that it neither goes at once nor stays for ever.
                    with contextlib.suppress(OSError):
                        os.utime(entry.path, ns=(int(now * 1e9), entry.status.st_mtime_ns))
                elif not _protected(entry, margins, now):
                    found.used.append(_used(entry, margins))
                    found.sizes.append(entry.size)
        for folder, _, names in os.walk(store.processes):
            for name in names:
                # A block per process, and for a moment, while it is written, another one: no figure of the bound is
                # that fine, and it must not depend on that moment.
                if not name.startswith(COUNTERS):
                    with contextlib.suppress(OSError):
                        found.total += occupied(os.stat(os.path.join(folder, name), follow_symlinks=False))
    return found


def oldest(found: Survey, excess: int) -> float | None:
    """The last use of the newest entry that must go so that ``excess`` bytes go, oldest first; None where none must."""
    if excess <= 0:
        return None
    limit = None
    for index in sorted(range(len(found.used)), key=found.used.__getitem__):
        limit = found.used[index]
        excess -= found.sizes[index]
        if excess <= 0:
            break
    return limit


def evict(
    stores: Iterable[StoreFolder],
    margins: Margins,
    limit: float,
    excess: int,
    now: float,
    stopped: Callable[[], bool],
) -> tuple[int, int]:
    """Remove entries last used at ``limit`` or before until ``excess`` bytes went; (entries, bytes) removed.

    For whoever holds cleaner.lock.
    """
    count = freed = 0
    for store in stores:
        for files in _folders(store, stopped):
            for entry in files.entries:
                if freed >= excess:
                    return count, freed
                if not _protected(entry, margins, now) and _used(entry, margins) <= limit and _remove(entry):
                    count += 1
                    freed += entry.size
    return count, freed


def _remove(entry: Entry) -> bool:
    if entry.data is None:
        return _remove_unless_used(entry)
    # Who makes or publishes a pair holds its map lock; who only reads or brings parts has both files open.
    try:
        revision = os.path.basename(entry.path).removesuffix(MAP_SUFFIX)
        lock = FileLock.take(entry.store.downloads_lock, key=lock_key(revision, "map"))
    except OSError:
        return False
    if lock is None:
        return False
    try:
        return _remove_unless_used(entry)
    finally:
        with contextlib.suppress(OSError):
            lock.release(remove=True)


def _remove_unless_used(entry: Entry) -> bool:
    # A reader may get the file between our look at it and its removal; it then notes the use. So the file is first
    # moved to where no reader finds it, and looked at again: a use noted before the move is seen now, and the file goes
    # back; noting one after the move fails, and that reader takes the file for missing. Moved within its folder, since
    # that is one file system wherever somebody mounted the folders of other databases.
    aside = entry.path + GOING_SUFFIX
    try:
        os.rename(entry.path, aside)
    except OSError:
        return False
    try:
        if os.stat(aside).st_atime != entry.status.st_atime:
            os.rename(aside, entry.path)
            return False
        if entry.data is not None:
            # Without a map nobody opens it any more.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(entry.data)
        os.unlink(aside)
    except OSError:
        return False  # what is left is taken for a stray by the next survey
    return True


def _protected(entry: Entry, margins: Margins, now: float) -> bool:
    return now - entry.status.st_atime < margins.protect


def _used(entry: Entry, margins: Margins) -> float:
    return _FIRST if entry.size > margins.size else entry.status.st_atime


def _removed_stray(path: str, status: os.stat_result, margins: Margins, now: float) -> bool:
    """Delete what only a crash can have left. A map or its data is alone for a moment also while a pair is made."""
    if not path.endswith(GOING_SUFFIX) and now - max(status.st_mtime, status.st_atime) < margins.protect:
        return False
    try:
        os.unlink(path)
    except OSError:
        return False
    return True


@dataclass(slots=True)
class _Files:
    """What one folder of blobs holds; ``others``: bytes of files that are not of this release, and stay."""

    entries: list[Entry] = field(default_factory=list)
    strays: list[tuple[str, os.stat_result, int]] = field(default_factory=list)
    others: int = 0


def _folders(store: StoreFolder, stopped: Callable[[], bool]) -> Iterator[_Files]:
    try:
        names = [name for name in os.listdir(store.blobs) if _FOLDER.fullmatch(name)]
    except OSError:
        return
    for name in names:
        if stopped():
            return
        folder = os.path.join(store.blobs, name)
        if not os.path.islink(folder):
            yield _sorted(store, folder, _statuses(folder))


def files_of(store: StoreFolder) -> Iterator[tuple[str, str, str]]:
    """Path, revision (oid and tid in hex) and suffix of each file that the cache may delete. Never raises."""
    for files in _folders(store, lambda: False):
        paths = [path for path, _, _ in files.strays]
        for entry in files.entries:
            paths += [entry.path] if entry.data is None else [entry.path, entry.data]
        for path in paths:
            match = _FILE.fullmatch(os.path.basename(path))
            if match is not None:
                yield path, match[1], match[2]


def _statuses(folder: str) -> dict[str, os.stat_result]:
    found: dict[str, os.stat_result] = {}
    try:
        entries = os.scandir(folder)
    except OSError:
        return found
    with entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # evicted or replaced meanwhile
                found[entry.name] = entry.stat(follow_symlinks=False)
    return found


def _sorted(store: StoreFolder, folder: str, statuses: dict[str, os.stat_result]) -> _Files:
    files = _Files()
    for name, status in statuses.items():
        match = _FILE.fullmatch(name)
        if match is None or not stat.S_ISREG(status.st_mode):
            files.others += occupied(status)
            continue
        revision, suffix = match.groups()
        path = f"{folder}/{name}"
        if suffix == BLOB_SUFFIX:
            files.entries.append(Entry(store, path, None, status, occupied(status)))
        elif suffix == MAP_SUFFIX and revision + PART_SUFFIX in statuses:
            data = statuses[revision + PART_SUFFIX]
            # The data are sparse: what they take are their blocks.
            size = occupied(status) + data.st_blocks * 512
            files.entries.append(Entry(store, path, f"{folder}/{revision}{PART_SUFFIX}", status, size))
        elif suffix != PART_SUFFIX or revision + MAP_SUFFIX not in statuses:
            size = status.st_blocks * 512 if suffix == PART_SUFFIX else occupied(status)
            files.strays.append((path, status, size))
    return files
