"""Whose prefix it is: the marker ``.s3blobs.json`` beside the blobs.

The name of the owner comes from zope.conf and is kept in the bucket, never only in the database: a copied Data.fs would
carry it along, and staging would be taken for production.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..cache.layout import Layout, sealed_identity
from ..errors import ObjectMissing, OwnerError, PreconditionFailed, RecordError
from ..keys import BLOBS, MARKER
from ..objectstore.interfaces import IObjectStore
from ..settings import StorageSettings

logger = logging.getLogger(__name__)

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Marker:
    """What the prefix is.

    ``owner`` is None where zope.conf never named one. ``foreign_keys``: the prefix holds, or may hold, blobs under the
    keys of zodb-s3blobs. ``adopted``: garbage collection may judge those too (``s3blobs adopt``). ``deduplicated``:
    there are, or may be, shared objects (``dedup``); once said it is never taken back.
    """

    owner: str | None
    foreign_keys: bool
    adopted: bool = False
    deduplicated: bool = False

    def to_json(self) -> bytes:
        layouts = ["ours", "zodb-s3blobs"] if self.foreign_keys else ["ours"]
        told = {"format": FORMAT, "owner": self.owner, "layouts": layouts}
        said = {name: True for name in ("adopted", "deduplicated") if getattr(self, name)}
        return json.dumps({**told, **said}, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Marker:
        """Raises RecordError where it is damaged or of a newer format."""
        try:
            marker = json.loads(data)
            version, owner, layouts = marker["format"], marker["owner"], marker["layouts"]
            adopted, deduplicated = (marker.get(name) is True for name in ("adopted", "deduplicated"))
        except (ValueError, KeyError, TypeError):
            raise RecordError(
                f"the marker {MARKER} under s3-prefix is damaged: it is not ours, or was cut off"
            ) from None
        if not isinstance(version, int) or version > FORMAT:
            raise RecordError(
                f"the marker {MARKER} under s3-prefix was written by a newer release of collective.s3blobstorage:"
                " upgrade this process"
            )
        return cls(owner, "zodb-s3blobs" in layouts, adopted, deduplicated)


def read_marker(store: IObjectStore) -> Marker | None:
    try:
        return Marker.from_json(store.get_bytes(MARKER))
    except ObjectMissing:
        return None


def open_prefix(
    store: IObjectStore, owner: str | None, *, read_only: bool, before_writing: Callable[[], None] = lambda: None
) -> Marker:
    """Check that the prefix is ours to write, and say so in the bucket on the first writable open.

    One request where the marker is there. ``before_writing`` is called when the prefix is known not to be another
    owner's, and before anything is written. Raises OwnerError where the prefix belongs to another owner and is not
    opened read-only.
    """
    marker = read_marker(store)
    if read_only:
        return marker or Marker(None, _holds_blobs(store))
    refuse_other(marker, owner)
    before_writing()
    if marker is None:
        marker = _write_first(store, Marker(owner, _holds_blobs(store)))
    if marker.owner is None and owner is not None:
        # Two that adopt one prefix at the same time: the second write wins, and the first sees it here.
        store.put_bytes(MARKER, replace(marker, owner=owner).to_json())
        marker = read_marker(store) or marker
        logger.info("the prefix now belongs to owner %r", marker.owner)
    if marker.owner != owner:
        _refuse(marker.owner, owner)
    return marker


def begin_sharing(store: IObjectStore, marker: Marker) -> Marker:
    """Say in the bucket that there may be shared objects, before the first one is written. No request where it says so.

    ``marker``: as it was read; ours to write. What another process made of it meanwhile is kept, but for the moment
    between two requests.
    """
    if marker.deduplicated:
        return marker
    present = read_marker(store) or marker
    refuse_other(present, marker.owner)
    if not present.deduplicated:
        store.put_bytes(MARKER, replace(present, deduplicated=True).to_json())
        logger.info("the prefix may have shared objects from now on (dedup)")
    return replace(present, deduplicated=True)


def refuse_other(marker: Marker | None, owner: str | None) -> None:
    """Raise OwnerError where the prefix belongs to somebody else. Makes no request."""
    if marker is not None and marker.owner is not None and marker.owner != owner:
        _refuse(marker.owner, owner)


def _write_first(store: IObjectStore, marker: Marker) -> Marker:
    try:
        store.put_bytes(MARKER, marker.to_json(), if_absent=True)
    except PreconditionFailed:
        logger.info("another process was first to open the prefix")
    return read_marker(store) or marker


def _holds_blobs(store: IObjectStore) -> bool:
    """Whether anything lies where zodb-s3blobs may have put it. Without our marker, no other release of ours has."""
    return next(iter(store.list(BLOBS, page_size=1)), None) is not None


def _refuse(present: str | None, owner: str | None) -> None:
    if owner is None:
        raise OwnerError(
            f"the bucket's prefix belongs to owner {present!r}, and zope.conf names none: set `owner {present}` if this"
            " is that site; for a copy of it set another s3-prefix, or `read-only on`"
        )
    raise OwnerError(
        f"the bucket's prefix belongs to owner {present!r}, not to {owner!r}: set another s3-prefix, or `read-only on`"
    )


def cache_identity(store_identity: str, owner: str | None) -> str:
    """Whose cache it is, for ``BlobCache``: an owner's files are not read under another name."""
    return f"{store_identity} {owner or ''}"


def cache_layout(settings: StorageSettings, store_identity: str) -> Layout:
    """Where on this machine the cache of that store is."""
    identity = cache_identity(store_identity, settings.owner)
    return Layout(settings.cache_dir, sealed_identity(identity) if settings.cache_encrypt else identity)
