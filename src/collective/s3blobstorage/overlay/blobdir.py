"""A ZODB blob directory as a source: what a site had before it had a bucket."""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path

from ZODB.blob import LAYOUT_MARKER, LAYOUTS, FilesystemHelper
from zope.interface import implementer

from ..cache.interfaces import IBlobSource
from ..errors import BlobMissing, Unavailable
from .files import FileBytes
from .interfaces import ISource, Revision, Trouble


@implementer(ISource)
class BlobDirSource:
    """``path`` is the directory, in ZODB's bushy or lawn layout as its marker ``.layout`` says.

    A directory that is away, or empty, cannot tell whether a blob is missing: it may not be mounted.
    """

    follows_undo = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._helper: FilesystemHelper | None = None

    def __repr__(self) -> str:
        return f"<BlobDirSource {self._path}>"

    def blob(self, revision: Revision) -> IBlobSource:
        return FileBytes(revision, partial(self._opened, revision.oid, revision.tid), versioned=True)

    def _opened(self, oid: bytes, tid: bytes) -> int:
        path = self._layout().getBlobFilename(oid, tid)
        descriptor = _open(path)
        if descriptor is None:
            # Only a directory that is there before and after the look can tell: it may be mounted at this moment.
            before = self._present()
            descriptor = _open(path)
            if descriptor is None and self._present() == before:
                raise BlobMissing(oid, tid)
        if descriptor is None:
            raise Unavailable("The blob directory was changed while it was read.")
        return descriptor

    def _layout(self) -> FilesystemHelper:
        helper = self._helper
        if helper is None:
            self._present()
            # ZODB's own heuristic, but never on an empty directory, which it takes for a new bushy one.
            try:
                helper = FilesystemHelper(os.fspath(self._path))
            except (OSError, KeyError, UnicodeDecodeError):
                known = " or ".join(sorted(LAYOUTS))
                raise Unavailable(f"The marker {LAYOUT_MARKER} of the blob directory does not say {known}.") from None
            self._helper = helper
        return helper

    def _present(self) -> tuple[int, int]:
        """Which directory it is. Unavailable where it is away, or has neither a marker nor anything else."""
        try:
            status = os.stat(self._path)
            if not os.path.exists(self._path / LAYOUT_MARKER):
                with os.scandir(self._path) as entries:
                    if not any(not entry.name.startswith(".") for entry in entries):
                        raise Unavailable("The blob directory (path) is empty; is it mounted?")
        except OSError as error:
            raise Unavailable(f"The blob directory (path) cannot be read: {error.strerror}.") from error
        return status.st_dev, status.st_ino

    def check(self) -> Trouble | None:
        try:
            self._layout()
        except Unavailable as error:
            return Trouble(f"{self._path}: {error}", "mount it, let the site's user read it, or correct path")
        return None

    def close(self) -> None:
        pass


def _open(path: str) -> int | None:
    """A descriptor, or None where there is no such file."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise Unavailable(f"The file of the blob cannot be opened: {error.strerror}.") from error
