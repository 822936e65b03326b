"""What the bucket knows of each key: the register, an object ``keys/{id}`` for each.

It never has the key. It has its state and since when, a canary by which a wrong key is found at the start and not at
the first download, and for a key that somebody else wraps (KMS) the wrapped key itself.

A key is ``added`` (every process can read with it), ``active`` (one: new objects are written with it), ``superseded``
(older objects may still need it) and ``retired`` (none does). zope.conf says which one is active; a process that opens
for writing tells the register so.

Entries are written one by one and without a condition, since S3 has none for that on every store. That is safe: what
differs between two writers of one entry is its state, which the next one that opens puts right; what must not be lost
(version, canary, wrapped key) is written once, where nothing was, and copied by everybody after that.
"""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, Corrupt, ObjectMissing, PreconditionFailed, RecordError, UnsafeError
from ..keys import KEYS
from .hidden import encrypted, opened
from .interfaces import IKeyProvider
from .ring import KeyRing, RingKey, is_key_id

if TYPE_CHECKING:
    from ..objectstore.interfaces import IObjectStore  # which is made of this folder

logger = logging.getLogger(__name__)

FORMAT = 1

ADDED, ACTIVE, SUPERSEDED, RETIRED = STATES = ("added", "active", "superseded", "retired")

_CANARY = b"s3blobs canary"
_VERSION = re.compile(r"[0-9a-f]{8}")
_NAMES = frozenset(("format", "id", "version", "mode", "state", "since", "canary", "kept"))


@dataclass(frozen=True, slots=True)
class Entry:
    """What the bucket knows of one key.

    ``version``: ``RingKey.version``. ``mode``: name of the encryption section that it was added for. ``since``: when
    each state was last reached, by the store's clock. ``kept``: for ``IKeyProvider.material``. ``more``: fields that
    another release wrote; they are written again.
    """

    id: str
    version: str
    mode: str
    state: str
    since: Mapping[str, datetime]
    canary: bytes = field(repr=False)
    kept: bytes | None = field(default=None, repr=False)
    more: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def key(self) -> str:
        """Where it is kept, relative to the prefix."""
        return KEYS + self.id

    @property
    def added(self) -> str:
        """The day since which the bucket knows it, for people."""
        return f"{self.since[ADDED]:%Y-%m-%d}"

    def to_json(self) -> bytes:
        told = {
            "format": FORMAT,
            "id": self.id,
            "version": self.version,
            "mode": self.mode,
            "state": self.state,
            "since": {state: moment.isoformat() for state, moment in self.since.items()},
            "canary": base64.b64encode(self.canary).decode(),
        }
        if self.kept is not None:
            told["kept"] = base64.b64encode(self.kept).decode()
        return json.dumps({**told, **self.more}, indent=1).encode()

    @classmethod
    def from_json(cls, id: str, data: bytes) -> Entry:
        """``id``: whose entry it must be. Raises RecordError where it is damaged, another's, or of a newer format."""
        try:
            told = json.loads(data)
            format = told["format"]
            if type(format) is int and format > FORMAT:
                raise RecordError(
                    f"the entry {KEYS}{id} under s3-prefix was written by a newer release of collective.s3blobstorage:"
                    " upgrade this process"
                )
            entry = cls(
                told["id"],
                told["version"],
                told["mode"],
                told["state"],
                {str(state): datetime.fromisoformat(moment) for state, moment in told["since"].items()},
                base64.b64decode(told["canary"], validate=True),
                base64.b64decode(told["kept"], validate=True) if "kept" in told else None,
                {name: value for name, value in told.items() if name not in _NAMES},
            )
            whole = (
                (type(format), format, entry.id) == (int, FORMAT, id)
                and _VERSION.fullmatch(entry.version)
                and isinstance(entry.mode, str)
                and entry.state in STATES
                and {ADDED, entry.state} <= entry.since.keys()
                and all(moment.tzinfo is not None for moment in entry.since.values())
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            whole = False
        if not whole:
            raise _damaged(id)
        return entry

    def reached(self, state: str, moment: datetime) -> Entry:
        return replace(self, state=state, since={**self.since, state: moment})


def read(store: IObjectStore, id: str) -> Entry | None:
    """One request. Raises RecordError where it is damaged or of a newer format."""
    try:
        return Entry.from_json(id, store.get_bytes(KEYS + id))
    except ObjectMissing:
        return None


def read_all(store: IObjectStore) -> list[Entry]:
    """Sorted by id; a request for each and one for the listing. What is no key's name below ``keys/`` is passed over.

    Raises as ``read``.
    """
    ids = [line.key.removeprefix(KEYS) for line in store.list(KEYS)]
    entries = [read(store, id) for id in ids if is_key_id(id)]
    return [entry for entry in entries if entry is not None]


def kept(store: IObjectStore, id: str) -> bytes | None:
    """For ``IKeyProvider.material``: what the bucket keeps of a key. Raises as ``read``."""
    entry = read(store, id)
    return None if entry is None else entry.kept


def open_ring(store: IObjectStore, ring: KeyRing, mode: str, *, writable: bool) -> list[Entry]:
    """Read every key of the ring, compare it with what the bucket knows, and tell the bucket which one writes.

    In the thread that opens a storage, before its first blob. ``store``: as it is written to without any encryption of
    blobs. ``mode``: name of the section that says how objects are written; where that has no key of the ring, none
    becomes active. Returns the entries in the order of ``ring.ids``; where not ``writable`` nothing is written, and a
    key that the bucket does not know has none.

    One request for each key, as long as the bucket knows all and the active one is active. Raises ConfigurationError
    where a key is not the one that the bucket knows, is to write and may not any more, or cannot be made here;
    RecordError for a damaged entry; and what reading a key raises. Idempotent: after an error, call it again.
    """
    # The active one last: whoever supersedes it writes that before the other one is active, so that who sees another
    # one active sees here that this one is no more.
    entries = {id: read(store, id) for id in reversed(ring.ids)}

    def kept_of(id: str) -> bytes | None:
        entry = entries.get(id)
        return kept(store, id) if entry is None else entry.kept

    ring.kept_of = kept_of
    for id, entry in entries.items():
        provider = ring.providers[id]
        if provider.keeps and (entry is None or entry.kept is None):
            _refuse_unmade(store, provider, entry, writable)
        elif entry is not None:
            _compare(entry, ring.key(id), provider.source)
    active = entries[ring.active_id]
    writes = writable and mode_of(ring, ring.active_id, mode) == mode
    if writes and active is not None:
        _check_active(active, mode)
    # Nothing is written before all keys that the bucket knows have proven themselves.
    for id, entry in entries.items():
        if entry is None and writable:
            entries[id] = _add(store, ring, id, mode_of(ring, id, mode))
        ring.key(id)
    known = [entry for id in ring.ids if (entry := entries[id]) is not None]
    changed = _make_active(store, known[0], known[1:]) if writes else {}
    return [changed.get(entry.id, entry) for entry in known]


def verify(store: IObjectStore, ring: KeyRing, id: str) -> Entry | None:
    """Read a key of the ring, and compare it with what the bucket knows; None where the bucket does not know it.

    Writes nothing. Raises ConfigurationError where the key cannot be had or is not the one that the bucket knows,
    RecordError where the entry is damaged, and Unavailable.
    """
    entry, provider = read(store, id), ring.providers[id]
    if provider.keeps and entry is None:
        return None
    if provider.keeps and entry is not None and entry.kept is None:
        _refuse_unmade(store, provider, entry, writable=False)
    key = ring.key(id)
    if entry is not None:
        _compare(entry, key, provider.source)
    return entry


def mode_of(ring: KeyRing, id: str, mode: str) -> str:
    """For which encryption a key is; ``mode`` where the ring does not say so."""
    return ring.modes.get(id, mode)


def add(store: IObjectStore, ring: KeyRing, id: str, mode: str) -> Entry:
    """Let the bucket know a key of the ring: make it where somebody else wraps it. Nothing is written with it yet.

    Raises ConfigurationError where the bucket knows it already, or zope.conf does not; and as ``open_ring``.
    """
    if id not in ring.providers:
        raise ConfigurationError(
            f"there is no key {id} in zope.conf: give it a section first (example: <key {id}> file /run/secrets/{id}"
            " </key>)"
        )
    present = read(store, id)
    if present is not None:
        raise ConfigurationError(f"the bucket knows the key {id} since {present.added} already: it is {present.state}")
    return _add(store, ring, id, mode)


def activate(store: IObjectStore, id: str) -> Entry:
    """Say that this key writes from now on; the one that did so is superseded. Also for a superseded one, again.

    Processes write with it as soon as they start with it as ``active-key``. Raises ConfigurationError where the bucket
    does not know it, or it is retired.
    """
    entry = known(store, id)
    if entry.state == RETIRED:
        raise _retired(entry)
    return _activated(store, entry).get(id, entry)


def retire(store: IObjectStore, id: str) -> Entry:
    """Say that nothing needs this key any more. Whether that is so, the caller has found out.

    Raises ConfigurationError where the bucket does not know it, UnsafeError where it is the active one.
    """
    entry = known(store, id)
    if entry.state == ACTIVE:
        raise UnsafeError(f"the key {id} is the active one: name another active-key in zope.conf first, then retire it")
    if entry.state == RETIRED:
        return entry
    return _write(store, entry.reached(RETIRED, _now(store)))


def _compare(entry: Entry, key: RingKey, source: str) -> None:
    """Raise where the key is not the one that the entry is of, or the entry is of none."""
    fits = entry.version == key.version
    try:
        plain = opened(key.derived("canary"), entry.canary, _bound(entry))
    except (Corrupt, ValueError):  # ValueError: a mode that is no text
        plain = b""
    if fits and plain == _CANARY:
        return
    if fits or plain:
        raise _damaged(entry.id)
    raise ConfigurationError(
        f"the key {entry.id} ({source}) is not the one that the bucket knows by this id since {entry.added}: bring"
        f" that one back, or give this one an id of its own (example: <key {entry.id}-b>)"
    )


def _refuse_unmade(store: IObjectStore, provider: IKeyProvider, entry: Entry | None, writable: bool) -> None:
    """Raise unless this process may make the key, which the bucket does not have."""
    named = f"the key {provider.id} ({provider.source})"
    if entry is not None:
        raise ConfigurationError(
            f"{named}: the bucket knows the key of this id as one that nobody wraps since {entry.added}; give this one"
            f" an id of its own (example: <key {entry.id}-b>)"
        )
    if not writable:
        raise ConfigurationError(
            f"{named} was never added to the bucket, and nothing is written there read-only: run"
            f" `s3blobs keys add {provider.id}` with a zope.conf that may write"
        )
    if not store.conditional_put:  # type: ignore[attr-defined]
        # Two that make one at the same time would each go on with its own, and what one of them wrote be lost.
        raise ConfigurationError(
            f"{named} was never added to the bucket; it is not made at a start, since another process could make one"
            f" too on a store without atomic conditional writes: run `s3blobs keys add {provider.id}` once"
        )


def _add(store: IObjectStore, ring: KeyRing, id: str, mode: str) -> Entry:
    """Make the entry, and take what is there then: of several processes that make one, the first one's counts."""
    provider = ring.providers[id]
    kept = provider.make() if provider.keeps else None
    key = RingKey(id, provider.material(kept))  # not the ring's, which remembers: another one may count in the end
    entry = Entry(id, key.version, mode, ADDED, {ADDED: _now(store)}, b"", kept)
    entry = replace(entry, canary=encrypted(key.derived("canary"), _CANARY, _bound(entry)))
    try:
        store.put_bytes(entry.key, entry.to_json(), if_absent=True)
        logger.info("the key %s was added to the bucket's register", id)
    except PreconditionFailed:
        logger.info("another process was first to add the key %s", id)
    entry = read(store, id) or entry
    _compare(entry, key if entry.kept == kept else RingKey(id, provider.material(entry.kept)), provider.source)
    return entry


def _check_active(entry: Entry, mode: str) -> None:
    if entry.state == RETIRED:
        raise _retired(entry)
    if entry.mode != mode:
        # With SSE-C the store sees the key itself: it must not open what is encrypted here.
        raise ConfigurationError(
            f"active-key {entry.id}: the key was added for {entry.mode} and is not taken for {mode}, since others may"
            " have seen it there: name another key (make one with `s3blobs keys generate`)"
        )


def _make_active(store: IObjectStore, entry: Entry, others: list[Entry]) -> dict[str, Entry]:
    """Of the key that zope.conf names as the active one. Returns the entries that were changed."""
    rivals = [other for other in others if other.state == ACTIVE]
    if entry.state == ACTIVE and not rivals:
        return {}
    if entry.state == SUPERSEDED or (
        entry.state == ACTIVE and any(_activation(rival) > _activation(entry) for rival in rivals)
    ):
        # Processes change their zope.conf one after the other. This one came late, or goes back.
        logger.warning(
            "active-key %s: another key has superseded this one since this zope.conf was written; it goes on writing"
            " with it (if it shall be the active one again, run `s3blobs keys activate %s`)",
            entry.id,
            entry.id,
        )
        return {}
    return _activated(store, entry)


def _activated(store: IObjectStore, entry: Entry) -> dict[str, Entry]:
    """Returns the entries that were changed. The order of writing is what ``open_ring`` relies on: a moment in which no
    key is active harms nobody, and one that two are would let a late process supersede the new one."""
    now = _now(store)
    changed = [
        other.reached(SUPERSEDED, now) for other in read_all(store) if other.state == ACTIVE and other.id != entry.id
    ]
    if entry.state != ACTIVE:
        changed.append(entry.reached(ACTIVE, now))
    for each in changed:
        _write(store, each)
        logger.info("the key %s is %s", each.id, each.state)
    return {each.id: each for each in changed}


def _activation(entry: Entry) -> tuple[datetime, str]:
    """Of two that are active the later one counts."""
    return entry.since[ACTIVE], entry.id


def _write(store: IObjectStore, entry: Entry) -> Entry:
    store.put_bytes(entry.key, entry.to_json())
    return entry


def known(store: IObjectStore, id: str) -> Entry:
    """What the bucket knows of that key. Raises ConfigurationError where that is nothing, and as ``read``."""
    entry = read(store, id) if is_key_id(id) else None
    if entry is None:
        raise ConfigurationError(f"the bucket knows no key {id}: run `s3blobs keys list` for those that it knows")
    return entry


def _bound(entry: Entry) -> bytes:
    return f"{FORMAT}\0{entry.id}\0{entry.mode}".encode()


def _now(store: IObjectStore) -> datetime:
    return store.now().astimezone(UTC).replace(microsecond=0)


def _damaged(id: str) -> RecordError:
    return RecordError(
        f"the entry {KEYS}{id} under s3-prefix is damaged: it is not that key's, was changed, or was cut off; bring an"
        " older version of the object back"
    )


def _retired(entry: Entry) -> ConfigurationError:
    return ConfigurationError(
        f"the key {entry.id} was retired on {entry.since[RETIRED]:%Y-%m-%d} and writes no more: make a new one"
        " (`s3blobs keys generate`), and name that one as active-key"
    )
