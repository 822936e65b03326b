"""Up to when nothing is only in a source: the marker ``.s3blobs-mirrored.json`` beside the owner's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import ObjectMissing
from ..keys import MIRRORED
from ..objectstore.interfaces import IObjectStore

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Mirrored:
    """Every revision that the database kept of transactions up to ``tid`` has its object in the bucket, and needs none
    of ``sources``, by their names, any more."""

    tid: bytes
    sources: tuple[str, ...]


def write_mirrored(store: IObjectStore, tid: bytes, sources: Sequence[str]) -> None:
    """Say so in the bucket. One PUT, which replaces what an earlier run said."""
    _write(store, tid.hex(), sources)


def retract(store: IObjectStore) -> None:
    """Take back what an earlier run said, since it does not hold: something is missing. Credentials that may not delete
    are enough."""
    if read_mirrored(store) is not None:
        _write(store, None, (), read_moved(store))


def note_moving(store: IObjectStore, moved: str) -> None:
    """From now on blobs are moved into a source: what is known of any object being in the bucket may not hold any more.
    ``moved``: another text than ever before, as the time. Whoever hands out addresses asks for it (``ASK_AGAIN``)."""
    _write(store, None, (), moved)


def _write(store: IObjectStore, complete_up_to: str | None, sources: Sequence[str], moved: str | None = None) -> None:
    told = {"format": FORMAT, "complete_up_to": complete_up_to, "sources": list(sources)}
    moved = read_moved(store) if moved is None else moved
    if moved:
        told["moved"] = moved
    store.put_bytes(MIRRORED, json.dumps(told, indent=1).encode())


def read_mirrored(store: IObjectStore) -> Mirrored | None:
    """What the last run that ended well said. One GET.

    None where none did, where a later one took it back, and where it cannot be read.
    """
    return read_both(store)[0]


def read_moved(store: IObjectStore) -> str:
    """What ``note_moving`` said last; "" where it never did. One GET."""
    return read_both(store)[1]


def read_both(store: IObjectStore) -> tuple[Mirrored | None, str]:
    """As ``read_mirrored`` and ``read_moved``, by one GET."""
    try:
        told = json.loads(store.get_bytes(MIRRORED))
        if told["format"] != FORMAT:
            return None, ""
        moved = str(told.get("moved") or "")
    except (ObjectMissing, ValueError, KeyError, TypeError, AttributeError):
        return None, ""
    try:
        tid = bytes.fromhex(told["complete_up_to"])
        return (Mirrored(tid, tuple(map(str, told["sources"]))) if len(tid) == 8 else None), moved
    except (ValueError, KeyError, TypeError):
        return None, moved
