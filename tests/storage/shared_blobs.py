"""Blobs whose bytes are shared objects, made by hand: what is in the bucket, step by step."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from collective.s3blobstorage.keys import (
    MARKER,
    blob_key,
    object_key,
    read_key,
    reference_key,
    shared_name,
)
from collective.s3blobstorage.storage.owner import Marker, read_marker
from collective.s3blobstorage.storage.sharing import fill, reserve


def begin_sharing(store: Any) -> Marker:
    """Say in the bucket that there may be shared objects."""
    marker = dataclasses.replace(read_marker(store), deduplicated=True)
    store.put_bytes(MARKER, marker.to_json())
    return marker


def share(oid: bytes, name: str, sha256: bytes, size: int, draw: Callable[[], str] | None = None) -> Iterator[Any]:
    """The steps of a commit for one blob, as ``storage/upload.py`` takes them, and what its record says."""
    name, shared = yield from reserve(oid, name, sha256, draw)
    yield from fill(shared, size)
    return name, shared


def name_of(data: bytes, generation: int = 0) -> str:
    """Of the shared object with these bytes."""
    return shared_name(hashlib.sha256(data).digest(), generation)


def convert(store: Any, key: str, generation: int = 0) -> tuple[str, str]:
    """Make a revision's own object a shared one, as ``s3blobs dedup`` does. Keys of reference and object."""
    data = store.get_bytes(key)
    reference, shared = refer(store, *read_key(key), data, generation)
    store.delete([key])
    return reference, shared


def refer(store: Any, oid: bytes, name: str, data: bytes, generation: int = 0) -> tuple[str, str]:
    """A reference, and the object that it refers to. Their keys."""
    shared = name_of(data, generation)
    reference = reference_key(oid, name, shared)
    assert reference.startswith(blob_key(oid, name))
    store.put_bytes(reference, b"")
    key = object_key(shared)
    if store.head(key) is None:
        store.put_bytes(key, data)
    return reference, key
