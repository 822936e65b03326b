"""Which keys the objects of a prefix need: a listing on the local disk, and a look at each object.

A listing does not tell how an object is encrypted, so each is asked by a HEAD, several at a time. What was counted is
kept in the bucket (``keys/.usage``), so that ``s3blobs keys list`` and status pages need not ask a million objects.

Blobs and objects of add-ons are what people have in mind. What this package keeps beside them (markers, gc's notes) is
encrypted by the store as blobs are, so it needs keys too; it is counted by itself.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ..encryption.ring import is_key_id
from ..errors import EncryptionKeyMissing, ObjectMissing, Refused, StoreError, Unavailable
from ..keys import CLAIM, KEYS, LEASE, SCRATCH, USAGE, has_bytes, is_addon_key, is_bookkeeping
from ..objectstore.interfaces import IObjectStore, Protection
from .findings import Count, Stopped
from .gc.lines import Lines
from .parallel import in_parallel

logger = logging.getLogger(__name__)

FORMAT = 1
LISTED = 1000  # of failures, each is named up to so many

_STEP = 1000  # lines of the listing between two calls of ``advance``
# The register is in clear by design; of leases and claims only name, size and age are ever read. Of what processes tell
# gc (``gc/witness/``) each writes its own: one that runs with the active key writes with that, so that only what dead
# ones left is ever rewritten.
_NEVER_READ = (KEYS, LEASE, CLAIM, SCRATCH)


def is_content(key: str) -> bool:
    """Whether it has a blob's bytes, or is an add-on's object."""
    return has_bytes(key) or is_addon_key(key)


def may_need_a_key(key: str) -> bool:
    """Whether it is content, or what this package keeps beside it and reads again. References to shared objects and
    marks have no bytes, and are only listed."""
    return is_content(key) or (is_bookkeeping(key) and not key.startswith(_NEVER_READ))


@dataclass(frozen=True, slots=True)
class Line:
    """One object, or one version that no reader gets; ``version`` is "" for what readers get."""

    key: str
    size: int
    version: str = ""


class Listing:
    """What may need a key, sorted, on the local disk. The caller closes it."""

    def __init__(self) -> None:
        self.found = Count()
        self._lines = Lines()

    def add(self, line: Line) -> None:
        self.found.add(line.size)
        self._lines.add(json.dumps([line.key, line.size, line.version]))

    def __iter__(self) -> Iterator[Line]:
        return (Line(*json.loads(line)) for line in self._lines)

    def close(self) -> None:
        self._lines.close()

    def __enter__(self) -> Listing:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def listed(
    store: IObjectStore,
    stop: threading.Event,
    *,
    after: str = "",
    versions: bool = False,
    advance: Callable[[int], None] = lambda count: None,
) -> Listing:
    """List what readers get, from behind the key ``after`` on; ``versions``: also what they do not get any more.

    ``advance`` is told how many keys more were seen. Raises Stopped after ``stop``, and Refused where the credentials
    may not list versions.
    """
    listing = Listing()
    try:
        lines = _with_versions(store) if versions else _present(store, after)
        for number, line in enumerate(lines, 1):
            if may_need_a_key(line.key):
                listing.add(line)
            if number % _STEP == 0:
                advance(_STEP)
                if stop.is_set():
                    raise Stopped
    except BaseException:
        listing.close()
        raise
    return listing


def _present(store: IObjectStore, after: str) -> Iterator[Line]:
    return (Line(line.key, line.size) for line in store.list(start_after=after))


def _with_versions(store: IObjectStore) -> Iterator[Line]:
    for version in store.list_versions():
        if not version.is_marker:
            yield Line(version.key, version.size, "" if version.is_latest else version.version)


@dataclass
class Usage:
    """Objects and their stored bytes by mode and key (``RingKey.name``, a KMS key's id, or ""): blobs and objects of
    add-ons, what this package keeps ``beside`` them, and ``past``: versions that no reader gets."""

    content: dict[tuple[str, str], Count] = field(default_factory=dict)
    beside: dict[tuple[str, str], Count] = field(default_factory=dict)
    past: dict[tuple[str, str], Count] = field(default_factory=dict)

    def add(self, line: Line, found: Protection) -> None:
        where = self.past if line.version else self.content if is_content(line.key) else self.beside
        where.setdefault((found.mode, found.key), Count()).add(found.size)

    def of_key(self, id: str) -> dict[str, Count]:
        """What needs a key of that id, whatever its version: by ``content``, ``beside``, ``past``, without zeros."""
        needed = {"content": Count(), "beside": Count(), "past": Count()}
        for name, count in needed.items():
            for (_, key), each in getattr(self, name).items():
                if id_of(key) == id:
                    count.blobs += each.blobs
                    count.bytes += each.bytes
        return {name: count for name, count in needed.items() if count.blobs}

    def to_json(self) -> dict[str, Any]:
        return {
            name: [
                {"mode": mode, "key": key, "objects": count.blobs, "bytes": count.bytes}
                for (mode, key), count in sorted(getattr(self, name).items())
            ]
            for name in ("content", "beside", "past")
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Usage:
        """Raises KeyError, TypeError, ValueError where it is something else."""
        usage = cls()
        for name in ("content", "beside", "past"):
            for row in told[name]:
                count = Count(int(row["objects"]), int(row["bytes"]))
                getattr(usage, name)[str(row["mode"]), str(row["key"])] = count
        return usage


def id_of(key: str) -> str | None:
    """The id in a ``RingKey.name``; None where it is the name of none, as that of a KMS key."""
    id, slash, version = key.partition("/")
    return id if slash and len(version) == 8 and is_key_id(id) else None


@dataclass
class Failures:
    """What could not be looked at or changed: how many by kind of error, and the first of them with the reason."""

    by_kind: dict[str, int] = field(default_factory=dict)
    first: list[dict[str, str]] = field(default_factory=list)

    def add(self, key: str, error: Exception) -> None:
        kind = type(error).__name__
        self.by_kind[kind] = self.by_kind.get(kind, 0) + 1
        if len(self.first) < LISTED:
            self.first.append({"key": key, "error": kind, "reason": reason(error)})

    def merge(self, other: Failures) -> None:
        """Add those of another step; a key is listed twice where it failed in both."""
        for kind, count in other.by_kind.items():
            self.by_kind[kind] = self.by_kind.get(kind, 0) + count
        self.first += other.first[: LISTED - len(self.first)]

    @property
    def count(self) -> int:
        return sum(self.by_kind.values())


def reason(error: Exception) -> str:
    """In one line; with the id of the key that is missing, which the message, for visitors, does not have."""
    text = " ".join(str(error).split())
    if not isinstance(error, EncryptionKeyMissing) or not error.id:
        return text
    if error.other:
        return f"it needs another key than the one that zope.conf has by the id {error.id}"
    return f"it needs the key {error.id}, which zope.conf does not have"


def count(
    store: IObjectStore,
    lines: Iterable[Line],
    stop: threading.Event,
    *,
    concurrency: int,
    advance: Callable[[int], None] = lambda count: None,
    seen: Callable[[Line, Protection], None] = lambda line, found: None,
) -> tuple[Usage, Failures]:
    """Ask of each how it is encrypted, so many at a time. In the thread of the caller.

    ``seen`` is told of each that is there, in that thread. What is gone by then is not counted. Raises Stopped after
    ``stop``, and Unavailable.
    """
    usage, failures = Usage(), Failures()

    def look(line: Line) -> Protection | None:
        return store.protection(line.key, line.version)

    with closing(in_parallel(lines, look, concurrency=concurrency, stop=stop, name="s3blobs-keys")) as running:
        for line, future in running:
            advance(1)
            error = future.exception()
            if error is None:
                found = future.result()
                if found is not None:
                    usage.add(line, found)
                    seen(line, found)
            elif isinstance(error, ObjectMissing):
                pass
            elif isinstance(error, StoreError) and not isinstance(error, Unavailable):
                failures.add(line.key, error)
            else:
                raise error
    if stop.is_set():
        raise Stopped
    return usage, failures


# The kept figures


@dataclass(frozen=True)
class Figures:
    """What was counted last, and when, by the store's clock."""

    at: datetime
    usage: Usage


def keep_figures(register: IObjectStore, usage: Usage) -> Figures:
    """``register``: the store as ``keys/`` is written, without any encryption. Raises as ``put_bytes``."""
    figures = Figures(register.now().astimezone(UTC).replace(microsecond=0), usage)
    told = {"format": FORMAT, "at": figures.at.isoformat(), **usage.to_json()}
    register.put_bytes(USAGE, json.dumps(told, indent=1).encode())
    return figures


def kept_figures(register: IObjectStore) -> Figures | None:
    """None where nothing was counted yet, or what was kept is damaged or of a newer format: it can be counted anew."""
    try:
        told = json.loads(register.get_bytes(USAGE))
        if told["format"] != FORMAT:
            return None
        return Figures(datetime.fromisoformat(told["at"]), Usage.from_json(told))
    except ObjectMissing:
        return None
    except Refused:
        return None  # a policy that names the keys one by one
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        logger.warning("%s is damaged, count anew with `s3blobs keys list --count`: %s", USAGE, type(error).__name__)
        return None
