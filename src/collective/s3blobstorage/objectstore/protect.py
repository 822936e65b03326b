"""Bringing one object to the encryption that its store writes with now: how it is encrypted, and what has to be done.

An object is replaced in place, under its own key and with the same plain bytes: whoever reads it meanwhile gets the one
or the other. Nothing is ever deleted here, since what is replaced is the only object of its kind.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from collective.s3blobstorage.encryption.customer_key import CustomerKey
from collective.s3blobstorage.encryption.envelope import key_name
from collective.s3blobstorage.errors import EncryptionNotHonoured
from collective.s3blobstorage.objectstore import copy
from collective.s3blobstorage.objectstore.connection import Connection
from collective.s3blobstorage.objectstore.interfaces import ObjectInfo, Protected, Protection

if TYPE_CHECKING:
    from collective.s3blobstorage.objectstore.store import S3ObjectStore

CLIENT_SIDE = "client-side"
# What a store does without being asked counts as nothing that was asked for.
_AS_NONE = ("none", "sse-s3")


def protection_of(info: ObjectInfo, reading: Connection) -> Protection:
    """``info``: as it is stored. Raises Corrupt where its envelope is damaged."""
    sealed_with = key_name(info.metadata)
    if sealed_with is not None:
        return Protection(CLIENT_SIDE, sealed_with, info.size)
    if info.encrypted == "sse-c":
        way = reading.encryption
        return Protection("sse-c", way.key.name if isinstance(way, CustomerKey) else "", info.size)
    algorithm, _, kms_key = info.encrypted.partition(" ")
    if algorithm.startswith("aws:kms"):
        return Protection("sse-kms", kms_key, info.size)
    return Protection("sse-s3" if algorithm else "none", "", info.size)


def is_current(store: S3ObjectStore, found: Protection, info: ObjectInfo) -> bool:
    """Whether the object is as the store would write it now."""
    wanted, name = store.encryption, store.encryption.name
    if name == "none":
        return found.mode in _AS_NONE
    if found.mode != name:
        return False
    if wanted.ring is not None and name in (CLIENT_SIDE, "sse-c"):
        return found.key == wanted.ring.active.name
    algorithm, _, kms_key = info.encrypted.partition(" ")
    try:
        wanted.server_side.check_echo({"ServerSideEncryption": algorithm, "SSEKMSKeyId": kms_key})
    except EncryptionNotHonoured:
        return False
    return True


def protect(
    store: S3ObjectStore, key: str, *, convert: bool, folder: Path | None, progress: Callable[[int], None] | None
) -> Protected:
    """See ``IObjectStore.protect``."""
    looked = store.as_stored(key)
    if looked is None:
        return Protected("gone")
    info, reading = looked
    found = protection_of(info, reading)
    if is_current(store, found, info):
        return Protected("current", found)
    wanted = store.encryption.name
    same = found.mode == wanted or (wanted == "none" and found.mode in _AS_NONE)
    if not same and not convert:
        return Protected("left", found)
    if CLIENT_SIDE in (found.mode, wanted) and found.mode != wanted:
        _through_here(store, key, info, folder, progress)
    else:
        _by_the_store(store, info, reading, progress)
    return Protected("rewrapped" if same else "converted", found)


def _by_the_store(
    store: S3ObjectStore, info: ObjectInfo, reading: Connection, progress: Callable[[int], None] | None
) -> None:
    """A copy onto itself, where it still has the ETag whose metadata were read."""
    copy.copy(
        store.connection,
        store.lanes,
        info,
        info.key,
        reading=reading,
        metadata=store.rewrapped_metadata(info),
        progress=progress,
    )


def _through_here(
    store: S3ObjectStore, key: str, info: ObjectInfo, folder: Path | None, progress: Callable[[int], None] | None
) -> None:
    with tempfile.NamedTemporaryFile(prefix="s3blobs-convert-", dir=folder) as file:
        arrived = store.get_file(key, file)  # type: ignore[arg-type]
        file.flush()
        store.replace_file(key, Path(file.name), arrived, progress)
