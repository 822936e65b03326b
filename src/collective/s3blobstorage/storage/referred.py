"""Shared objects of revisions whose records do not say so: those that `s3blobs dedup` converted.

What lies in the bucket then is a reference below the revision's own key, where its object was. It is looked for where
nothing else was found, by one LIST, and what it leads to is remembered in this process.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from ..keys import blob_key, object_key
from ..objectstore.interfaces import IObjectStore
from ..shared import referred_objects

# About 300 bytes each.
_MOST = 10_000


class Referred:
    """``store``: the bucket's. Any thread."""

    def __init__(self, store: IObjectStore) -> None:
        self._store = store
        self._lock = threading.Lock()  # guards _known; nothing waits while it is held
        self._known: OrderedDict[str, str] = OrderedDict()

    def known(self, own: str) -> str | None:
        """The key of the object that was found for the revision which had the key ``own``. No request.

        It holds as long as anything refers to the revision: the reference keeps the object.
        """
        return self._known.get(own)

    def look(self, oid: bytes, name: str, sha256: bytes | None) -> list[str]:
        """``shared.referred_objects`` of this store."""
        return referred_objects(self._store, oid, name, sha256)

    def note(self, own: str, key: str) -> None:
        """``key`` was found for it."""
        with self._lock:
            self._known[own] = key
            self._known.move_to_end(own)
            while len(self._known) > _MOST:
                self._known.popitem(last=False)


def own_keys(oid: bytes, name: str, shared: str | None) -> tuple[str, ...]:
    """The keys under which a revision may lie, as its record tells: ``shared`` is what it names as ``object``.

    A record that names one may have been restored where that generation had been given up: then it has its own object.
    """
    own = blob_key(oid, name)
    return (own,) if shared is None else (object_key(shared), own)
