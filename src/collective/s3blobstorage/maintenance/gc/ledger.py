"""Since when nothing refers to an object: ``gc/ledger`` in the bucket.

A text file. The first line is JSON: ``format``, ``at`` (when the last plan was made) and ``whole`` (when the last plan
of the whole prefix was), in seconds since 1970 by the store's clock. Then a line for each object that nothing refers
to, sorted by key::

    <key> TAB <since when, seconds since 1970> TAB <1: an earlier plan saw it in use; else 0>

An unfinished multipart upload is a line too: its key is ``upload SPACE <key> SPACE <upload id>``, which sorts behind
all others. A file and not a list, since it may have millions of lines.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby

from ...errors import ObjectMissing, RecordError
from ...keys import LEDGER
from ...objectstore.interfaces import IObjectStore
from .lines import Lines

FORMAT = 1
UPLOAD = "upload "


@dataclass(frozen=True, slots=True)
class Entry:
    """``since``: seconds since 1970. ``seen``: whether an earlier plan saw it in use."""

    key: str
    since: int
    seen: bool


class Ledger:
    """One state of it. ``etag``: of the object that it was read from; "" where there was none, and of a new one."""

    def __init__(self, at: int = 0, whole: int = 0, etag: str = "") -> None:
        self.at = at
        self.whole = whole
        self.etag = etag
        self._lines = Lines()

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, entry: Entry) -> None:
        """In the order of keys."""
        self._lines.add(f"{entry.key}\t{entry.since}\t{int(entry.seen)}")

    def entries(self) -> Iterator[Entry]:
        """All, sorted by key; one reader at a time. Raises RecordError where a line is damaged."""
        last = ""
        for line in self._lines:
            try:
                key, since, seen = line.split("\t")
                entry = Entry(key, int(since), seen == "1")
            except ValueError:
                raise _damaged() from None
            if key <= last:
                raise _damaged()
            last = key
            yield entry

    def close(self) -> None:
        self._lines.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def read_ledger(store: IObjectStore, *, exists: bool = True) -> Ledger:
    """What the bucket has. ``exists``: False where a listing just showed that there is none.

    Raises RecordError where it is damaged or of a newer release: without it every date would begin anew, which is for
    the operator to decide.
    """
    if not exists:
        return Ledger()
    with Lines() as whole:
        try:
            info = store.get_file(LEDGER, whole.file)
        except ObjectMissing:
            return Ledger()
        lines = iter(whole)
        try:
            header = json.loads(next(lines))
            version, ledger = header["format"], Ledger(int(header["at"]), int(header["whole"]), info.etag)
        except (StopIteration, ValueError, KeyError, TypeError):
            raise _damaged() from None
        if not isinstance(version, int) or version > FORMAT:
            raise RecordError(
                f"{LEDGER} under s3-prefix was written by a newer release of collective.s3blobstorage: upgrade this one"
            )
        for line in lines:
            ledger._lines.add(line)
        return ledger


def write_ledger(store: IObjectStore, ledger: Ledger) -> None:
    """Replace what the bucket has. Only the holder of the lease does so."""
    with Lines() as whole:
        whole.add(json.dumps({"format": FORMAT, "at": ledger.at, "whole": ledger.whole}))
        for line in ledger._lines:
            whole.add(line)
        store.put_file(LEDGER, whole.path, metadata={})


def spliced(newest: Ledger, ours: Ledger, within: Callable[[str], bool]) -> Ledger:
    """``ours`` for the keys that were judged, ``newest``, which another gc wrote meanwhile, for all others.

    What was judged and has no date in the newest may have been seen in use by that gc: then its date begins anew.
    """
    result = Ledger(max(newest.at, ours.at), max(newest.whole, ours.whole), newest.etag)
    both = heapq.merge(
        ((entry.key, 0, entry) for entry in newest.entries()), ((entry.key, 1, entry) for entry in ours.entries())
    )
    for key, found in groupby(both, key=lambda each: each[0]):
        by_side = {side: entry for _, side, entry in found}
        theirs, mine = by_side.get(0), by_side.get(1)
        if not within(key):
            if theirs is not None:
                result.add(theirs)
        elif mine is not None:
            result.add(mine if theirs is not None else Entry(key, ours.at, mine.seen))
    return result


def _damaged() -> RecordError:
    return RecordError(f"{LEDGER} under s3-prefix is damaged: restore it, or delete it, and every gc-keep begins anew")
