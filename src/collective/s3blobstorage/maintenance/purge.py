"""Deleting from a blob directory what the bucket has: only after a comparison that found nothing wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from ..datatypes import ARCHIVES
from ..keys import BLOBS, OBJECTS, has_bytes
from ..objectstore.interfaces import IObjectStore
from .blobdir import BlobDirectory
from .compare import Verdict
from .findings import REST, Count, Findings
from .migrate import Plan
from .scope import Scope


def refusal(findings: Findings, scope: Scope) -> str | None:
    """Why nothing may be deleted, or None. Asked when the comparison, and the verification where one was asked for, has
    ended.

    Every kept revision's own key has to be in the bucket, with its size.
    """
    if not scope.whole:
        return "--purge-source compares the whole database: leave out --oid-range and --since"
    if findings.stopped:
        return "the comparison was stopped"
    lacking = findings.by_verdict[Verdict.WANTED].blobs + findings.by_verdict[Verdict.REPEATED].blobs
    if lacking:
        return f"{lacking:,} kept revisions are not in the bucket yet: run migrate without --purge-source first"
    if findings.by_verdict[Verdict.OLD].blobs:
        old = findings.by_verdict[Verdict.OLD].blobs
        return f"{old:,} kept revisions are in the bucket under keys of zodb-s3blobs only"
    if findings.bad:
        counts = ", ".join(f"{count:,} {what}" for what, count in sorted(findings.bad.items()))
        return f"the comparison found kept revisions that are not right: {counts}"
    return None


def unreadable(store: IObjectStore) -> str | None:
    """Why the directory's files are needed although the bucket has the blobs, or None: some lie in an archive. One
    listing. Of a restored one the listing tells the same: it can be read for some days only."""
    archived = sum(
        line.storage_class in ARCHIVES and has_bytes(line.key) for line in chain(store.list(BLOBS), store.list(OBJECTS))
    )
    if not archived:
        return None
    return (
        f"{archived:,} blobs of the bucket lie in an archive of the store, where nobody can read them: have the store"
        " copy them to another storage class, and remove the rule that archives them (s3blobs lifecycle names it)"
    )


def deletable(planned: Plan) -> Count:
    """The files that would go."""
    count = Count()
    for row in planned.there.rows():
        size, has_file = row[REST:]
        if has_file:
            count.add(size)
    return count


def execute(planned: Plan, directory: BlobDirectory, stop: threading.Event) -> None:
    """Delete the files of revisions that are in the bucket. Whoever calls it has asked ``refusal``.

    A file that has another size by now stays, and is noted. Folders stay: a site that still commits here may be about
    to use one. In the thread of the caller.
    """
    findings = planned.findings
    for oid, tid, size, path in _files(planned, directory):
        if stop.is_set():
            findings.stopped = True
            return
        try:
            if path.stat().st_size == size:
                path.unlink()
                findings.done.add(size)
            else:
                findings.blame("different", oid, tid, "the file has another size than when it was compared; it stays")
        except FileNotFoundError:
            continue  # a pack was first
        except OSError as error:
            findings.blame("failed", oid, tid, f"its file cannot be deleted: {error.strerror}")


def _files(planned: Plan, directory: BlobDirectory) -> Iterator[tuple[bytes, bytes, int, Path]]:
    for row in planned.there.rows():
        oid, tid, (size, has_file) = row[0], row[1], row[REST:]
        if has_file:
            yield oid, tid, size, directory.file(oid, tid)
