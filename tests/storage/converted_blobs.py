"""Prefixes in which blobs share their bytes, and what the bucket has for each revision, looked at key by key."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from typing import Any

from checked_sites import Quiet
from sites import as_ours, bucket_keys

from collective.s3blobstorage.keys import MARKER, read_reference_key
from collective.s3blobstorage.maintenance.comparing import Comparison
from collective.s3blobstorage.maintenance.dedup import Report, Wish, dedup
from collective.s3blobstorage.maintenance.kept import KeptRevision
from collective.s3blobstorage.maintenance.scope import Scope
from collective.s3blobstorage.maintenance.sought import sought
from collective.s3blobstorage.maintenance.spool import Spool
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.settings import StoreSettings
from collective.s3blobstorage.storage.owner import read_marker


def begin_sharing(settings: StoreSettings) -> None:
    """What a process with ``dedup on`` writes before its first shared object."""
    with as_ours(settings) as store:
        store.put_bytes(MARKER, replace(read_marker(store), deduplicated=True).to_json())


def converted(storage: Any, running: Any = None, *, scope: Scope | None = None, **wish: Any) -> Report:
    """``s3blobs dedup`` in this process; by default of blobs of any size."""
    on = storage.operated()
    with Spool() as spool:
        marker = read_marker(on.store)
        run = Comparison(on.look, on.store, marker, None, scope or Scope(), spool)
        return dedup(run, Wish(**{"least": 1, **wish}), running or Quiet())


def bytes_of(settings: StoreSettings, revisions: Iterable[KeptRevision]) -> dict[tuple[bytes, bytes], bytes | None]:
    """What readers get of each by oid and tid; None where nothing is found."""
    with closing(open_store(settings)) as store:
        return {(revision.oid, revision.tid): _bytes(store, revision) for revision in revisions}


def _bytes(store: Any, revision: KeptRevision) -> bytes | None:
    for key in sought(store, revision, deduplicated=True):
        if store.head(key) is not None:
            return store.get_bytes(key, limit=1 << 30)
    return None


def below(settings: StoreSettings, folder: str) -> list[str]:
    return [key for key in bucket_keys(settings) if key.startswith(folder)]


def references(settings: StoreSettings) -> list[str]:
    return [key for key in below(settings, "blobs/") if read_reference_key(key) is not None]


def own(settings: StoreSettings) -> list[str]:
    return [key for key in below(settings, "blobs/") if read_reference_key(key) is None]
