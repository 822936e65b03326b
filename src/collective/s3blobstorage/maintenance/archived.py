"""Blobs in an archive of the store: which they are, by the listing, and the requests to have them restored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

from ..datatypes import ARCHIVES
from ..errors import ObjectMissing, StoreError, Unavailable
from ..keys import BLOBS, is_bookkeeping, read_foreign_key, read_key, read_reference_key
from ..objectstore.interfaces import IObjectStore, Listed, Restoring
from .bucket import shared_objects
from .findings import Count
from .parallel import in_parallel
from .spool import Spool, Table
from .usage import Failures

# Requests at a time: each is answered at once, and the store carries them out as it likes.
_AT_ONCE = 8

OidRange = tuple[bytes, bytes]


@dataclass
class Report:
    """``archived``: blobs whose storage class is an archive, by what the listing says. Of these ``begun``: a restore
    was asked for now; ``under_way``: somebody had asked; ``readable``: a copy can be read; ``gone``: deleted meanwhile,
    or in no archive any more."""

    archived: Count = field(default_factory=Count)
    begun: Count = field(default_factory=Count)
    under_way: Count = field(default_factory=Count)
    readable: Count = field(default_factory=Count)
    gone: Count = field(default_factory=Count)
    classes: Counter[str] = field(default_factory=Counter)
    failures: Failures = field(default_factory=Failures)
    stopped: bool = False

    def as_json(self) -> dict[str, Any]:
        named = ("archived", "begun", "under_way", "readable", "gone")
        return {
            **{name: asdict(getattr(self, name)) for name in named},
            "classes": dict(self.classes),
            "failed": self.failures.count,
            "failures": self.failures.first,
            "stopped": self.stopped,
        }


def look(store: IObjectStore, oids: OidRange | None, running: Any, *, beside: bool = False) -> Report:
    """Which blobs lie in an archive. ``running``: ``jobs/interfaces.py``; in the thread of the caller.

    ``beside``: in place of blobs what this package keeps beside them, as the owner marker, without which nothing opens.
    """
    report = Report()
    for _ in _archived(store, oids, report, running, beside):
        pass
    report.stopped = running.stop.is_set()
    return report


def restore(
    store: IObjectStore, days: int, tier: str, oids: OidRange | None, running: Any, *, beside: bool = False
) -> Report:
    """Ask the store for a copy of each that can be read for ``days``. ``tier`` as ``IObjectStore.restore``, in lower
    case; ``beside`` as ``look``.

    What the store refuses for one is counted, and the others are asked for; raises Unavailable. Asking twice does no
    harm.
    """
    report = Report()
    noted = {
        Restoring.BEGUN: report.begun,
        Restoring.UNDER_WAY: report.under_way,
        Restoring.READABLE: report.readable,
        Restoring.NOT_ARCHIVED: report.gone,
    }

    def ask(line: Listed) -> Restoring:
        return store.restore(line.key, days, tier.capitalize())

    lines = _archived(store, oids, report, running, beside)
    with closing(in_parallel(lines, ask, concurrency=_AT_ONCE, stop=running.stop, name="s3blobs-restore")) as answers:
        for line, future in answers:
            error = future.exception()
            if error is None:
                noted[future.result()].add(line.size)
            elif isinstance(error, ObjectMissing):
                report.gone.add(line.size)
            elif isinstance(error, StoreError) and not isinstance(error, Unavailable):
                report.failures.add(line.key, error)
            else:
                raise error
    report.stopped = running.stop.is_set()
    return report


def _archived(
    store: IObjectStore, oids: OidRange | None, report: Report, running: Any, beside: bool
) -> Iterator[Listed]:
    advance = running.phase("listing the bucket")
    lines = store.list() if beside else _of_blobs(store, oids)
    for line in lines:
        if running.stop.is_set():
            return
        advance(1)
        if line.storage_class not in ARCHIVES or (beside and not is_bookkeeping(line.key)):
            continue
        report.archived.add(line.size)
        report.classes[line.storage_class] += 1
        yield line


def _of_blobs(store: IObjectStore, oids: OidRange | None) -> Iterator[Listed]:
    """What has the bytes of these blobs: objects of their own, then what they share, each once."""
    with Spool() as spool:
        references = spool.table("shared TEXT")
        # From the beginning: keys of zodb-s3blobs are not in the order of oids.
        for line in store.list(BLOBS):
            reference = read_reference_key(line.key)
            oid = _oid(line.key) if reference is None else reference[0]
            if oid is None or (oids and not oids[0] <= oid <= oids[1]):
                continue
            if reference is None:
                yield line
            elif oids:
                references.add(reference[2])
        if oids:
            yield from _referred(store, references)
        else:
            yield from (line for _, line in shared_objects(store))


def _referred(store: IObjectStore, references: Table) -> Iterator[Listed]:
    if not len(references):
        return
    names = (name for name, _ in groupby(row[0] for row in references.rows("shared")))
    name = next(names, None)
    for shared, line in shared_objects(store):
        while name is not None and name < shared:
            name = next(names, None)
        if name == shared:
            yield line


def _oid(key: str) -> bytes | None:
    found = read_key(key) or read_foreign_key(key)
    return None if found is None else found[0]
