"""The contract of the cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from zope.interface import Interface


class IBlobCache(Interface):
    """Complete, checked, read-only files by oid and tid.

    Any thread of any process of the machine may call any method at any time. No method ever raises because of the
    cache's own disk (full, read-only, gone, somebody deleted the folder): a read degrades to an uncached one. What the
    ``download`` callable raises goes through unchanged, to every waiting caller.
    """

    def get(oid: bytes, tid: bytes) -> Path | None:
        """The complete file of that revision, or None. Notes that it was used. No lock, one or two system calls."""

    def fetch(oid: bytes, tid: bytes, download: Callable[[BinaryIO], None]) -> Path:
        """The file of that revision; where it is not here yet, what ``download(file)`` writes becomes it.

        ``download`` is called at most once per revision and machine at a time: threads of this process wait for a
        future, other processes for a file lock. It writes to a temporary file and raises unless every byte is there
        and was checked; only after it returned is the file synced, made read-only and renamed into its place. Where it
        raises, nothing is left. Where the cache's disk cannot take the file, the bytes go to a private temporary
        file elsewhere, which lives at least as long as a file that was just handed out.
        """

    def open(oid: bytes, tid: bytes, download: Callable[[BinaryIO], None]) -> BinaryIO:
        """The same, opened unbuffered for reading: an eviction between ``fetch`` and ``open`` is met by fetching again."""

    def adopt(oid: bytes, tid: bytes, staged: Path) -> bool:
        """Take a file that was just committed: moved (or copied) into its place, made read-only.

        Called in ``tpc_finish``: makes no request, never raises. False where it was not taken; the caller then deletes it.
        """

    def staging() -> Path:
        """The folder, mode 0700, where this process stages files that are being committed. Swept after a crash."""

    def close() -> None:
        """Join the cleaner's thread, release locks, remove this process's temporary files. Idempotent."""
