"""From a blob directory into the bucket: plan, execute, report. Writes no ZODB record and overwrites no object.

What is needed are the base's kept revisions. What the bucket has already is left alone, so that what a run that was
killed at any instant did is what the next one finds.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import Archived, BlobMissing, Corrupt
from ..objectstore.interfaces import IObjectStore
from ..objectstore.upload import IN_MEMORY
from ..overlay.interfaces import Revision
from ..storage.reading import BlobReader
from ..storage.upload import Discard, check_same, send_once
from .blobdir import BlobDirectory
from .compare import Extra, Place, Verdict, for_bucket
from .findings import REST, REVISION, Count, Findings, examine, revision_of, revision_row
from .kept import KeptRevision
from .pace import Pace
from .parallel import in_parallel
from .sought import sought
from .spool import Spool, Table

Advance = Callable[[int, int], None]  # (blobs, bytes) more; called by any thread


class Plan:
    """What is to be done, on disk, and what was found.

    ``wanted``: revisions to upload. ``there``: revisions whose object is in the bucket, with whether the directory has
    their file. ``doubtful``: (oid, tid) of those that are nowhere.
    """

    def __init__(self, spool: Spool) -> None:
        self.findings = Findings()
        self.wanted: Table = spool.table(*REVISION, "bytes INTEGER", "sources BLOB")
        self.there: Table = spool.table(*REVISION, "bytes INTEGER", "has_file INTEGER")
        self.doubtful: Table = spool.table("oid BLOB", "tid BLOB")


@dataclass(frozen=True)
class Transfer:
    """How a plan is executed: so many blobs at a time, at that pace, until ``stop`` is set. ``looks_first``: what is
    there was told by a report of hours ago, and what came since shall not be sent again: a HEAD before each."""

    concurrency: int
    stop: threading.Event
    pace: Pace
    advance: Advance = lambda blobs, size: None
    looks_first: bool = False

    def moved(self, count: int) -> None:
        """So many bytes more came: keep to the pace, and tell. In the thread that moves them."""
        self.pace.take(count)
        self.advance(0, count)


def plan(
    planned: Plan, found: Iterator[Place | Extra], stop: threading.Event, *, comparing: bool, keep_there: bool = False
) -> None:
    """Judge what ``matched`` brings. In the thread of the caller. Raises Stopped.

    ``comparing``: nothing will be uploaded, so that what is only in the directory is missing. ``keep_there``: what is
    in the bucket is to be verified or purged afterwards.
    """
    findings = planned.findings
    for verdict, place in examine(found, for_bucket, findings, stop):
        revision = place.revision
        if verdict is Verdict.MISSING:
            planned.doubtful.add(revision.oid, revision.tid)
        elif comparing and verdict in (Verdict.WANTED, Verdict.REPEATED):
            findings.blame("missing", revision.oid, revision.tid, "it is in the directory only")
        elif verdict is Verdict.WANTED:
            planned.wanted.add(*revision_row(revision), max(place.sizes), b"".join(place.sources))
        elif keep_there and verdict in (Verdict.THERE, Verdict.OLD):
            planned.there.add(*revision_row(revision), max(place.sizes), int(place.file_size is not None))


def execute(
    planned: Plan, store: IObjectStore, directory: BlobDirectory, transfer: Transfer, reader: BlobReader
) -> None:
    """Upload what is wanted, and note in the plan's findings what came of it. In the thread of the caller.

    ``reader`` of the same store tells where it may be, and shares what a record names as a shared object.

    A file that is gone makes its revision doubtful; one that cannot be read, or that is not what its record says, is
    noted, and the others go on. Unavailable, Refused and other errors of the store end it, after the uploads under way.
    """

    def tasks() -> Iterator[tuple[KeptRevision, int, list[Path]]]:
        for row in planned.wanted.rows():
            revision, (size, sources) = revision_of(row), row[REST:]
            tids = [sources[start : start + 8] for start in range(0, len(sources), 8)]
            yield revision, size, [directory.file(revision.oid, tid) for tid in tids]

    def send(task: tuple[KeptRevision, int, list[Path]]) -> None:
        _send(store, *task, transfer, reader)

    _run(planned, tasks(), send, transfer, planned.findings.done, FileNotFoundError)


def verify(planned: Plan, reader: BlobReader, directory: BlobDirectory | None, transfer: Transfer) -> None:
    """Read every object again, and compare its SHA-256 with its file's, and with what its record or metadata say.

    Before this, ``plan`` has to ``keep_there``. ``directory`` is None where none of them has a file. Otherwise as
    ``execute``.
    """

    def tasks() -> Iterator[tuple[KeptRevision, int, Path | None]]:
        for row in planned.there.rows():
            revision, (size, has_file) = revision_of(row), row[REST:]
            yield revision, size, directory.file(revision.oid, revision.tid) if directory and has_file else None

    def read(task: tuple[KeptRevision, int, Path | None]) -> None:
        _read_again(reader, *task, transfer)

    _run(planned, tasks(), read, transfer, planned.findings.verified, BlobMissing)


def _run(
    planned: Plan, tasks: Iterator, work: Callable, transfer: Transfer, right: Count, missing: type[Exception]
) -> None:
    """Do the tasks, and note what came of each. ``right`` counts what raised nothing; ``missing`` makes it doubtful."""
    findings = planned.findings
    running = in_parallel(tasks, work, concurrency=transfer.concurrency, stop=transfer.stop, name="s3blobs-migrate")
    with closing(running):
        for (revision, size, _), future in running:
            transfer.advance(1, 0)
            error = future.exception()
            if error is None:
                right.add(size)
            elif isinstance(error, missing):
                planned.doubtful.add(revision.oid, revision.tid)
            elif isinstance(error, Corrupt):
                findings.blame("different", revision.oid, revision.tid, str(error))
            elif isinstance(error, Archived):
                findings.blame("failed", revision.oid, revision.tid, str(error))
            elif isinstance(error, OSError):
                findings.blame("failed", revision.oid, revision.tid, f"its file cannot be read: {error.strerror}")
            else:
                raise error
    findings.stopped = transfer.stop.is_set()


def _send(
    store: IObjectStore,
    revision: KeptRevision,
    size: int,
    sources: list[Path],
    transfer: Transfer,
    reader: BlobReader,
) -> None:
    """Upload one revision from the first of the files that is still there. FileNotFoundError where none is."""
    small = size <= IN_MEMORY  # sent as a whole: it has to be waited for before
    if small:
        transfer.pace.take(size)

    def progress(count: int) -> None:
        if not small:
            transfer.pace.take(count)
        transfer.advance(0, count)

    sharing = Revision(revision.oid, revision.tid, revision.state)
    for path in sources:
        try:
            sha256 = _checked(path, size, revision.sha256)
            if transfer.looks_first and _is_there(store, revision, size, sha256, deduplicated=reader.deduplicated):
                transfer.advance(0, size)
            elif not reader.share_again(sharing, _put(store, path, sha256, progress)):
                send_once(store, revision.oid, revision.tid, revision.state, path, sha256, progress=progress)
            return
        except FileNotFoundError:
            if path is sources[-1]:
                raise


def _put(store: IObjectStore, path: Path, sha256: bytes, progress: Callable[[int], None]) -> Callable[[str], object]:
    """What puts the file under the key of a shared object."""
    return lambda key: store.put_file(
        key, path, metadata={}, sha256=sha256, if_absent=True, shared=True, progress=progress
    )


def _is_there(store: IObjectStore, revision: KeptRevision, size: int, sha256: bytes, *, deduplicated: bool) -> bool:
    """Whether it came since the report was made. Corrupt where other bytes are under its own key."""
    for key in sought(store, revision, deduplicated=deduplicated):
        info = store.head(key)
        if info is None:
            continue
        if key == revision.key:
            check_same(store, revision.oid, revision.tid, revision.state, size, sha256)
            return True
        if info.size == size and f"/{sha256.hex()}." in key:
            return True
    return False


def _checked(path: Path, size: int, sha256: bytes | None) -> bytes:
    """The file's SHA-256. Corrupt where its size or SHA-256 is another one than it must be."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").digest()
        length = file.tell()
    if length != size:
        raise Corrupt(f"the file has {length} bytes, and had {size} when it was compared")
    if sha256 not in (None, found):
        raise Corrupt("the file is not what its record says: its SHA-256 is another one")
    return found


class _Paced(Discard):
    """A file that forgets at the pace that is allowed."""

    def __init__(self, transfer: Transfer) -> None:
        super().__init__()
        self._transfer = transfer

    def write(self, data: bytes) -> int:
        self._transfer.moved(len(data))
        return super().write(data)


def _read_again(reader: BlobReader, revision: KeptRevision, size: int, path: Path | None, transfer: Transfer) -> None:
    expected = revision.sha256
    if path is not None:
        try:
            expected = _checked(path, size, expected)
        except FileNotFoundError:
            pass  # a pack: then the object is compared with what record and metadata say
    state = replace(revision.state, size=size, sha256=expected)
    reader.source(revision.oid, revision.tid, state).download(_Paced(transfer))  # type: ignore[arg-type]
