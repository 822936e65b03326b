"""Is there room on the disk for what is being committed?

Complete files give way: the cleaner evicts them. What cannot give way are the files of transactions and downloads that
are running, and they alone are looked at here, which costs a walk over a handful of files per commit of a blob.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from .layout import occupied

MB = 1024 * 1024
GB = 1024 * MB

# Free space below which a commit takes no more of a disk that others write to, too: a hundredth of it, and at most
# 1 GB, since on a large disk a hundredth would be space that nobody may use. Databases and logs on the same disk fail
# in worse ways than an upload that is refused.
_FREE_SHARE = 100
_FREE_MOST = 1 * GB


def floor(total: int) -> int:
    """The bytes that stay free on a disk of ``total`` bytes."""
    return min(total // _FREE_SHARE, _FREE_MOST)


def missing(folder: Path, more: int) -> int:
    """How many bytes of the folder's disk must become free before it takes ``more``; 0 where it may. OSError."""
    disk = os.statvfs(folder)
    # f_bavail: what is free for users; root's reserve is for others.
    return max(0, floor(disk.f_blocks * disk.f_frsize) + more - disk.f_bavail * disk.f_frsize)


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
