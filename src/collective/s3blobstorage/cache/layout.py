"""Where in the cache folder everything lies, and whose folder it is.

::

    {cache-dir}/{16 hex of SHA-256 of the store's identity}/
        cache.json                     the marker: kind, format number, store
        blobs/{3 hex}/{oid}-{tid}.blob complete files, mode 0400
        locks/{oid}-{tid}              one file per download that is running
        processes/{token}/             one folder per living process: temporary files, staging
        cleaner.lock                   held by the one process that is cleaning

The folder of a blob file is the low twelve bits of its oid: oids are handed out in sequence, so the files spread
evenly; a million files make about 250 entries in each of 4,096 folders, a thousand files are found with two folder
look-ups. These folders are never removed, so there is no race between removing one and publishing into it.

Files whose names end in anything else than ``.blob`` are counted and left alone: a later release may put parts of large
blobs beside the complete files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path

from ..errors import ConfigurationError

KIND = "collective.s3blobstorage cache"
FORMAT = 1
MARKER = "cache.json"
BLOB_SUFFIX = ".blob"


def stamp(size: int) -> int:
    """The modification time, in whole seconds, that a published file of ``size`` bytes carries.

    Nobody needs a cache file's modification time, and any later write to the file or truncation of it changes it to the
    present. So the time is set, at publishing, to one that follows from the size and lies between 2001 and 2017: a
    file that was modified, or cut, after it was published is recognised by the ``stat`` that every read makes anyway.
    Whole seconds, since some file systems store no finer ones.

    What it does not notice: bytes that rot on the disk without a write, and a tool that writes and then restores the
    time.
    """
    return 1_000_000_000 + size % 500_000_000


def is_whole(status: os.stat_result) -> bool:
    """Whether the file is as it was published."""
    return status.st_mtime == stamp(status.st_size)


def occupied(status: os.stat_result) -> int:
    """The bytes that a complete file takes from the bound.

    Its blocks on the disk, and never less than its size: some file systems report blocks late or compress.
    """
    return max(status.st_size, status.st_blocks * 512)


# A marker is written under a temporary name in well under a second. One that is older was left by a crash.
_MARKER_AGE = 3600.0  # seconds


class Layout:
    """The paths of one store's folder, and its marker."""

    def __init__(self, root: Path, identity: str) -> None:
        self.root = root
        self.identity = identity
        self.store = hashlib.sha256(identity.encode()).hexdigest()[:16]
        self.folder = root / self.store
        self.blobs = self.folder / "blobs"
        self.locks = self.folder / "locks"
        self.processes = self.folder / "processes"
        self.cleaner_lock = self.folder / "cleaner.lock"
        self._blobs = str(self.blobs)  # joined as text: this is on the path of every read

    def blob(self, oid: bytes, tid: bytes) -> str:
        name = oid.hex()
        return f"{self._blobs}/{name[-3:]}/{name}-{tid.hex()}{BLOB_SUFFIX}"

    def lock(self, oid: bytes, tid: bytes) -> Path:
        return self.locks / f"{oid.hex()}-{tid.hex()}"

    def check_foreign(self) -> None:
        """Raise ConfigurationError where ``cache-dir`` is something else than a cache of ours; reads only.

        OSError where the disk does not answer.
        """
        if self.root.exists() and not self.root.is_dir():
            raise ConfigurationError(
                f"cache-dir {str(self.root)!r} is a file; name a folder, for example /var/cache/plone"
            )
        if (self.root / ".layout").exists():
            raise ConfigurationError(
                f"cache-dir {str(self.root)!r} is a ZODB blob directory (it has a file .layout), and a cache deletes"
                " files; name an empty folder, for example /var/cache/plone"
            )
        try:
            text = (self.folder / MARKER).read_bytes()
        except FileNotFoundError:
            pass
        else:
            self._check_marker(text)
            return
        try:
            names = [name for name in os.listdir(self.folder) if not name.startswith(MARKER)]
        except FileNotFoundError:
            return
        if names and not (self.folder / MARKER).exists():  # asked again: another process may be making it right now
            raise ConfigurationError(
                f"the folder {self.store!r} in cache-dir {str(self.root)!r} holds files but no {MARKER}, so it is not a"
                " cache of ours; delete that folder, or name another cache-dir, for example /var/cache/plone"
            )

    def _check_marker(self, text: bytes) -> None:
        try:
            marker = json.loads(text)
            kind, number = marker["kind"], int(marker["format"])
        except (ValueError, KeyError, TypeError):
            kind, number = None, 0
        if kind != KIND:
            raise ConfigurationError(
                f"the folder {self.store!r} in cache-dir {str(self.root)!r} is marked as something else ({MARKER});"
                " delete that folder, or name another cache-dir, for example /var/cache/plone"
            )
        if number > FORMAT:
            raise ConfigurationError(
                f"the cache in cache-dir {str(self.root)!r} has format {number}, written by a newer release; this one"
                f" knows formats up to {FORMAT}: delete the folder {self.store!r}, or name another cache-dir"
            )

    def prepare(self) -> None:
        """Make folders and marker where they are not there. ConfigurationError as ``check_foreign``; OSError."""
        self.check_foreign()
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        if self.folder.stat().st_mode & 0o077:
            self.folder.chmod(0o700)
        marker = self.folder / MARKER
        if not marker.exists():
            # Any number of processes may do this at once: each renames the same content into the same place.
            temporary = self.folder / f"{MARKER}.{os.getpid()}-{os.urandom(8).hex()}"
            try:
                with open(temporary, "x") as file:
                    json.dump({"kind": KIND, "format": FORMAT, "store": self.identity}, file)
                    file.flush()
                    os.fsync(file.fileno())  # a crash of the machine must not leave an empty marker
                os.replace(temporary, marker)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise
        for folder in (self.blobs, self.locks, self.processes):
            folder.mkdir(mode=0o700, exist_ok=True)

    def remove_old_markers(self) -> None:
        """Remove temporary markers that a crash left. Never raises for the disk."""
        with contextlib.suppress(OSError):
            for path in self.folder.glob(f"{MARKER}.*"):
                if path.stat().st_mtime < time.time() - _MARKER_AGE:
                    path.unlink()
