"""Shared objects, and their end: gc's part of the protocol of ``dedup``. The writers' is ``storage/sharing.py``.

A shared object ``H.g`` is what several revisions have their bytes in. Nobody counts them: each has a reference of its
own, a key without bytes, which is judged as an object of its revision is. Of the shared object itself the database says
nothing; it goes when no reference is left, in two steps:

1. It has no reference, and is not young: an execution writes its *mark*, ``condemned/H.g``, and no more than that.
   Whoever begins to share these bytes from now on sees the mark and takes the next generation, ``H.{g+1}``.
2. A later plan finds the mark, ``gc-grace`` old, and still no reference: an execution deletes the object. The mark
   stays for good.

Why nothing in use is deleted. A record names ``H.g`` only where its writer put the reference first and saw no mark
after that. A plan lists the marks, whole, *before* it begins to list the references (``make_plan``). So of an object
with a listed mark every reference that a record may rely on was there before the mark, is there still, and is in the
listing that began later: a listing has whatever is there from its beginning to its end. What the clocks say does not
matter for that; ``gc-grace`` is a margin on top, for the writer that was stopped between its look and its upload, and
for whoever looks at what gc is about to do. Nor does it matter when the shared objects are listed: an object that is
marked without need is shared by nobody new, and no more.

Why a late request does no harm. A generation that has a mark is never begun again, and the mark is never removed: so a
delete that hung for a day deletes what was given up. A late mark makes writers begin a new generation. Both are sent
under the lease, and need not be.

That a mark is there still is looked at before each batch (``still_marked``), since no reference protects what is shared
after somebody removed it. Memory is flat: references are sorted on the local disk, see ``referring``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from itertools import takewhile

from ...keys import CONDEMNED, condemned_key, read_condemned_key, read_object_key
from ...objectstore.interfaces import IObjectStore
from ..findings import Stopped
from ..referring import InStep, References
from .candidate import DELETE, MARK, Candidate
from .lines import Lines
from .listing import Row
from .margins import Margins
from .report import SharedTally, Tally

_STEP = 1000  # lines of the listing between two calls of ``listed``, and objects between two looks at ``stop``


class Fate(Enum):
    """What becomes of a shared object now."""

    USED = "used"
    YOUNG = "young"
    MARK = "mark"
    WAIT = "wait"
    DELETE = "delete"


def fate(references: int, modified: int, mark: int | None, at: int, grace: float) -> Fate:
    """Decide. Pure. ``references``: how many a listing has that began after the marks were listed.

    ``modified``: when the object was written, ``mark``: when its mark was, None where it has none; ``at``: the store's
    time before anything was listed; all in seconds since 1970.
    """
    if references:
        return Fate.USED
    if mark is not None:
        return Fate.DELETE if at - mark >= grace else Fate.WAIT
    return Fate.YOUNG if at - modified < grace else Fate.MARK


class Sharing:
    """One plan's look at the marks, then at the references, then at the shared objects. In the order of its methods."""

    def __init__(self) -> None:
        self.tally = SharedTally()
        self._marks = Lines()
        self._references = References()

    def list_marks(self, store: IObjectStore, stop: threading.Event, listed: Callable[[int], None]) -> None:
        """All of them. Before the first reference is listed: see the module. Raises Stopped."""
        for number, line in enumerate(store.list(CONDEMNED), 1):
            if (name := read_condemned_key(line.key)) is not None:
                self._marks.add(f"{name}\t{int(line.last_modified.timestamp())}")
                self.tally.marks += 1
            if number % _STEP == 0:
                listed(_STEP)
                if stop.is_set():
                    raise Stopped

    def refer(self, shared: str) -> None:
        """A listed reference to that object, whether its revision is in use or not."""
        self._references.add(shared)

    def counts(self) -> Iterator[tuple[str, int]]:
        """Shared objects that are referred to, sorted by name, and how often. After the last ``refer``."""
        return self._references.counts()

    def judge(
        self,
        objects: Iterable[Row],
        tally: Tally,
        candidates: Lines,
        stop: threading.Event,
        at: int,
        margins: Margins,
    ) -> None:
        """Count ``objects``, which are sorted by key, and add candidates. ``at``: the store's time when the plan began.

        Raises Stopped, and StagingError.
        """
        shared = tally.shared = self.tally
        shared.references = len(self._references)
        referred = InStep(self.counts())
        marks = InStep((name, int(modified)) for name, modified in (line.split("\t") for line in self._marks))
        counts = {
            Fate.USED: shared.used,
            Fate.YOUNG: shared.young,
            Fate.MARK: shared.marking,
            Fate.WAIT: shared.waiting,
            Fate.DELETE: shared.condemned,
        }
        for number, (key, size, etag, modified) in enumerate(objects, 1):
            if number % _STEP == 0 and stop.is_set():
                raise Stopped
            name = key[key.rfind("/") + 1 :]
            references, mark = referred.get(name) or 0, marks.get(name)
            found = fate(references, modified, mark, at, margins.grace)
            counts[found].add(size)
            if references:
                shared.saved += size * (references - 1)
            elif found is Fate.WAIT and mark is not None:
                tally.wait_for(mark + int(margins.grace))
            elif found is Fate.MARK:
                candidates.add(Candidate(key, size, etag, modified, at, False, shared=MARK).to_line())
            elif found is Fate.DELETE and mark is not None:
                candidates.add(Candidate(key, size, etag, modified, mark, False, shared=DELETE).to_line())

    def close(self) -> None:
        self._marks.close()
        self._references.close()

    def __enter__(self) -> Sharing:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def mark_of(candidate: Candidate) -> str:
    """The key of the mark of a candidate with ``shared``."""
    name = read_object_key(candidate.key)
    if name is None:
        raise ValueError("not the key of a shared object")
    return condemned_key(name)


def still_marked(store: IObjectStore, wanted: list[Candidate], at: int, margins: Margins) -> list[Candidate]:
    """Those of a batch, which is in the order of keys, whose mark is there as the plan saw it, and old enough still."""
    if not wanted:
        return []
    by_mark = {mark_of(each): each for each in wanted}
    first, last = mark_of(wanted[0]), mark_of(wanted[-1])
    found = takewhile(lambda line: line.key <= last, store.list(CONDEMNED, start_after=first[:-1]))
    marks = {line.key: int(line.last_modified.timestamp()) for line in found if line.key in by_mark}
    return [each for key, each in by_mark.items() if marks.get(key) == each.since and at - each.since >= margins.grace]
