"""What Object Lock keeps, and until when, as an execution met it: ``gc/locked`` in the bucket.

A store says of a listing's versions neither that they are locked nor until when, and answers a deletion that a policy
forbids in the same way. So it is asked once for each version that it did not delete, and until the date that it told
nobody tries again.

A text file. The first line is JSON: ``format``. Then a line for each version, sorted by key::

    <key> TAB <version> TAB <until, seconds since 1970>
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Mapping
from itertools import groupby

from ...errors import ObjectMissing, RecordError
from ...keys import LOCKED
from ...objectstore.interfaces import IObjectStore, Lock
from .lines import Lines
from .margins import DAY

FORMAT = 1

# A legal hold ends when somebody says so, who tells gc nothing: whether it is over is asked again after so long.
HELD = 7 * DAY

Entry = tuple[str, str, int]


class Locked:
    """One state of it, on the local disk. For one thread at a time."""

    def __init__(self) -> None:
        self._lines = Lines()

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, key: str, version: str, until: int) -> None:
        """In the order of keys; within a key in any order."""
        self._lines.add(f"{key}\t{version}\t{until}")

    def entries(self) -> Iterator[Entry]:
        """One reader at a time. Raises RecordError where a line is damaged."""
        last = ""
        for line in self._lines:
            try:
                key, version, until = line.split("\t")
                entry = key, version, int(until)
            except ValueError:
                raise _damaged() from None
            if key < last:
                raise _damaged()
            last = key
            yield entry

    def close(self) -> None:
        self._lines.close()

    def __enter__(self) -> Locked:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Pages:
    """The entries beside a listing in the order of keys, page by page."""

    def __init__(self, locked: Locked) -> None:
        self._entries = locked.entries()
        self._next = next(self._entries, None)

    def upto(self, last: str) -> Mapping[tuple[str, str], int]:
        """Until when, by key and version, of the keys after those of the page before and up to ``last``."""
        found = {}
        while self._next is not None and self._next[0] <= last:
            key, version, until = self._next
            found[key, version] = max(until, found.get((key, version), 0))
            self._next = next(self._entries, None)
        return found


def ends(lock: Lock, at: int) -> int:
    """Until when it is of no use to try, in seconds since 1970; 0 where nothing keeps it. ``at``: now."""
    until = 0 if lock.until is None else int(lock.until.timestamp()) + 1
    return max(until, at + int(HELD)) if lock.legal_hold else until


def read_locked(store: IObjectStore, *, exists: bool) -> Locked:
    """What the bucket has. ``exists``: False where a listing just showed that there is none.

    Raises RecordError where it is damaged or of a newer release.
    """
    if not exists:
        return Locked()
    with Lines() as whole:
        try:
            store.get_file(LOCKED, whole.file)
        except ObjectMissing:
            return Locked()
        lines = iter(whole)
        try:
            version = json.loads(next(lines))["format"]
        except (StopIteration, ValueError, KeyError, TypeError):
            raise _damaged() from None
        if not isinstance(version, int) or version > FORMAT:
            raise RecordError(
                f"{LOCKED} under s3-prefix was written by a newer release of collective.s3blobstorage: upgrade this one"
            )
        locked = Locked()
        for line in lines:
            locked._lines.add(line)
        return locked


def write_locked(store: IObjectStore, earlier: Locked, met: Locked, at: int) -> None:
    """Add what was met to what the bucket has, and drop what is over. Only the holder of the lease does so."""
    with Lines() as whole:
        whole.add(json.dumps({"format": FORMAT}))
        both = heapq.merge(earlier.entries(), met.entries(), key=lambda entry: entry[0])
        for key, found in groupby(both, key=lambda entry: entry[0]):
            until: dict[str, int] = {}
            for _, version, end in found:
                until[version] = max(end, until.get(version, 0))
            whole.extend(f"{key}\t{version}\t{end}" for version, end in until.items() if end > at)
        store.put_file(LOCKED, whole.path, metadata={})


def _damaged() -> RecordError:
    return RecordError(f"{LOCKED} under s3-prefix is damaged: delete it, and gc asks again what is locked")
