"""From the bucket into a ZODB blob directory that stock ZODB opens: plan, execute, report.

A file appears under its name at once and whole, checked and on the disk: so what is there is complete, and a run that
was killed at any instant goes on where it was.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from ..cache.downloads import DiskFailure, DownloadFile, run
from ..cache.interfaces import IBlobSource
from ..cache.processes import ProcessFolder, living
from ..errors import (
    Archived,
    BlobMissing,
    ConfigurationError,
    Corrupt,
    EncryptionKeyMissing,
    EncryptionNotHonoured,
)
from ..storage.reading import BlobReader
from ..storage.source import InlineSource
from .blobdir import BlobDirectory
from .compare import Extra, Place, Verdict, for_directory
from .findings import REVISION, Findings, examine, revision_of, revision_row
from .kept import KeptRevision
from .migrate import Transfer
from .parallel import in_parallel
from .spool import Spool, Table

_PREFIX = "s3blobs-export-"


class Plan:
    """What is to be brought, on disk, and what was found. ``doubtful``: (oid, tid) of those that are nowhere."""

    def __init__(self, spool: Spool) -> None:
        self.findings = Findings()
        self.wanted: Table = spool.table(*REVISION, "bytes INTEGER")
        self.doubtful: Table = spool.table("oid BLOB", "tid BLOB")


def plan(planned: Plan, found: Iterator[Place | Extra], stop: threading.Event) -> None:
    """Judge what ``matched`` brings. In the thread of the caller. Raises Stopped."""
    for verdict, place in examine(found, for_directory, planned.findings, stop):
        if verdict is Verdict.WANTED:
            planned.wanted.add(*revision_row(place.revision), max(place.sizes, default=None))


def execute(
    planned: Plan,
    reader: BlobReader,
    inline: Callable[[bytes, bytes], bytes],
    directory: BlobDirectory,
    transfer: Transfer,
) -> None:
    """Bring what is wanted, and note in the plan's findings what came of it. In the thread of the caller.

    ``inline(oid, tid)``: the bytes in the record of a revision, called in this thread; BlobMissing where it is gone.
    What no place has makes its revision doubtful; damaged bytes, what lies in an archive, and what needs a key that is
    not there are noted, and the others go on. Unavailable and what else is refused end it after what is under way, and
    so does a disk that takes no file (ConfigurationError).
    """
    findings = planned.findings
    folder = receiving(directory)

    def tasks() -> Iterator[tuple[KeptRevision, IBlobSource]]:
        for row in planned.wanted.rows():
            revision = revision_of(row)
            if not revision.inline:
                yield revision, reader.source(revision.oid, revision.tid, revision.state)
                continue
            try:
                yield revision, InlineSource(inline(revision.oid, revision.tid))
            except BlobMissing:
                planned.doubtful.add(revision.oid, revision.tid)

    def bring(task: tuple[KeptRevision, IBlobSource]) -> int:
        revision, source = task
        return _bring(source, folder, directory, revision, transfer)

    running = in_parallel(tasks(), bring, concurrency=transfer.concurrency, stop=transfer.stop, name="s3blobs-export")
    try:
        with closing(running):
            for (revision, _), future in running:
                transfer.advance(1, 0)
                error = future.exception()
                if error is None:
                    findings.done.add(future.result())
                elif isinstance(error, BlobMissing):
                    planned.doubtful.add(revision.oid, revision.tid)
                elif isinstance(error, Corrupt):
                    findings.blame("different", revision.oid, revision.tid, str(error))
                elif isinstance(error, (Archived, EncryptionKeyMissing, EncryptionNotHonoured)):
                    findings.blame("failed", revision.oid, revision.tid, str(error))
                elif isinstance(error, (DiskFailure, OSError)):
                    raise _full(directory, error) from None
                else:
                    raise error
    finally:
        folder.remove()
    findings.stopped = transfer.stop.is_set()


def receiving(directory: BlobDirectory) -> ProcessFolder:
    """Where files of this process lie until they are whole; those of dead processes go. The caller removes it. Raises
    ConfigurationError where the disk takes none."""
    for _ in living(directory.temporary, _PREFIX):
        pass  # sweeps what dead processes left
    try:
        return ProcessFolder.make(directory.temporary, _PREFIX)
    except OSError as error:
        raise _full(directory, error) from None


def _bring(
    source: IBlobSource, folder: ProcessFolder, directory: BlobDirectory, revision: KeptRevision, transfer: Transfer
) -> int:
    """Write one file, and return its size. Leaves nothing where it raises."""
    temporary = folder.new_name()
    try:
        with DownloadFile(temporary, transfer.moved) as file:
            run(source.download, file)
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            size = os.fstat(descriptor).st_size
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if revision.size not in (None, size):
            raise Corrupt(f"{size} bytes came, and the record says {revision.size}")
        directory.publish(Path(temporary), revision.oid, revision.tid)
        return size
    finally:
        Path(temporary).unlink(missing_ok=True)


def _full(directory: BlobDirectory, error: Exception) -> ConfigurationError:
    why = str(error).partition("] ")[2].partition(":")[0] or error  # "[Errno 28] No space left on device: 'path'"
    return ConfigurationError(
        f"--to {directory.path} takes no file: {why}; make room there or let this user write, and run it again: it goes"
        " on where it was"
    )
