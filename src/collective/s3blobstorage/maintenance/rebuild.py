"""A blob directory without the database: by a manifest, or by what the objects say themselves."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ZODB.utils import z64

from ..errors import (
    BlobMissing,
    ConfigurationError,
    Corrupt,
    EncryptionKeyMissing,
    EncryptionNotHonoured,
    ObjectMissing,
)
from ..keys import (
    BLOBS,
    blob_key,
    is_name,
    object_key,
    read_foreign_key,
    read_key,
    read_reference_key,
    read_shared_name,
)
from ..objectstore.connection import recorded_sha256
from ..objectstore.interfaces import IObjectStore
from .blobdir import BlobDirectory
from .compare import matched
from .export import Plan, plan, receiving
from .findings import Count, Findings, Stopped
from .kept import KeptRevision
from .manifest import Manifest
from .migrate import Transfer
from .parallel import in_parallel
from .scope import Scope
from .spool import Spool, Table

Advance = Callable[[int], Any]


# By a manifest


def plan_by_manifest(
    manifest: Manifest, planned: Plan, directory: BlobDirectory, spool: Spool, stop: threading.Event, advance: Advance
) -> Callable[[bytes, bytes], bytes]:
    """Plan what ``export.execute`` brings; returns its ``inline``. In the thread of the caller. Raises Stopped.

    What the manifest says was missing is tried all the same: it may be there by now.
    """
    inline = spool.table("revision BLOB", "data BLOB")

    def revisions() -> Iterator[KeptRevision]:
        for entry in manifest.entries():
            advance(1)
            if entry.data is not None:
                inline.add(entry.revision.oid + entry.revision.tid, entry.data)
            yield entry.revision

    plan(planned, matched(revisions(), (), directory.files(Scope(), spool)), stop)
    inline.index("revision")

    def read(oid: bytes, tid: bytes) -> bytes:
        rows = inline.where("revision", oid + tid)
        if not rows:
            raise BlobMissing(oid, tid)
        return rows[0][1]

    return read


# By the objects alone


@dataclass
class Unplaced:
    """Objects that say of which blob they are, and not of which transaction. ``rows``: oid, name, size, key."""

    rows: Table
    count: Count = field(default_factory=Count)


def plan_by_objects(
    store: IObjectStore,
    planned: Plan,
    directory: BlobDirectory,
    spool: Spool,
    concurrency: int,
    stop: threading.Event,
    advance: Advance,
) -> Unplaced:
    """Plan what can be placed: objects that are called after their tid, or whose metadata have it; tell the others.

    One listing, and a request for each object with a name that was drawn: its metadata are asked for. In the thread of
    the caller. What does not open is noted, and the others go on. Raises Stopped, Unavailable, Refused.
    """
    found = spool.table("oid BLOB", "tid BLOB", "name TEXT", "size INTEGER", "sha256 BLOB", "object TEXT")
    unplaced = Unplaced(spool.table("oid BLOB", "name TEXT", "size INTEGER", "key TEXT"))
    running = in_parallel(
        _objects(store, stop), lambda key: _said(store, key), concurrency=concurrency, stop=stop, name="s3blobs-export"
    )
    with closing(running):
        for key, future in running:
            advance(1)
            if isinstance(error := future.exception(), (Corrupt, EncryptionKeyMissing, EncryptionNotHonoured)):
                oid = (read_key(key) or read_reference_key(key))[0]  # type: ignore[index]
                planned.findings.blame("different", oid, z64, f"{key}: {error}")
                continue
            said = future.result()
            if said is None:
                continue
            oid, tid, name, size, sha256, shared = said
            if tid is None:
                unplaced.rows.add(oid, name, size, blob_key(oid, name) if shared is None else object_key(shared))
                unplaced.count.add(size)
            else:
                found.add(oid, tid, name, size, sha256, shared)
    if stop.is_set():
        raise Stopped

    def revisions() -> Iterator[KeptRevision]:
        last = None
        for oid, tid, name, size, sha256, shared in found.rows("oid", "tid", "name"):
            if (oid, tid) != last:  # the same revision under two keys: as zodb-s3blobs has it, and as a migration does
                yield KeptRevision(oid, tid, None if name == tid.hex() else name, size, sha256, object=shared)
            last = (oid, tid)

    plan(planned, matched(revisions(), (), directory.files(Scope(), spool)), stop)
    return unplaced


def _objects(store: IObjectStore, stop: threading.Event) -> Iterator[str]:
    last = None
    for line in store.list(BLOBS):
        if stop.is_set():
            return
        named = read_key(line.key)
        if named is not None:
            last = named
        elif (reference := read_reference_key(line.key)) is not None:
            if reference[:2] == last:
                continue  # it has its bytes itself
        elif read_foreign_key(line.key) is None:
            continue
        yield line.key


def _said(
    store: IObjectStore, key: str
) -> tuple[bytes, bytes | None, str, int | None, bytes | None, str | None] | None:
    """Oid, tid, name, size, SHA-256 and shared object, as far as key and metadata say; None where it is gone by now."""
    foreign = read_foreign_key(key)
    if foreign is not None:
        return *foreign, foreign[1].hex(), None, None, None
    reference = read_reference_key(key)
    if reference is not None:
        return _referred(store, key, *reference)
    named = read_key(key)
    info = store.head(key)
    if named is None or info is None:
        return None
    oid, name = named
    tid = bytes.fromhex(name) if len(name) == 16 else _tid(info.metadata.get("tid", ""))
    return oid, tid, name, info.size, recorded_sha256(info.metadata), None


def _referred(
    store: IObjectStore, key: str, oid: bytes, name: str, shared: str
) -> tuple[bytes, bytes | None, str, int | None, bytes | None, str | None] | None:
    """Of a reference: the bytes are the shared object's, and the tid, where the name does not have it, its own."""
    info = store.head(object_key(shared))
    if info is None:
        return None
    tid = bytes.fromhex(name) if len(name) == 16 else None
    if tid is None and (said := store.head(key)) is not None:
        tid = _tid(said.metadata.get("tid", ""))
    return oid, tid, name, info.size, read_shared_name(shared)[0], shared


def _tid(text: str) -> bytes | None:
    return bytes.fromhex(text) if len(text) == 16 and is_name(text) and text != z64.hex() else None


def bring_unplaced(
    store: IObjectStore,
    unplaced: Unplaced,
    folder: Path,
    directory: BlobDirectory,
    findings: Findings,
    transfer: Transfer,
) -> None:
    """Write each as ``{folder}/{oid}/{name}``, whole or not at all; one that is there stays. Mode 0600 below 0700.
    ``directory``: the blob directory in which ``folder`` is, whose temporary files a later run sweeps.

    In the thread of the caller. Notes what is damaged or gone; ends at Unavailable, Refused, and a disk that takes no
    more (ConfigurationError).
    """

    def bring(row: tuple[bytes, str, int, str]) -> int | None:
        oid, name, size, key = row
        target = folder / oid.hex() / name
        if target.exists():
            return None
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = Path(staging.new_name())
        try:
            with open(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b") as file:
                store.get_file(key, file, size=size)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        transfer.moved(size)
        return size

    staging = receiving(directory)
    try:
        _bring_each(unplaced.rows.rows("oid", "name"), bring, folder, findings, transfer)
    finally:
        staging.remove()
    findings.stopped = findings.stopped or transfer.stop.is_set()


def _bring_each(
    tasks: Iterator[tuple[Any, ...]],
    bring: Callable[[Any], int | None],
    folder: Path,
    findings: Findings,
    transfer: Transfer,
) -> None:
    running = in_parallel(tasks, bring, concurrency=transfer.concurrency, stop=transfer.stop, name="s3blobs-export")
    with closing(running):
        for (oid, _, _, key), future in running:
            transfer.advance(1, 0)
            error = future.exception()
            if error is None:
                if future.result() is not None:
                    findings.done.add(future.result())
            elif isinstance(error, (Corrupt, ObjectMissing)):
                what = "different" if isinstance(error, Corrupt) else "missing"
                findings.blame(what, oid, z64, f"{key}: {error}")
            elif isinstance(error, OSError):
                raise ConfigurationError(
                    f"--to {folder} takes no file: {error.strerror}; make room there or let this user write, and run it"
                    " again: it goes on where it was"
                ) from None
            else:
                raise error
