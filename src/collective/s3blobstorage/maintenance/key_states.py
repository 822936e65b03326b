"""Every key that a prefix or its configuration knows: what ``s3blobs keys list`` and status pages show. No secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..encryption.register import ACTIVE, ADDED, RETIRED, Entry, mode_of, read_all
from ..objectstore.interfaces import IObjectStore
from .findings import Count
from .usage import Figures, Usage, kept_figures


@dataclass(frozen=True)
class KeyState:
    """One key. ``state``: of the register; None where the bucket does not know it. ``source``: where zope.conf takes it
    from; None where zope.conf does not have it. ``writes``: it is the one that this configuration writes with."""

    id: str
    version: str | None
    mode: str
    state: str | None
    since: Mapping[str, datetime]
    source: str | None
    writes: bool

    @property
    def began(self) -> datetime | None:
        """Since when objects are, or could be, encrypted with it."""
        return self.since.get(ACTIVE) or self.since.get(ADDED)

    def age(self, now: datetime) -> float | None:
        """In seconds, since it became active, or else since it was added."""
        return None if self.began is None else (now - self.began).total_seconds()

    @property
    def is_lost(self) -> bool:
        """Objects may need it, and this configuration does not have it."""
        return self.source is None and self.state != RETIRED


def key_states(store: IObjectStore) -> list[KeyState]:
    """The one that writes first, then by the day on which they were added, the newest first.

    One request for the listing and one for each key that the bucket knows; reads no key itself. Raises RecordError
    where an entry is damaged.
    """
    entries = {entry.id: entry for entry in read_all(store.unencrypted())}  # type: ignore[attr-defined]
    encryption = store.encryption
    ring = encryption.ring
    ids = ring.ids if ring is not None else ()
    states = [_state(id, entries.get(id), encryption) for id in {*ids, *entries}]
    return sorted(
        states, key=lambda each: (not each.writes, -(each.began.timestamp() if each.began else 1e12), each.id)
    )


def _state(id: str, entry: Entry | None, encryption: Any) -> KeyState:
    ring = encryption.ring
    provider = ring.providers.get(id) if ring is not None else None
    writes = provider is not None and id == ring.active_id and mode_of(ring, id, encryption.name) == encryption.name
    if entry is None:
        return KeyState(id, None, mode_of(ring, id, encryption.name), None, {}, provider.source, writes)
    source = None if provider is None else provider.source
    return KeyState(id, entry.version, entry.mode, entry.state, entry.since, source, writes)


def usage_of(id: str, usage: Usage | None) -> dict[str, Count] | None:
    """What needs the key: by ``Usage``'s names; None where nothing was counted."""
    return None if usage is None else usage.of_key(id)


def document(states: list[KeyState], figures: Figures | None, now: datetime) -> dict[str, Any]:
    """For JSON: each key, and how many objects need it as they were counted last."""
    usage = figures.usage if figures is not None else None
    return {
        "keys": [_document(each, usage, now) for each in states],
        "counted": figures.at.isoformat() if figures is not None else None,
        "usage": usage.to_json() if usage is not None else None,
    }


def _document(state: KeyState, usage: Usage | None, now: datetime) -> dict[str, Any]:
    age = state.age(now)
    needed = usage_of(state.id, usage)
    content = None if needed is None else needed.get("content", Count())
    return {
        "id": state.id,
        "version": state.version,
        "mode": state.mode,
        "state": state.state,
        "since": {name: moment.isoformat() for name, moment in state.since.items()},
        "age_days": None if age is None else int(max(age, 0) // 86400),
        "source": state.source,
        "in_configuration": state.source is not None,
        "in_bucket": state.state is not None,
        "writes": state.writes,
        "objects": None if content is None else content.blobs,
        "bytes": None if content is None else content.bytes,
        "beside": None if needed is None else needed.get("beside", Count()).blobs,
        "past_versions": None if needed is None else needed.get("past", Count()).blobs,
    }


def told(store: IObjectStore) -> dict[str, Any]:
    """The document with what is kept in the bucket. Raises as ``key_states``."""
    states = key_states(store)
    register = store.unencrypted()  # type: ignore[attr-defined]
    return document(states, kept_figures(register) if states else None, store.now())
