"""Bringing one object to the encryption that its store writes with now: how it is encrypted, and what has to be done.

An object is replaced in place, under its own key and with the same plain bytes: whoever reads it meanwhile gets the one
or the other. Nothing is ever deleted here, since what is replaced is the only object of its kind.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from collective.s3blobstorage.encryption.customer_key import CustomerKey
from collective.s3blobstorage.encryption.envelope import key_name
from collective.s3blobstorage.encryption.interfaces import IEncryption
from collective.s3blobstorage.errors import Corrupt, EncryptionNotHonoured
from collective.s3blobstorage.keys import SEALED_PREFIXES
from collective.s3blobstorage.objectstore import copy, versions
from collective.s3blobstorage.objectstore.connection import Connection
from collective.s3blobstorage.objectstore.interfaces import ObjectInfo, Protected, Protection, Stored

if TYPE_CHECKING:
    from collective.s3blobstorage.objectstore.store import S3ObjectStore

CLIENT_SIDE = "client-side"
# What a store does without being asked counts as nothing that was asked for.
_AS_NONE = ("none", "sse-s3")
_OF_THE_RING = (CLIENT_SIDE, "sse-c")


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


def wanted_mode(encryption: IEncryption, key: str) -> str:
    """The mode in which that object is written now: blobs, objects of add-ons and manifests are sealed."""
    if encryption.seals and not key.startswith(SEALED_PREFIXES):
        return "none"
    return encryption.name


def wanted_of(encryption: IEncryption, key: str, size: int) -> Protection:
    """As the object is written now, as far as that is known without asking the store."""
    mode = wanted_mode(encryption, key)
    ring = encryption.ring
    return Protection(mode, ring.active.name if ring is not None and mode in _OF_THE_RING else "", size)


def is_current(store: S3ObjectStore, found: Protection, info: ObjectInfo) -> bool:
    """Whether the object is as the store would write it now."""
    wanted = wanted_of(store.encryption, info.key, info.size)
    if wanted.mode == "none":
        return found.mode in _AS_NONE
    if found.mode != wanted.mode:
        return False
    if wanted.mode in _OF_THE_RING:
        return found.key == wanted.key
    algorithm, _, kms_key = info.encrypted.partition(" ")
    try:
        store.encryption.server_side.check_echo({"ServerSideEncryption": algorithm, "SSEKMSKeyId": kms_key})
    except EncryptionNotHonoured:
        return False
    return True


def stored_of(store: S3ObjectStore, info: ObjectInfo, reading: Connection) -> Stored:
    """See ``IObjectStore.stored``."""
    try:
        found = protection_of(info, reading)
    except Corrupt:
        return Stored(info, None, False)
    return Stored(info, found, is_current(store, found, info))


def protect(
    store: S3ObjectStore,
    key: str,
    *,
    convert: bool,
    folder: Path | None,
    progress: Callable[[int], None] | None,
    dry_run: bool = False,
) -> Protected:
    """See ``IObjectStore.protect``."""
    looked = store.as_stored(key)
    if looked is None:
        return Protected("gone")
    info, reading = looked
    found = protection_of(info, reading)
    if is_current(store, found, info):
        return Protected("current", found, found)
    wanted = wanted_of(store.encryption, key, info.size)
    same = found.mode == wanted.mode or (wanted.mode == "none" and found.mode in _AS_NONE)
    if not same and not convert:
        return Protected("left", found, found)
    if dry_run:
        pass
    elif CLIENT_SIDE in (found.mode, wanted.mode) and found.mode != wanted.mode:
        _through_here(store, info, reading, folder, progress)
    else:
        _by_the_store(store, info, reading, progress)
    return Protected("rewrapped" if same else "converted", found, wanted)


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
    store: S3ObjectStore,
    info: ObjectInfo,
    reading: Connection,
    folder: Path | None,
    progress: Callable[[int], None] | None,
) -> None:
    lock = versions.lock_before(reading, info)
    with tempfile.TemporaryFile(prefix="s3blobs-convert-", dir=folder) as file:
        arrived = store.get_file(info.key, file)  # type: ignore[arg-type]
        file.flush()
        store.replace_file(Path(f"/dev/fd/{file.fileno()}"), replace(arrived, lock=lock), progress)
