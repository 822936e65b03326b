"""Versions that no reader gets any more, in a bucket that keeps them: ``s3blobs gc --versions``.

They need no ledger: since when a version is out of use is what the store says of the version or delete marker after it.
Two kinds go. Of a key that is *hidden*, its latest being a delete marker, everything goes once the marker is older than
``gc-keep``, if no kept revision uses the key: the marker is what an earlier gc did, after rounds of its own. Below an
object that is there a version goes that was overwritten more than ``gc-keep`` ago, whatever the database says: nobody
reads it.

What browsers sent leaves a version behind each time that it became a blob, or was given up: these go too, and no
database is asked for them.

Where equal blobs share objects (``sharing``) a revision may have several keys: one of its own, that a conversion has
hidden, and references. A hidden one of these is as overwritten where the bytes are at hand: by a *live* reference of
that revision whose shared object is in the listing, or in the revision's own object. A hidden shared object goes where
no reference is left, and is told as needed where one is. Only a plan that judges shared objects looks at that. Marks
are written once and never removed, and have no versions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby, islice, takewhile

from ...keys import (
    BLOBS,
    OBJECTS,
    UPLOADS,
    is_key,
    is_reference_key,
    is_shared_name,
    is_upload_key,
    read_foreign_key,
    read_key,
    read_object_key,
)
from ...objectstore.interfaces import IObjectStore, Version
from ..findings import Stopped
from ..referring import InStep
from ..scope import Scope
from ..spool import Spool
from .candidate import OWN, Candidate, name_of, oid_of, shared_in
from .lines import Lines
from .listing import Listing
from .locked import Locked, Pages
from .margins import Margins
from .references import View
from .report import LISTED, Tally, VersionTally
from .sharing import Sharing

_STEP = 1000  # lines of the listing between two calls of ``advance``
_PAGE = 1000  # oids that the base is told of at a time


@dataclass(frozen=True, slots=True)
class Past:
    """A version that no reader gets, or a delete marker. ``since``: seconds since 1970; ``hidden``: see the module.
    ``shared``: as a candidate's."""

    version: Version
    since: int
    hidden: bool
    shared: str = ""


def past_versions(listed: Iterable[Version]) -> Iterator[Past]:
    """All of a listing but the objects that are there; a hidden key's latest marker after what it hides. Pure."""
    # In the order of keys a revision's own one comes first, then its references, which begin with it and a dot.
    for _, found in groupby(listed, lambda version: version.key.partition(".")[0]):
        versions = list(found)
        live = [each.key for each in versions if each.is_latest and not each.is_marker]
        referred = next(map(shared_in, filter(is_reference_key, live)), "")
        yield from _past_of_one(versions, OWN if any(map(is_key, live)) else referred)


def _past_of_one(versions: Iterable[Version], shared: str) -> Iterator[Past]:
    """Of one revision. ``shared``: what has its bytes, whichever of its keys are hidden."""
    for key, found in groupby(versions, lambda version: version.key):
        latest = after = next(found)
        if not latest.is_latest:
            continue  # a store that does not say which one is there
        stands = shared if latest.is_marker and (is_key(key) or is_reference_key(key)) else ""
        for version in found:  # noqa: B031 - the rest of it
            since = _seconds(latest if latest.is_marker else after)
            yield Past(version, since, latest.is_marker, stands)
            after = version
        if latest.is_marker:
            yield Past(latest, _seconds(latest), True, stands)


def list_past(
    store: IObjectStore,
    scope: Scope,
    old_keys: bool,
    deduplicated: bool,
    judges_shared: bool,
    listing: Lines,
    stop: threading.Event,
    listed: Callable[[int], None],
) -> None:
    """Put what could ever go on the local disk, as lines of candidates. ``old_keys``: those of zodb-s3blobs too;
    ``deduplicated``: references too; ``judges_shared``: and shared objects, and what these stand for."""

    def counted() -> Iterator[Version]:
        for number, version in enumerate(_in_scope(store, scope, judges_shared), 1):
            if number % _STEP == 0:
                listed(_STEP)
                if stop.is_set():
                    raise Stopped
            yield version

    for past in past_versions(counted()):
        key = past.version.key
        if is_shared_name(past.shared) and not judges_shared:
            continue  # whether its object is there, nobody has looked
        if (
            read_key(key) is not None
            or is_upload_key(key)
            or (deduplicated and is_reference_key(key))
            or (judges_shared and read_object_key(key) is not None)
            or (old_keys and read_foreign_key(key) is not None)
        ):
            listing.add(_candidate(past).to_line())


def _in_scope(store: IObjectStore, scope: Scope, judges_shared: bool) -> Iterator[Version]:
    if scope.whole:
        folders = (BLOBS, OBJECTS, UPLOADS) if judges_shared else (BLOBS, UPLOADS)  # in the order of keys
        return chain.from_iterable(map(store.list_versions, folders))
    end = f"{BLOBS}{scope.last.hex()}/~"
    found = store.list_versions(BLOBS, start_after=f"{BLOBS}{scope.first.hex()}/")
    return takewhile(lambda version: version.key <= end, found)


def judge_past(
    view: View,
    tally: Tally,
    past: Lines,
    locked: Locked,
    going: Lines,
    stop: threading.Event,
    at: int,
    margins: Margins,
    sharing: Sharing | None,
    listing: Listing,
) -> None:
    """Count, and put what is condemned into ``going``. ``locked``: what an earlier execution met. ``at``: the store's
    time when the plan began. ``sharing``: which has seen all references of ``listing``; None where shared objects are
    not judged."""
    counts = tally.versions = VersionTally()
    locks = Pages(locked)
    with _Sharers(sharing, listing, past) as sharers:
        folders = (
            list(rows) for _, rows in groupby(map(Candidate.from_line, past), lambda row: row.key[: row.key.rfind("/")])
        )
        while page := list(islice(folders, _PAGE)):
            if stop.is_set():
                raise Stopped
            until = locks.upto(page[-1][-1].key)
            kept: dict[str, int] = {}  # keys of which a version is locked, and until when
            unused = unused_keys(view, [row for rows in page for row in rows if row.hidden and row.is_asked])
            for row in (row for rows in page for row in rows):
                counts.past.add(row.size)
                if sharers.need(row) or (row.hidden and row.is_asked and row.key not in unused):
                    if row.last:
                        counts.needed += 1
                        if len(counts.needed_keys) < LISTED:
                            counts.needed_keys.append(row.key)
                    continue
                # The marker is the last of its key: without it the version that is kept would be there again.
                end = kept.get(row.key, 0) if row.last else until.get((row.key, row.version), 0)
                if end > at:
                    kept[row.key] = max(end, kept.get(row.key, 0))
                _condemn(row, end, counts, tally, going, at, margins)


def _condemn(
    row: Candidate, locked: int, counts: VersionTally, tally: Tally, going: Lines, at: int, margins: Margins
) -> None:
    """One that nobody needs: once it is old enough it goes, where it is not locked then."""
    # Every direct upload leaves one, and every conversion: as many as blobs tell nothing of the database.
    is_blobs = row.last and row.is_asked and oid_of(row.key) is not None
    counts.keys += is_blobs
    if locked > at:
        counts.keep(row.size, locked)
        return
    if at - row.since < margins.keep:
        counts.waiting.add(row.size)
        tally.wait_for(row.since + int(margins.keep))
        return
    counts.condemned.add(row.size)
    counts.condemned_keys += is_blobs
    going.add(row.to_line())


class _Sharers:
    """Whether somebody who shares an object needs a hidden key. Asked in the order of ``past``."""

    def __init__(self, sharing: Sharing | None, listing: Listing, past: Lines) -> None:
        self._spool = Spool()
        self._referred: InStep[str, int] = InStep(() if sharing is None else sharing.counts())
        self._number = 0
        asked, missing = self._spool.table("number INTEGER", "shared TEXT"), self._spool.table("number INTEGER")
        if sharing is not None:
            for number, row in enumerate(row for row in map(Candidate.from_line, past) if is_shared_name(row.shared)):
                asked.add(number, row.shared)
            there = InStep((row[0][row[0].rfind("/") + 1 :], True) for row in listing.shared())
            for number, shared in asked.rows("shared"):
                if there.get(shared) is None:
                    missing.add(number)
        self._missing: InStep[int, bool] = InStep((number, True) for (number,) in missing.rows("number"))

    def need(self, row: Candidate) -> bool:
        if is_shared_name(row.shared):  # is that object there?
            self._number += 1
            return self._missing.get(self._number - 1) is not None
        name = read_object_key(row.key)
        return name is not None and row.hidden and bool(self._referred.get(name))

    def __enter__(self) -> _Sharers:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._spool.close()


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
    below = [[each for each in wanted if each.key.startswith(prefix)] for prefix in (BLOBS, OBJECTS, UPLOADS)]
    return list(chain.from_iterable(_still_past(store, each, at, margins) for each in below))


def _still_past(store: IObjectStore, wanted: list[Candidate], at: int, margins: Margins) -> list[Candidate]:
    """Of those of one folder."""
    if not wanted:
        return []
    last = wanted[-1].key
    folder = last[: last.index("/") + 1]
    # From the first one's revision to the end of the last one's: of each the references belong to it.
    first, end = wanted[0].key.partition(".")[0], f"{last.partition('.')[0]}."
    found = store.list_versions(folder, start_after=first[:-1])
    names = {(candidate.key, candidate.version) for candidate in wanted}
    now = {
        (past.version.key, past.version.version): past
        for past in past_versions(takewhile(lambda version: version.key <= last or version.key.startswith(end), found))
        if (past.version.key, past.version.version) in names
    }
    return [
        candidate
        for candidate in wanted
        if (past := now.get((candidate.key, candidate.version))) is not None
        and (past.hidden, past.shared) == (candidate.hidden, candidate.shared)
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
        shared=past.shared,
    )


def _seconds(version: Version) -> int:
    return int(version.last_modified.timestamp())
