"""Under which keys of the bucket readers look for a revision, one after the other."""

from __future__ import annotations

from collections.abc import Iterator

from ..keys import foreign_keys, object_key
from ..objectstore.interfaces import IObjectStore
from ..shared import referred_objects
from .kept import KeptRevision


def sought(
    store: IObjectStore, revision: KeptRevision, *, deduplicated: bool, with_foreign_keys: bool = False
) -> Iterator[str]:
    """The keys, as ``storage/reading.py`` tries them. Of a revision that is not inline.

    The last ones, of a revision whose record names no shared object, are asked for by a LIST of its references when the
    caller comes to them: so nothing is asked where an earlier key does.
    """
    if revision.object is not None:
        yield object_key(revision.object)
    yield revision.key
    if revision.name is None and with_foreign_keys:
        yield from foreign_keys(revision.oid, revision.tid)
    if revision.object is None and deduplicated:
        yield from referred_objects(store, revision.oid, revision.object_name, revision.sha256)
