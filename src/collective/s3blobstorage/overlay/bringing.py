"""From a source into the bucket: the whole object or nothing."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ZODB.utils import oid_repr

from ..cache.interfaces import IBlobCache, IBlobSource
from ..cache.staged import Staged
from ..errors import Corrupt, PreconditionFailed, StagingError
from ..objectstore.connection import recorded_sha256
from ..objectstore.content import Openable, sha256_of
from ..objectstore.interfaces import IObjectStore
from ..objectstore.upload import opened


def bring(source: IBlobSource, store: IObjectStore, cache: IBlobCache, key: str, oid: bytes, tid: bytes) -> None:
    """Download the revision, checked, into the cache's staging folder and store it under ``key``, unless it is there.

    In the caller's thread. Raises what the source and the store raise; StagingError where the disk does not take the
    file, Corrupt where other bytes are under the key.
    """
    with _downloaded(source, cache, oid) as file:
        store_file(store, key, file.content, oid, tid)


def store_file(
    store: IObjectStore,
    key: str,
    file: Path | Openable,
    oid: bytes,
    tid: bytes,
    *,
    sha256: bytes | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> bool:
    """Store a complete, checked file of the revision under ``key``, with size and SHA-256 in its metadata.

    ``sha256``: what the file must have, where that is known. ``cancelled`` as of ``IObjectStore.put_file``.

    False where the same was there already; Corrupt where something else was, or the file has other bytes. OSError where
    it cannot be read.
    """
    with opened(file) as content:
        size, digest = content.size, sha256_of(content.plain_blocks())
    if sha256 not in (None, digest):
        raise Corrupt("the file does not have the bytes that the blob's record names")
    metadata = {"oid": oid.hex(), "tid": tid.hex()}
    try:
        store.put_file(key, file, metadata=metadata, sha256=digest, if_absent=True, cancelled=cancelled)
    except PreconditionFailed:
        if not _is_same(store, key, size, digest):
            raise Corrupt(f"the bucket already holds other bytes for blob {oid_repr(oid)}") from None
        return False
    return True


def _is_same(store: IObjectStore, key: str, size: int, digest: bytes) -> bool:
    """Whether what is under the key has these bytes. Read only where its metadata do not say."""
    present = store.head(key)
    if present is None or present.size != size:
        return False
    recorded = recorded_sha256(present.metadata)
    if recorded is not None:
        return recorded == digest
    found = hashlib.sha256()
    if size:
        store.get_range(key, 0, size, found.update, size=size, if_match=present.etag)
    return found.digest() == digest


@contextmanager
def _downloaded(source: IBlobSource, cache: IBlobCache, oid: bytes) -> Iterator[Staged]:
    try:
        folder = cache.staging()
        file = cache.receive(folder / f"source-{oid.hex()}.{secrets.token_hex(8)}", oid, source.download)
    except OSError as error:
        raise StagingError(f"a blob of a source could not be written into staging-dir: {error.strerror}") from None
    try:
        try:
            cache.make_room(file.path, folder, staged=True)
        except OSError as error:
            why = f"a blob of a source could not be written into staging-dir: {error.strerror}"
            raise StagingError(why) from None
        yield file
    finally:
        with suppress(OSError):
            file.path.unlink()
