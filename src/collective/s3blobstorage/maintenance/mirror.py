"""From the sources into the bucket: plan, execute. Writes no ZODB record and overwrites no object.

What is copied are the base's kept revisions, never a source's listing: nothing that gc removed comes back. What the
bucket has already is left alone, so that a run that was killed at any instant goes on where it was.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any, BinaryIO

from ..cache.interfaces import IBlobCache
from ..errors import BlobMissing, ConfigurationError, Corrupt, StoreError
from ..objectstore.content import sha256_of
from ..objectstore.interfaces import IObjectStore
from ..objectstore.upload import opened
from ..overlay.bringing import store_file
from ..overlay.interfaces import IOverlay, Revision, Share
from .compare import Extra, Place, Verdict, for_mirror
from .findings import examine, revision_of, revision_row
from .kept import KeptRevision
from .migrate import Plan, Transfer
from .parallel import in_parallel


class _SourceFailed(Exception):
    """No source gave the revision, and at least one of them could not tell. Never leaves this module."""


def plan(
    planned: Plan, found: Iterator[Place | Extra], stop: threading.Event, *, comparing: bool, keep_there: bool
) -> None:
    """Judge what ``matched`` brings. In the thread of the caller. Raises Stopped.

    ``comparing``: nothing will be copied, so that what the bucket lacks is missing. ``keep_there``: what is in the
    bucket is to be verified afterwards.
    """
    for verdict, place in examine(found, for_mirror, planned.findings, stop):
        revision = place.revision
        row = *revision_row(revision), max(place.sizes, default=None)
        if verdict is Verdict.WANTED and comparing:
            planned.findings.blame("missing", revision.oid, revision.tid, "it is not in the bucket")
        elif verdict is Verdict.WANTED:
            planned.wanted.add(*row, b"")
        elif keep_there and verdict in (Verdict.THERE, Verdict.OLD):
            planned.there.add(*row, 0)


def execute(
    planned: Plan,
    overlay: IOverlay,
    store: IObjectStore,
    cache: IBlobCache,
    transfer: Transfer,
    share: Share,
    *,
    keep_there: bool,
) -> None:
    """Copy what is wanted, and note in the plan's findings what came of it. In the thread of the caller. ``share``:
    ``BlobReader.share_again`` of the bucket.

    A revision that no source has is doubtful, one that a source could not give, or gave damaged, is noted, and the
    others go on. Errors of the bucket end it after what is under way; so does a disk that takes no file
    (ConfigurationError).
    """
    findings = planned.findings

    def bring(revision: KeptRevision) -> int:
        return _bring(revision, overlay, store, cache, transfer, share)

    revisions = (revision_of(row) for row in planned.wanted.rows())
    running = in_parallel(revisions, bring, concurrency=transfer.concurrency, stop=transfer.stop, name="s3blobs-mirror")
    with closing(running):
        for revision, future in running:
            transfer.advance(1, 0)
            error = future.exception()
            if error is None:
                findings.done.add(future.result())
                if keep_there:
                    planned.there.add(*revision_row(revision), future.result(), 0)
            elif isinstance(error, BlobMissing):
                planned.doubtful.add(revision.oid, revision.tid)
                findings.nowhere.add(revision.size)
            elif isinstance(error, Corrupt):
                findings.blame("different", revision.oid, revision.tid, str(error))
            elif isinstance(error, _SourceFailed):
                findings.blame("failed", revision.oid, revision.tid, str(error))
            elif isinstance(error, OSError):
                raise ConfigurationError(
                    f"staging-dir takes no file: {error}; make room there, and run it again"
                ) from None
            else:
                raise error
    findings.stopped = transfer.stop.is_set()


def _shared(kept: KeptRevision, content: Any, store: IObjectStore, share: Share) -> bool:
    """Whether it is stored as the shared object that its record names. Its bytes are compared before: wrong ones would
    become everybody's; for the same reason the store is not asked to copy what nobody has read here."""
    if kept.object is None:
        return False
    with opened(content) as file:
        if sha256_of(file.plain_blocks()) != kept.sha256:
            raise Corrupt("the file does not have the bytes that the blob's record names")

    def send(key: str) -> object:
        return store.put_file(key, content, metadata={}, sha256=kept.sha256, if_absent=True, shared=True)

    return share(Revision(kept.oid, kept.tid, kept.state), send)


def _bring(
    kept: KeptRevision, overlay: IOverlay, store: IObjectStore, cache: IBlobCache, transfer: Transfer, share: Share
) -> int:
    """Copy one revision, and return its size in bytes. Leaves no file."""
    revision = Revision(kept.oid, kept.tid, kept.state)
    try:
        copied = overlay.copy_into(revision, store, kept.key) if kept.object is None else None
    except BlobMissing:
        raise
    except (Corrupt, StoreError):
        copied = None  # whichever side it is of: fetching and storing tell them apart
    if copied is not None:
        transfer.advance(0, copied)
        return copied
    folder = cache.staging()
    path = folder / f"mirror-{kept.oid.hex()}-{kept.object_name}"  # nobody else's: a key is wanted once

    def fetch(file: BinaryIO) -> None:
        try:
            overlay.fetch(revision, file)
        except (BlobMissing, Corrupt):
            raise
        except StoreError as error:
            raise _SourceFailed(str(error)) from error

    try:
        received = cache.receive(path, kept.oid, fetch, transfer.moved)
        if kept.size not in (None, received.size):
            raise Corrupt(f"{received.size} bytes came, and the record says {kept.size}")
        cache.make_room(path, folder, staged=True)
        if not _shared(kept, received.content, store, share):
            store_file(store, kept.key, received.content, kept.oid, kept.tid, sha256=kept.sha256)
        return received.size
    finally:
        path.unlink(missing_ok=True)
