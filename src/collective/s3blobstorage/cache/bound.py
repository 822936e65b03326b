"""Which files to evict, and evicting them.

Memory does not grow with anything but sixteen bytes per file: the folders are read twice, once to find how old a file
must be to go, once to let those go. Names are not kept.
"""

from __future__ import annotations

import contextlib
import os
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .layout import BLOB_SUFFIX, Layout, occupied

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
    """What is there: bytes in all, and last use and bytes of each file that may go."""

    total: int = 0
    used: array = field(default_factory=lambda: array("d"))
    sizes: array = field(default_factory=lambda: array("q"))


def survey(layout: Layout, margins: Margins, now: float, stopped: Callable[[], bool]) -> Survey:
    """Read the folders. Temporary and staged files of living processes count; they may not go."""
    found = Survey()
    for path, status in _blobs(layout, stopped):
        found.total += occupied(status)
        if status.st_atime > now + 1.0:
            # From a time before the clock was set back. It may have been handed out a second ago: from now on
            # it is as if it had been handed out now, so that it neither goes at once nor stays for ever.
            with contextlib.suppress(OSError):
                os.utime(path, ns=(int(now * 1e9), status.st_mtime_ns))
        elif path.endswith(BLOB_SUFFIX) and not _protected(status, margins, now):
            found.used.append(_used(status, margins))
            found.sizes.append(occupied(status))
    for folder, _, names in os.walk(layout.processes):
        for name in names:
            with contextlib.suppress(OSError):
                found.total += occupied(os.stat(os.path.join(folder, name), follow_symlinks=False))
    return found


def oldest(found: Survey, excess: int) -> float | None:
    """The last use of the newest file that must go, so that ``excess`` bytes go, oldest first; None where none must."""
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
    layout: Layout, margins: Margins, limit: float, excess: int, now: float, scratch: Path, stopped: Callable[[], bool]
) -> tuple[int, int]:
    """Remove files last used at ``limit`` or before until ``excess`` bytes went; (files, bytes) removed."""
    files = freed = 0
    for path, status in _blobs(layout, stopped):
        if freed >= excess:
            break
        if not path.endswith(BLOB_SUFFIX) or _protected(status, margins, now) or _used(status, margins) > limit:
            continue
        if _remove(path, scratch, status):
            files += 1
            freed += occupied(status)
    return files, freed


def _remove(path: str, scratch: Path, seen: os.stat_result) -> bool:
    # A reader may get the file between our look at it and its removal; it then notes the use. So the file is first
    # moved to where no reader finds it, and looked at again: a use noted before the move is seen now, and the file goes
    # back; noting one after the move fails, and that reader takes the file for missing.
    try:
        os.rename(path, scratch)
    except OSError:
        return False
    try:
        if os.stat(scratch).st_atime != seen.st_atime:
            os.rename(scratch, path)
            return False
        os.unlink(scratch)
    except OSError:
        return False  # it lies in this process's folder and is swept with it
    return True


def _protected(status: os.stat_result, margins: Margins, now: float) -> bool:
    return now - status.st_atime < margins.protect


def _used(status: os.stat_result, margins: Margins) -> float:
    return _FIRST if occupied(status) > margins.size else status.st_atime


def _blobs(layout: Layout, stopped: Callable[[], bool]) -> Iterator[tuple[str, os.stat_result]]:
    try:
        folders = os.listdir(layout.blobs)
    except OSError:
        return
    for folder in folders:
        if stopped():
            return
        try:
            entries = os.scandir(layout.blobs / folder)
        except OSError:
            continue
        with entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue  # evicted or replaced meanwhile
                yield entry.path, status
