"""What a listing tells of shared objects (``dedup``): which are marked, and to which a revision refers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .keys import CONDEMNED, blob_key, object_key, read_condemned_key, read_reference_key, read_shared_name

if TYPE_CHECKING:
    from .objectstore.interfaces import IObjectStore


def marks_prefix(sha256: bytes) -> str:
    """What the keys of all marks of that content begin with."""
    return f"{CONDEMNED}{sha256.hex()}."


def marked_generations(store: IObjectStore, sha256: bytes) -> set[int]:
    """The generations of that content which are marked. One LIST; raises StoreError."""
    names = (read_condemned_key(line.key) for line in store.list(marks_prefix(sha256)))
    return {read_shared_name(name)[1] for name in names if name is not None}


def referred_objects(store: IObjectStore, oid: bytes, name: str, sha256: bytes | None) -> list[str]:
    """The keys of the shared objects to which a revision refers: one at most, but for what a killed process left.

    ``sha256``: what its record says; None: nothing. One LIST; raises StoreError.
    """
    found = (read_reference_key(line.key) for line in store.list(f"{blob_key(oid, name)}."))
    return [
        object_key(reference[2])
        for reference in found
        if reference is not None and sha256 in (None, read_shared_name(reference[2])[0])
    ]
