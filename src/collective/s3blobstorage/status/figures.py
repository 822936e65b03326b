"""How many objects and bytes lie under a prefix, and keeping that in the bucket, so that nobody counts to show it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from ..errors import StoreError
from ..keys import (
    is_addon_key,
    is_bookkeeping,
    is_key,
    is_reference_key,
    is_upload_key,
    read_condemned_key,
    read_object_key,
    read_reference_key,
)
from ..maintenance.findings import Stopped
from ..maintenance.referring import InStep, References
from ..objectstore.interfaces import IObjectStore
from . import kept
from .dates import iso
from .interfaces import FIGURES, OUTSIDE

# Keys of zodb-s3blobs: see DESIGN.md section 8.
_FOREIGN = re.compile(r"blobs/[0-9a-f]{1,16}/[0-9a-f]{1,16}\.blob")

_PARTS = ("blobs", "shared", "references", "zodb_s3blobs", "addons", "direct_uploads", "bookkeeping", "other")
_LATER = ("shared", "references")  # that figures which were kept before there were any do not have
_NONE = {"objects": 0, "bytes": 0}

_STEP = 1000  # objects between two looks at the progress: a page of a listing


@dataclass
class Count:
    """Objects or files, and their bytes."""

    objects: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        self.objects += 1
        self.bytes += size


@dataclass
class Objects:
    """What lies under the prefix, by whose key it is. ``blobs``: objects of one revision each; ``shared``: objects that
    equal blobs share, and ``references``, of no bytes, of the revisions that do. ``direct_uploads``: what browsers sent
    and was not completed. ``other`` is nothing that this package wrote."""

    blobs: Count = field(default_factory=Count)
    shared: Count = field(default_factory=Count)
    references: Count = field(default_factory=Count)
    zodb_s3blobs: Count = field(default_factory=Count)
    addons: Count = field(default_factory=Count)
    direct_uploads: Count = field(default_factory=Count)
    bookkeeping: Count = field(default_factory=Count)
    other: Count = field(default_factory=Count)

    def of(self, key: str) -> Count:
        """Where that key is counted."""
        if is_key(key):
            return self.blobs
        if is_reference_key(key):
            return self.references
        if read_object_key(key) is not None:
            return self.shared
        if _FOREIGN.fullmatch(key):
            return self.zodb_s3blobs
        if is_addon_key(key):
            return self.addons
        if is_upload_key(key):
            return self.direct_uploads
        return self.bookkeeping if is_bookkeeping(key) or read_condemned_key(key) is not None else self.other

    @property
    def total(self) -> Count:
        parts = [getattr(self, name) for name in _PARTS]
        return Count(sum(part.objects for part in parts), sum(part.bytes for part in parts))

    @classmethod
    def sum(cls, several: Iterable[Objects]) -> Objects:
        found = cls()
        for objects in several:
            for name in _PARTS:
                count, more = getattr(found, name), getattr(objects, name)
                count.objects += more.objects
                count.bytes += more.bytes
        return found


@dataclass
class Uploads:
    """Multipart uploads of this package that were begun and neither completed nor aborted."""

    count: int
    oldest: str | None  # ISO 8601, the store's time


@dataclass
class Figures:
    """``uploads``, and ``unfinished``, multipart uploads of browsers: None where the credentials may not list them, or
    the store cannot. ``saved``: how many bytes more there would be if no blobs shared an object."""

    objects: Objects
    uploads: Uploads | None
    unfinished: int | None
    saved: int = 0


def count(
    store: IObjectStore, advance: Callable[[int], Any] = lambda count: None, stop: threading.Event | None = None
) -> Figures:
    """Read the whole listing, page by page; memory does not grow with it. ``advance(n)`` is called per page.

    A request per 1,000 objects, in the thread of the caller. Raises Stopped, and what the store raises.
    """
    found = Objects()
    seen = 0
    with References() as references:
        saving = _Saving(references)
        for line in store.list(page_size=_STEP):
            part = found.of(line.key)
            part.add(line.size)
            if part is found.references or part is found.shared:
                saving.see(line.key, line.size)
            seen += 1
            if seen % _STEP == 0:
                advance(_STEP)
                if stop is not None and stop.is_set():
                    raise Stopped
        advance(seen % _STEP)
    return Figures(found, *_uploads(store), saving.saved)


class _Saving:
    """What sharing saves, of keys in the order of a listing: there all references stand before the shared objects."""

    def __init__(self, references: References) -> None:
        self.saved = 0
        self._references = references
        self._counts: InStep[str, int] | None = None

    def see(self, key: str, size: int) -> None:
        """A reference, or a shared object."""
        if (reference := read_reference_key(key)) is not None:
            self._references.add(reference[2])
            return
        self._counts = self._counts or InStep(self._references.counts())
        referred = self._counts.get(key[key.rfind("/") + 1 :]) or 0
        self.saved += size * max(referred - 1, 0)


def _uploads(store: IObjectStore) -> tuple[Uploads, int] | tuple[None, None]:
    try:
        return uploads_of((key, initiated) for key, _, initiated in store.list_uploads())
    except StoreError:
        return None, None  # a policy of its own, s3:ListBucketMultipartUploads; and some stores have no such listing


def uploads_of(begun: Iterable[tuple[str, datetime]]) -> tuple[Uploads, int]:
    """Of those to these keys, begun at these times; and how many of them are browsers', which may take days."""
    count, oldest, unfinished = 0, None, 0
    for key, initiated in begun:
        if is_upload_key(key):
            unfinished += 1
            continue
        count += 1
        oldest = initiated if oldest is None else min(oldest, initiated)
    return Uploads(count, iso(oldest)), unfinished


def keep(store: IObjectStore, figures: Figures, by: str) -> None:
    """Write them into the bucket. ``by``: who counted, for people. Raises what the store raises."""
    objects = figures.objects
    told = {
        "by": by,
        **{name: asdict(getattr(objects, name)) for name in _PARTS},
        "total": asdict(objects.total),
        "saved": figures.saved,
        "direct_uploads": {**asdict(objects.direct_uploads), "unfinished": figures.unfinished},
        "uploads": None if figures.uploads is None else asdict(figures.uploads),
    }
    kept.write(store, FIGURES, told)


def keep_outside(store: IObjectStore, objects: int, size: int, by: str) -> None:
    """Write how many blobs, and bytes of them, only sources have. Raises what the store raises."""
    kept.write(store, OUTSIDE, {"by": by, "objects": objects, "bytes": size})


def read(store: IObjectStore) -> dict[str, Any] | None:
    """As the status document has them; None where nobody counted. One request."""
    return kept.read(store, FIGURES, _figures)


def read_outside(store: IObjectStore) -> dict[str, Any] | None:
    """As ``read``."""
    return kept.read(store, OUTSIDE, lambda told: {"by": str(told["by"]), **_count(told)})


def _figures(told: Mapping[str, Any]) -> dict[str, Any]:
    uploads = told["uploads"]
    oldest = None if uploads is None else uploads["oldest"]
    # What was counted before there were any has none.
    direct = told.get("direct_uploads") or {**_NONE, "unfinished": 0}
    unfinished = direct["unfinished"]
    return {
        "by": str(told["by"]),
        **{name: _count(told[name]) for name in (*_PARTS, "total") if name not in (*_LATER, "direct_uploads")},
        **{name: _count(told.get(name, _NONE)) for name in _LATER},
        "saved": int(told.get("saved", 0)),
        "direct_uploads": {**_count(direct), "unfinished": None if unfinished is None else int(unfinished)},
        "uploads": None if uploads is None else {"count": int(uploads["count"]), "oldest": oldest and _date(oldest)},
    }


def _count(told: Mapping[str, Any]) -> dict[str, int]:
    return {"objects": int(told["objects"]), "bytes": int(told["bytes"])}


def _date(text: str) -> str:
    return datetime.fromisoformat(text).isoformat()
