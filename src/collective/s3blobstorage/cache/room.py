"""How much of the disk is free, and for whom.

There is one floor, ``cache-min-free``: what a disk that others write to, too, shall keep free. The cache gives way for
it: complete files and parts are evicted until that much is free again. They can be fetched again; a commit cannot, so
it gives way later, only where a hundredth of the disk, or 1 GB, is left (or ``cache-min-free``, where that is less).
Between the two, commits go on and the cache shrinks.

What cannot give way are the files of transactions and downloads that are running.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ..settings import GB, MinFree
from .layout import occupied

# Free space below which a commit takes no more of the disk: a hundredth of it, and at most 1 GB, since on a large disk
# a hundredth would be space that nobody may use. Databases and logs on the same disk fail in worse ways than an upload
# that is refused.
_COMMIT_SHARE = 100
_COMMIT_MOST = 1 * GB


def commit_floor(total: int, min_free: MinFree) -> int:
    """The bytes that a commit leaves free on a disk of ``total`` bytes."""
    return min(min_free.of(total), total // _COMMIT_SHARE, _COMMIT_MOST)


def missing(folder: Path, more: int, min_free: MinFree) -> int:
    """How many bytes of the folder's disk must become free before a commit takes ``more``; 0 where it may. OSError."""
    free, total = _disk(folder)
    return max(0, commit_floor(total, min_free) + more - free)


def look(folder: Path, min_free: MinFree) -> tuple[int, int]:
    """How many bytes of the folder's disk are to be evicted, 0 where the floor is kept, and how many may be written
    until it is time to look again. OSError.

    The second is a tenth of the floor, and the first goes a tenth above it: so the next eviction comes after that much
    was written, and not after the next file.
    """
    free, total = _disk(folder)
    floor = min_free.of(total)
    step = floor // 10
    return (floor + step - free if free < floor else 0), step


def roomier(folder: Path, other: Path, min_free: MinFree) -> bool:
    """Whether the disk of ``folder`` has less free than it shall keep, and that of ``other`` has more. OSError."""
    free, total = _disk(folder)
    return free < min_free.of(total) and _disk(other)[0] > free


def _disk(folder: Path) -> tuple[int, int]:
    disk = os.statvfs(folder)
    # f_bavail: what is free for users; root's reserve is for others.
    return disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize


def in_flight(folders: Iterable[Path]) -> int:
    """Bytes of all files below the folders: what processes stage and download right now."""
    total = 0
    for folder in folders:
        for parent, _, names in os.walk(folder):
            for name in names:
                try:
                    total += occupied(os.stat(os.path.join(parent, name), follow_symlinks=False))
                except OSError:
                    continue  # published, committed or removed meanwhile
    return total
