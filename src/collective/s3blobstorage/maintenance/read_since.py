"""Which blobs were read since a day, by the notes of all processes (``note-reads``)."""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from datetime import datetime, timedelta

from ..errors import UnsafeError
from ..keys import READS, read_note_key
from ..objectstore.interfaces import IObjectStore
from ..storage.read_notes import LIMIT, Oids
from .findings import Stopped
from .gc.control import read_control
from .gc.margins import HOUR

# Oids that are collected before they are sorted and doubles go: 16 MB.
_PIECE = 2_000_000
# Who may write tells so once an hour (``storage/witness.py``), and a request may be late.
_LIVES = 2 * HOUR


class Read:
    """Oids, of eight bytes each in memory, and ranges of them."""

    def __init__(self) -> None:
        self._oids = array("Q")
        self._new = array("Q")
        self._ranges: list[Oids] = []

    def add(self, oids: Oids) -> None:
        if oids.shift:
            self._ranges.append(oids)
            return
        self._new.extend(oids.members)
        if len(self._new) > _PIECE:
            self.end()

    def end(self) -> None:
        """All was added."""
        if self._new:
            self._oids = array("Q", _merged(self._oids, sorted(self._new)))
            self._new = array("Q")

    def __contains__(self, oid: int) -> bool:
        place = bisect_left(self._oids, oid)
        return (place < len(self._oids) and self._oids[place] == oid) or any(oid in each for each in self._ranges)


def _merged(one: array, other: list[int]) -> Iterator[int]:
    """Both are sorted; each once."""
    last = -1
    mine = theirs = 0
    while mine < len(one) or theirs < len(other):
        if theirs == len(other) or (mine < len(one) and one[mine] <= other[theirs]):
            value, mine = one[mine], mine + 1
        else:
            value, theirs = other[theirs], theirs + 1
        if value != last:
            last = value
            yield value


def read_since(store: IObjectStore, days: int, stop: threading.Event) -> Read:
    """What was read within the last ``days`` days. One listing, and a GET for each process and day.

    Raises UnsafeError where the notes do not cover the whole time: a day without any, or a process that lives and may
    write and has none. Stopped after ``stop``; RecordError where one is damaged.
    """
    now = store.now()
    first = f"{now - timedelta(days=days):%Y%m%d}"
    found: dict[str, set[str]] = {}
    for line in store.list(READS, start_after=f"{READS}{first}"):
        named = read_note_key(line.key)
        if named is not None:
            found.setdefault(named[0], set()).add(named[1])
    refuse_gaps(found, days, now)
    _refuse_silent(store, found, now)
    read = Read()
    for day, ids in sorted(found.items()):
        for id in sorted(ids):
            if stop.is_set():
                raise Stopped
            read.add(Oids.from_bytes(store.get_bytes(f"{READS}{day}/{id}", limit=LIMIT)))
    read.end()
    return read


def refuse_gaps(found: dict[str, set[str]], days: int, now: datetime) -> None:
    """Raise UnsafeError where a day has no note. Pure. Today's may still come, where there is one of yesterday."""
    for back in range(days, 0, -1):
        day = f"{now - timedelta(days=back):%Y%m%d}"
        if day not in found:
            raise UnsafeError(
                f"--unread-for: nobody noted what was read on {day[:4]}-{day[4:6]}-{day[6:]}, so it is not known for"
                " the whole time: set note-reads on in every process of the site, and wait for that long"
            )


def _refuse_silent(store: IObjectStore, found: dict[str, set[str]], now: datetime) -> None:
    lately = {id for back in (0, 1) for id in found.get(f"{now - timedelta(days=back):%Y%m%d}", ())}
    witnesses = read_control(store).witnesses
    silent = [
        id for id, line in witnesses.items() if (now - line.last_modified).total_seconds() < _LIVES and id not in lately
    ]
    if silent:
        raise UnsafeError(
            f"--unread-for: {len(silent):,} processes of the site do not note what is read (or began within this"
            f" minute, or ended within two hours before they had noted anything): gc/witness/{min(silent)} is one of"
            " them. Set note-reads on in every process"
        )
