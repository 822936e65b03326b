"""Where in the cache folder everything lies, and whose folder it is.

::

    {cache-dir}/
        cleaner.lock                   held by the one process of the machine that is cleaning
        {16 hex of SHA-256 of the store's identity}/
            cache.json                     the marker: kind, format number, store
            counters.json                  what the processes that ended counted
            history.json                   what all had counted by when: samples of the last 24 hours
            blobs/{3 hex}/{oid}-{tid}.blob complete files, mode 0400
            blobs/{3 hex}/{oid}-{tid}.part some parts of a large blob, a sparse file
            blobs/{3 hex}/{oid}-{tid}.map  which parts those are
            machine.key                    what the files are encrypted under (cache-encrypt), wrapped: machinekey.py
            found                          which objects were seen in the bucket
            downloads.lock                 of downloads that are running, each locks its place in it
            processes/{token}/             one folder per living process: temporary files, staging, counters

The folder of a blob file is bits 8 to 19 of its oid. Oids are handed out in sequence, so the files spread evenly: a
million files make about 250 entries in each of 4,096 folders. Blobs of one time share a few folders: a new cache that
made a folder for each of its first files spent as long with that as with writing the files. These folders are never
removed, so there is no race between removing one and publishing into it.

A process cleans the folders of all stores in ``cache-dir``, those of other databases too. What it takes for such a
folder has our marker and the name that follows from it; in there only files with names as above are ever deleted.
Anything else in ``cache-dir`` is neither read nor counted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
import time
from pathlib import Path

from ..errors import ConfigurationError
from .locks import FileLock

KIND = "collective.s3blobstorage cache"
FORMAT = 1
MARKER = "cache.json"
BLOB_SUFFIX = ".blob"
PART_SUFFIX = ".part"
MAP_SUFFIX = ".map"
# Of a file that is being evicted, beside where it was. One that is seen by who holds cleaner.lock was left by a crash.
GOING_SUFFIX = ".going"
CLEANER_LOCK = "cleaner.lock"
DOWNLOADS_LOCK = "downloads.lock"
FOUND = "found"

_STORE = re.compile("[0-9a-f]{16}")


def _boot() -> int:
    """A number of this boot of the machine, from 1 on; 0 where it has none that we can read.

    Linux, Documentation/admin-guide/sysctl/kernel.rst, "random": boot_id is a UUID made once at boot.
    """
    try:
        return 1 + int(Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", ""), 16) % 499_999_999
    except (OSError, ValueError):
        return 0


BOOT = _boot()


def stamp(size: int, boot: int = 0) -> int:
    """The modification time, in whole seconds, that a published file of ``size`` bytes carries.

    Nobody needs a cache file's modification time, and any later write to the file or truncation of it changes it to the
    present. So the time is set, at publishing, to one that follows from the size and lies between 2001 and 2017: a
    file that was modified, or cut, after it was published is recognised by the ``stat`` that every read makes anyway.
    Whole seconds, since some file systems store no finer ones.

    A file whose bytes may not be on the disk yet has the stamp with ``boot``, which holds until the machine starts
    anew: after a crash it may be cut or full of zeros, and is fetched again. ``durable.py`` syncs it and gives it the
    other one, in the background: a sync costs more than fetching a small blob, and would hold up every read and commit.

    What it does not notice: bytes that rot on the disk without a write, and a tool that writes and then restores the
    time.
    """
    return 1_000_000_000 + (size + boot) % 500_000_000


def is_whole(status: os.stat_result) -> bool:
    """Whether the file is as it was published."""
    return status.st_mtime == stamp(status.st_size) or status.st_mtime == stamp(status.st_size, BOOT)


def occupied(status: os.stat_result) -> int:
    """The bytes that a complete file takes from the bound.

    Its blocks on the disk, and never less than its size: some file systems report blocks late or compress.
    """
    return max(status.st_size, status.st_blocks * 512)


def lock_key(revision: str, what: str) -> str:
    """Of a revision's files without their suffix; ``what``: "map", or a part's number."""
    return f"{revision}.{what}"


# A marker is written under a temporary name in well under a second. One that is older was left by a crash.
_MARKER_AGE = 3600.0  # seconds


class StoreFolder:
    """The folder of one of the stores that share ``cache-dir``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs = folder / "blobs"
        self.downloads_lock = folder / DOWNLOADS_LOCK
        self.found = folder / FOUND
        self.processes = folder / "processes"
        self.marker = folder / MARKER

    def remove_old_markers(self) -> None:
        """Remove temporary markers that a crash left. Never raises for the disk."""
        with contextlib.suppress(OSError):
            for path in self.folder.glob(f"{MARKER}.*"):
                if path.stat().st_mtime < time.time() - _MARKER_AGE:
                    path.unlink()


def stores(root: Path) -> list[StoreFolder]:
    """The folders in ``root`` that carry our marker, in a format that this release knows. Never raises for the disk.

    A newer release's folder is left alone, and so is one of another user that we may not read.
    """
    try:
        names = sorted(name for name in os.listdir(root) if _STORE.fullmatch(name))
    except OSError:
        return []
    return [StoreFolder(root / name) for name in names if _is_store(root / name)]


def _is_store(folder: Path) -> bool:
    try:
        # A link may lead to where other people's files are.
        if not stat.S_ISDIR(os.stat(folder, follow_symlinks=False).st_mode):
            return False
        kind, number, identity = _parse_marker((folder / MARKER).read_bytes())
    except OSError:
        return False
    return kind == KIND and number <= FORMAT and _store_name(identity) == folder.name


def _parse_marker(text: bytes) -> tuple[str | None, int, str]:
    """Kind, format number and store; kind None where it is no marker."""
    try:
        marker = json.loads(text)
        return marker["kind"], int(marker["format"]), str(marker.get("store"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None, 0, ""


def sealed_identity(identity: str) -> str:
    """Of the same store's cache where it is encrypted. A folder of its own: no process, not one of an earlier release
    or with the other setting, ever takes the one's files for the other's."""
    return f"{identity}\nencrypted"


def _store_name(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


class Layout(StoreFolder):
    """The paths of our own store's folder, and its marker."""

    def __init__(self, root: Path, identity: str) -> None:
        self.root = root
        self.identity = identity
        self.store = _store_name(identity)
        super().__init__(root / self.store)
        self.cleaner_lock = root / CLEANER_LOCK
        # As text: they are on the path of every read.
        self._blobs = str(self.blobs)
        self._downloads_lock = str(self.downloads_lock)

    def blob(self, oid: bytes, tid: bytes) -> str:
        name = oid.hex()
        return f"{self._blobs}/{name[-5:-2]}/{name}-{tid.hex()}{BLOB_SUFFIX}"

    def lock(self, oid: bytes, tid: bytes, what: str = "", *, wait: float = 0.0) -> FileLock | None:
        """Lock the whole file of a revision, or ``what`` of it, among all threads and processes. See FileLock.take.

        One lock per revision, not a fixed set of them: with a set, downloads that have nothing to do with each other
        would wait for each other, a thumbnail for a video.
        """
        return FileLock.take(self._downloads_lock, key=lock_key(f"{oid.hex()}-{tid.hex()}", what), wait=wait)

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
        self._check_root()
        try:
            text = self.marker.read_bytes()
        except FileNotFoundError:
            pass
        else:
            self._check_marker(text)
            return
        try:
            names = [name for name in os.listdir(self.folder) if not name.startswith(MARKER)]
        except FileNotFoundError:
            return
        if names and not self.marker.exists():  # asked again: another process may be making it right now
            raise ConfigurationError(
                f"the folder {self.store!r} in cache-dir {str(self.root)!r} holds files but no {MARKER}, so it is not a"
                " cache of ours; delete that folder, or name another cache-dir, for example /var/cache/plone"
            )

    def _check_root(self) -> None:
        # Nothing foreign is ever deleted, so other files beside ours do no harm: the cache of zodb-s3blobs may lie
        # there. These two can only be a mistake.
        root = os.path.realpath(self.root)
        places = {os.path.realpath(os.path.expanduser("~")): "a home directory", "/": "the root of the file system"}
        if root not in places:
            return
        try:
            foreign = [name for name in os.listdir(root) if name != CLEANER_LOCK and not _is_store(self.root / name)]
        except FileNotFoundError:
            return
        if foreign:
            raise ConfigurationError(
                f"cache-dir {str(self.root)!r} is {places[root]}; name a folder of its own, for example"
                " /var/cache/plone"
            )

    def _check_marker(self, text: bytes) -> None:
        kind, number, _ = _parse_marker(text)
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
        if not self.marker.exists():
            # Any number of processes may do this at once: each renames the same content into the same place.
            temporary = self.folder / f"{MARKER}.{os.getpid()}-{os.urandom(8).hex()}"
            try:
                with open(temporary, "x") as file:
                    json.dump({"kind": KIND, "format": FORMAT, "store": self.identity}, file)
                    file.flush()
                    os.fsync(file.fileno())  # a crash of the machine must not leave an empty marker
                os.replace(temporary, self.marker)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise
        for folder in (self.blobs, self.processes):
            folder.mkdir(mode=0o700, exist_ok=True)
