"""Which blobs of a database are held, or shall be: ``s3blobs legal-hold``. Reads records alone, no class of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from ..errors import StoreError, Unavailable
from ..keys import BLOBS, read_key
from ..objectstore.interfaces import IObjectStore, Listed
from .content import Content, Contents
from .findings import Stopped
from .kept import kept_revisions
from .parallel import in_parallel
from .references import attribute_of
from .scope import LAST_OID, Scope
from .spool import Spool

_FIELD = "legal_hold"  # of the behaviour
_SCALES = "plone.scale"


@dataclass(frozen=True, slots=True)
class Item:
    """A blob and the content that it belongs to."""

    oid: bytes
    content: Content


def of_contents(
    base: Any,
    spool: Spool,
    *,
    path: str | None = None,
    wanted: bool = False,
    advance: Callable[[int], None] = lambda count: None,
    stop: threading.Event,
) -> list[Item]:
    """The blobs in the fields of the content at ``path``, or of all content whose field wants a hold. Not its scales.

    Reads every record once. Raises Stopped.
    """
    contents = Contents(spool)
    blobs: dict[bytes, None] = {}  # in the order of oids; only those of today
    holding: set[bytes] = set()

    def other(oid: bytes, tid: bytes, record: bytes | None) -> None:
        contents.add(oid, tid, record)
        holding.discard(oid)  # of revisions the last one counts
        if record and _FIELD.encode() in record and attribute_of(record, _FIELD) is True:
            holding.add(oid)

    def counted(count: int) -> None:
        if stop.is_set():
            raise Stopped
        advance(count)

    for revision in kept_revisions(base, Scope(), spool, counted, other):
        blobs[revision.oid] = None
    paths = {path} if path is not None else {contents.path_of(oid) for oid in holding} if wanted else set()
    paths.discard(None)
    found = []
    for oid in blobs if paths else ():
        content = contents.of(oid)
        if content is not None and not content.past and content.field != _SCALES and content.path in paths:
            found.append(Item(oid, content))
    return found


def held_objects(
    store: IObjectStore,
    scope: Scope,
    *,
    concurrency: int,
    stop: threading.Event,
    advance: Callable[[int], None] = lambda count: None,
) -> Iterator[tuple[Listed, bool | StoreError]]:
    """Each object of a blob, and whether it is held: a listing, and one request for each at least."""
    end = f"{BLOBS}{scope.last.hex()}/~"

    def lines() -> Iterator[Listed]:
        start = f"{BLOBS}{scope.first.hex()}" if any(scope.first) else ""
        for line in store.list(BLOBS, start_after=start):
            if scope.last != LAST_OID and line.key > end:
                return
            if read_key(line.key) is not None:
                yield line

    def ask(line: Listed) -> bool:
        return store.lock_of(line.key).legal_hold

    with closing(in_parallel(lines(), ask, concurrency=concurrency, stop=stop, name="s3blobs-holds")) as asked:
        for line, future in asked:
            error = future.exception()
            if error is None:
                yield line, future.result()
            elif isinstance(error, StoreError) and not isinstance(error, Unavailable):
                yield line, error
            else:
                raise error
            advance(1)
