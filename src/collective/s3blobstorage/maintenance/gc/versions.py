"""Versions that no reader gets any more, in a bucket that keeps them: ``s3blobs gc --versions``.

They need no ledger: since when a version is out of use is what the store says of the version or delete marker after it.
Two kinds go. Of a key that is *hidden*, its latest being a delete marker, everything goes once the marker is older than
``gc-keep``, if no kept revision uses the key: the marker is what an earlier gc did, after rounds of its own. Below an
object that is there a version goes that was overwritten more than ``gc-keep`` ago, whatever the database says: nobody
reads it.

What browsers sent leaves a version behind each time that it became a blob, or was given up: these go too, and no
database is asked for them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby, islice, takewhile

from ...keys import BLOBS, UPLOADS, is_upload_key, read_foreign_key, read_key
from ...objectstore.interfaces import IObjectStore, Version
from ..findings import Stopped
from ..scope import Scope
from .candidate import Candidate, name_of, oid_of
from .lines import Lines
from .margins import Margins
from .references import View
from .report import LISTED, Tally, VersionTally

_STEP = 1000  # lines of the listing between two calls of ``advance``
_PAGE = 1000  # oids that the base is told of at a time


@dataclass(frozen=True, slots=True)
class Past:
    """A version that no reader gets, or a delete marker. ``since``: seconds since 1970; ``hidden``: see the module."""

    version: Version
    since: int
    hidden: bool


def past_versions(listed: Iterable[Version]) -> Iterator[Past]:
    """All of a listing but the objects that are there; a hidden key's latest marker after what it hides. Pure."""
    for _, found in groupby(listed, lambda version: version.key):
        latest = after = next(found)
        if not latest.is_latest:
            continue  # a store that does not say which one is there
        for version in found:  # noqa: B031 - the rest of it
            yield Past(version, _seconds(latest if latest.is_marker else after), latest.is_marker)
            after = version
        if latest.is_marker:
            yield Past(latest, _seconds(latest), True)


def list_past(
    store: IObjectStore,
    scope: Scope,
    old_keys: bool,
    listing: Lines,
    stop: threading.Event,
    listed: Callable[[int], None],
) -> None:
    """Put what could ever go on the local disk, as lines of candidates. ``old_keys``: those of zodb-s3blobs too."""

    def counted() -> Iterator[Version]:
        for number, version in enumerate(_in_scope(store, scope), 1):
            if number % _STEP == 0:
                listed(_STEP)
                if stop.is_set():
                    raise Stopped
            yield version

    for past in past_versions(counted()):
        key = past.version.key
        if read_key(key) is not None or is_upload_key(key) or (old_keys and read_foreign_key(key) is not None):
            listing.add(_candidate(past).to_line())


def _in_scope(store: IObjectStore, scope: Scope) -> Iterator[Version]:
    if scope.whole:
        return chain(store.list_versions(BLOBS), store.list_versions(UPLOADS))  # in the order of keys
    end = f"{BLOBS}{scope.last.hex()}/~"
    found = store.list_versions(BLOBS, start_after=f"{BLOBS}{scope.first.hex()}/")
    return takewhile(lambda version: version.key <= end, found)


def judge_past(
    view: View, tally: Tally, listing: Lines, going: Lines, stop: threading.Event, at: int, margins: Margins
) -> None:
    """Count, and put what is condemned into ``going``. ``at``: the store's time when the plan began."""
    counts = tally.versions = VersionTally()
    folders = (
        list(rows) for _, rows in groupby(map(Candidate.from_line, listing), lambda row: row.key[: row.key.rfind("/")])
    )
    while page := list(islice(folders, _PAGE)):
        if stop.is_set():
            raise Stopped
        unused = unused_keys(view, [row for rows in page for row in rows if row.hidden])
        for row in (row for rows in page for row in rows):
            counts.past.add(row.size)
            if row.hidden and row.key not in unused:
                if row.last:
                    counts.needed += 1
                    if len(counts.needed_keys) < LISTED:
                        counts.needed_keys.append(row.key)
                continue
            # Every direct upload leaves one: as many as blobs tell nothing of the database.
            is_blobs = not is_upload_key(row.key)
            counts.keys += row.last and is_blobs
            if at - row.since < margins.keep:
                counts.waiting.add(row.size)
                tally.wait_for(row.since + int(margins.keep))
                continue
            counts.condemned.add(row.size)
            counts.condemned_keys += row.last and is_blobs
            going.add(row.to_line())


def unused_keys(view: View, asked: list[Candidate]) -> set[str]:
    """The keys of those that no kept revision uses. What is no key of a blob, nothing uses."""
    by_oid: dict[bytes, set[str]] = {}
    for candidate in asked:
        if (oid := oid_of(candidate.key)) is not None:
            by_oid.setdefault(oid, set()).add(name_of(candidate.key))
    view.prefetch(list(by_oid))
    used = {oid: view.used(oid, names) for oid, names in by_oid.items()}
    return {
        candidate.key
        for candidate in asked
        if (oid := oid_of(candidate.key)) is None or name_of(candidate.key) not in used[oid]
    }


def still_past(store: IObjectStore, wanted: list[Candidate], at: int, margins: Margins) -> list[Candidate]:
    """Those of a batch, which is in the order of keys, that the store still says to be out of use for long enough.

    Somebody may have brought a version back, or, where versions are suspended, have written over it.
    """
    below = [[each for each in wanted if each.key.startswith(prefix)] for prefix in (BLOBS, UPLOADS)]
    return list(chain.from_iterable(_still_past(store, each, at, margins) for each in below))


def _still_past(store: IObjectStore, wanted: list[Candidate], at: int, margins: Margins) -> list[Candidate]:
    """Of those of one folder."""
    if not wanted:
        return []
    last = wanted[-1].key
    folder = last[: last.index("/") + 1]
    found = store.list_versions(folder, start_after=wanted[0].key[:-1])
    names = {(candidate.key, candidate.version) for candidate in wanted}
    now = {
        (past.version.key, past.version.version): past
        for past in past_versions(takewhile(lambda version: version.key <= last, found))
        if (past.version.key, past.version.version) in names
    }
    return [
        candidate
        for candidate in wanted
        if (past := now.get((candidate.key, candidate.version))) is not None
        and past.hidden == candidate.hidden
        and _seconds(past.version) == candidate.modified
        and at - past.since >= margins.keep
    ]


def _candidate(past: Past) -> Candidate:
    version = past.version
    return Candidate(
        version.key,
        version.size,
        "",
        _seconds(version),
        past.since,
        False,
        version=version.version,
        hidden=past.hidden,
        last=past.hidden and version.is_latest,
    )


def _seconds(version: Version) -> int:
    return int(version.last_modified.timestamp())
