"""Blobs that are in the bucket already, made to share equal bytes: ``s3blobs dedup``.

Plan → execute → report, beside a running site, under gc's lease. No record is written: a blob that is converted loses
its own object, and readers find by its reference the one that it shares. Why nothing is lost by that, and no byte
changes, is in ``converting.py``. Equal are blobs of one SHA-256 and size, by their records, else by their objects'
metadata, else by reading them.

Left alone are revisions whose records name a shared object already. Such a one has an object of its own where that name
was given up once (``storage/sharing.py``: ``share_again``), and readers look nowhere else.

Memory does not grow: rows wait in the spool. What is largest comes first, so that a run that was stopped early has
saved most, and can be told by ``most`` to begin where it was.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import groupby, islice
from typing import Any

from ..errors import ConfigurationError, ObjectMissing, Refused, StoreError, Unavailable
from ..keys import blob_key, read_shared_name
from ..objectstore.clock import Clock
from ..objectstore.connection import recorded_sha256
from ..objectstore.interfaces import IObjectStore, Listed
from .bucket import Sharing
from .compare import Extra
from .comparing import Comparison
from .converting import Batch, Content, Conversion
from .findings import Count, Stopped
from .gc.margins import Margins
from .pace import Pace
from .parallel import in_parallel
from .reading import read_whole
from .rotate import held
from .spool import Spool, Table
from .usage import Failures

logger = logging.getLogger(__name__)

# Blobs of equal bytes that are converted by one task: one look for marks and one request that deletes are for all.
_BATCH = 100
# Blobs of which it is found out whether they are equal, before those of them that are get converted: a run that reads
# them (``hashing``) and is stopped has to read at most so many again.
_WINDOW = 10_000

# Where so many were refused and none was converted, a policy is in the way and will be of all others: each content
# would be stored once more, for nothing.
_REFUSED_ALL = 20

# Below this an object saved is worth less than the requests that its readers make instead. Bytes.
LEAST = 100 * 1024


@dataclass(frozen=True)
class Wish:
    """``least``, ``most``: bytes of the blobs that are converted, both included; ``most`` None: however large.
    ``hashing``: read what has no SHA-256 anywhere. ``limit_rate``: bytes a second of what is read or copied."""

    dry_run: bool = False
    least: int = LEAST
    most: int | None = None
    hashing: bool = False
    concurrency: int = 8
    limit_rate: int | None = None


@dataclass
class Report:
    """Each kept revision with an object of its own is one of these, with its bytes:

    ``small``, ``large``: outside of the sizes that were asked for; ``named``: its record names a shared object;
    ``unhashed``: nothing tells its SHA-256; ``single``: no other has its bytes; ``equal``: another one has, so that it
    is to be converted.

    Of ``equal`` were ``converted``: their bytes are freed; ``gone``: changed or deleted meanwhile; ``held``:
    kept by a legal hold, which is of one blob's object alone; ``locked``: kept by a retention, so that a deletion would
    free nothing (a dry run looks for neither); what is left failed.
    ``made``: shared objects that had to be made for that. With a dry run: what would be.

    ``shared``: blobs that shared before this run. ``asking``: of all that share, those whose records do not say so:
    until they are stored anew a machine's first read of them makes a request or two more. ``versions``: deleted objects
    that the bucket keeps as versions. ``below``: where a stopped run goes on, as ``Wish.most``; None where it did all.
    """

    small: Count = field(default_factory=Count)
    large: Count = field(default_factory=Count)
    named: Count = field(default_factory=Count)
    unhashed: Count = field(default_factory=Count)
    single: Count = field(default_factory=Count)
    equal: Count = field(default_factory=Count)
    converted: Count = field(default_factory=Count)
    made: Count = field(default_factory=Count)
    gone: Count = field(default_factory=Count)
    held: Count = field(default_factory=Count)
    locked: Count = field(default_factory=Count)
    shared: Count = field(default_factory=Count)
    asking: int = 0
    versions: int = 0
    failures: Failures = field(default_factory=Failures)
    below: int | None = None
    stopped: bool = False

    @property
    def saved(self) -> int:
        """Bytes: what was freed without what was made for it."""
        return self.converted.bytes - self.made.bytes


def document(report: Report, *, listed: int) -> dict[str, Any]:
    """For JSON. ``listed``: so many failures at most."""
    counts = "small large named unhashed single equal converted made gone held locked shared".split()
    return {
        **{name: asdict(getattr(report, name)) for name in counts},
        "saved_bytes": report.saved,
        "asking": report.asking,
        "versions": report.versions,
        "failed": report.failures.by_kind,
        "failures": report.failures.first[:listed],
        "below": report.below,
        "stopped": report.stopped,
    }


def dedup(run: Comparison, wish: Wish, running: Any) -> Report:
    """Everything, in the thread of the caller. ``running``: ``jobs/interfaces.py``.

    Raises ConfigurationError where nothing may be shared here; Refused where the store refuses everything; Taken where
    gc or another of its kind runs, or the lease is lost; Unavailable. What was converted until then stays so.
    """
    refuse(run)
    work = _Dedup(run, wish, running)
    if wish.dry_run:
        return work.whole(lambda: None)
    with held(run.store, Margins(), Clock()) as lease:
        return work.whole(lease.check)


def refuse(run: Comparison) -> None:
    """Raise ConfigurationError where nothing may be shared. Makes no request."""
    if not run.marker.deduplicated:
        raise ConfigurationError(
            "the bucket does not say yet that its blobs may share bytes, and a process of an older release could not"
            " read what does: set dedup on in every process of the site, restart them, and run it again"
        )
    if run.store.encryption.ring is not None:
        raise ConfigurationError(
            "zope.conf has keys of your own, for what is or was encrypted with them, and such blobs are not shared: the"
            " name of a shared object would tell the store's owner which file it is. Where none are left, take the"
            " section out of zope.conf"
        )


class Plan:
    """On disk: revisions with an object of their own that may be converted, and the shared objects that are there."""

    def __init__(self, spool: Spool) -> None:
        self.own: Table = spool.table("size INTEGER", "oid BLOB", "tid BLOB", "name TEXT", "sha256 BLOB")
        self.objects: Table = spool.table("size INTEGER", "sha256 BLOB")
        self.bytes = 0


class _Dedup:
    def __init__(self, run: Comparison, wish: Wish, running: Any) -> None:
        self._run = run
        self._store: IObjectStore = run.store
        self._wish = wish
        self._running = running
        self._stop: threading.Event = running.stop
        self._pace = Pace(wish.limit_rate)
        self._plan = Plan(run.spool)
        self.report = Report()

    def whole(self, check: Callable[[], None]) -> Report:
        """``check`` raises where the lease is lost."""
        report = self.report
        try:
            self._look()
        except Stopped:
            report.stopped = True
            return report
        plan = self._plan
        self._advance = self._running.phase("sharing", len(plan.own), plan.bytes)
        self._contents = _Sought(plan.objects.rows("size DESC", "sha256"))
        # Asked once, and not for each window. None: nobody may ask, so it may.
        self._locks = not self._wish.dry_run and self._store.locks_objects() is not False
        for window, largest in self._windows():
            report.below = largest
            for digested in self._digested(window):
                if not self._wish.dry_run:
                    self._convert_each(self._batches(digested), check)
                else:
                    for batch in self._batches(digested):
                        self._would(batch)
            if self._stop.is_set():
                report.stopped = True
                return report
        report.stopped, report.below = self._stop.is_set(), None
        return report

    # The plan: what there is

    def _look(self) -> None:
        run, report, plan, wish = self._run, self.report, self._plan, self._wish

        def found(name: str, line: Listed, references: int) -> None:
            plan.objects.add(line.size, read_shared_name(name)[0])

        with run.base() as base:
            advance = self._running.phase("reading the database")
            for item in run.streams(base, advance, self._stop, sharing=Sharing(found)):
                if self._stop.is_set():
                    raise Stopped
                if isinstance(item, Extra):
                    continue
                revision, size = item.revision, item.object_size
                if revision.damaged or revision.inline or item.repeats or size is None:
                    continue
                if item.shared:
                    report.shared.add(size)
                    report.asking += revision.object is None
                elif revision.object is not None:
                    report.named.add(size)
                elif size < wish.least:
                    report.small.add(size)
                elif wish.most is not None and size > wish.most:
                    report.large.add(size)
                elif revision.size in (None, size):  # else fsck tells
                    plan.own.add(size, revision.oid, revision.tid, revision.object_name, revision.sha256)
                    plan.bytes += size

    # Which are equal

    def _windows(self) -> Iterator[tuple[Table, int]]:
        """Those of which others have the same size, or a shared object has, the largest first, some thousands at a time
        with all of a size together; and the size of the largest."""
        columns = "size INTEGER", "oid BLOB", "name TEXT", "sha256 BLOB"
        window, largest = self._run.spool.table(*columns), None
        objects = _Sought(self._plan.objects.rows("size DESC"))
        for size, rows in groupby(self._plan.own.rows("size DESC", "oid", "tid"), key=lambda row: row[0]):
            if self._stop.is_set():
                break
            if len(window) >= _WINDOW and largest is not None:
                yield window, largest
                window, largest = self._run.spool.table(*columns), None
            if largest is None:
                largest = size
            for _, oid, _, name, sha256 in _several(rows, objects.has((-size,)), self._alone):
                window.add(size, oid, name, sha256)
        if largest is not None:
            yield window, largest

    def _alone(self, row: tuple[Any, ...]) -> None:
        self.report.single.add(row[0])
        self._advance(1, row[0])

    def _digested(self, window: Table) -> Iterator[Table]:
        """The same rows with the SHA-256 of each that has one; nothing after ``stop``."""
        known = self._run.spool.table("size INTEGER", "sha256 BLOB", "oid BLOB", "name TEXT")

        def unknown() -> Iterator[tuple[Any, ...]]:
            for row in window.rows():
                size, oid, name, sha256 = row
                if sha256 is None:
                    yield row
                else:
                    known.add(size, sha256, oid, name)

        running = in_parallel(
            unknown(), self._digest, concurrency=self._wish.concurrency, stop=self._stop, name="s3blobs-dedup"
        )
        with closing(running):
            for (size, oid, name, _), future in running:
                error = future.exception()
                if error is None and (sha256 := future.result()) is not None:
                    known.add(size, sha256, oid, name)
                    continue
                if error is None:
                    self.report.unhashed.add(size)
                elif isinstance(error, ObjectMissing):
                    self.report.gone.add(size)
                else:
                    self._failed(blob_key(oid, name), error)
                self._advance(1, size)
        if not self._stop.is_set():
            yield known

    def _digest(self, row: tuple[Any, ...]) -> bytes | None:
        size, oid, name, _ = row
        key = blob_key(oid, name)
        info = self._store.head(key)
        if info is None or info.size != size:
            raise ObjectMissing("There is no such object any more.")
        sha256 = recorded_sha256(info.metadata)
        if sha256 is None and self._wish.hashing:
            sha256 = read_whole(self._store, key, self._pace.take, size=size).sha256
        return sha256

    def _batches(self, known: Table) -> Iterator[Batch]:
        for (size, sha256), rows in groupby(known.rows("size DESC", "sha256", "oid"), key=lambda row: row[:2]):
            exists = self._contents.has((-size, sha256))
            content = Content(size, sha256, exists)
            several = _several(rows, exists, self._alone)
            while batch := [(oid, name) for _, _, oid, name in islice(several, _BATCH)]:
                self.report.equal.add(size, len(batch))
                yield Batch(content, batch)

    # Sharing

    def _would(self, batch: Batch) -> None:
        report, content = self.report, batch.content
        report.converted.add(content.size, batch.count)
        report.asking += batch.count
        if not content.exists:
            content.exists = True
            report.made.add(content.size)
        self._advance(batch.count, batch.count * content.size)

    def _convert_each(self, batches: Iterator[Batch], check: Callable[[], None]) -> None:
        report = self.report
        running = in_parallel(
            batches,
            lambda batch: Conversion(self._store, batch, check, self._pace.take, locks=self._locks).run(),
            concurrency=self._wish.concurrency,
            stop=self._stop,
            name="s3blobs-dedup",
        )
        with closing(running):
            for batch, future in running:
                size = batch.content.size
                self._advance(batch.count, batch.count * size)
                error = future.exception()
                if error is not None:
                    for oid, name in batch.revisions:
                        self._failed(blob_key(oid, name), error)
                    continue
                done = future.result()
                report.converted.add(size, done.converted)
                report.gone.add(size, done.gone)
                report.held.add(size, done.held)
                report.locked.add(size, done.locked)
                report.made.add(size, done.made)
                report.asking += done.converted
                report.versions += done.versions
                for key, failure in done.failed:
                    self._failed(key, failure)

    def _failed(self, key: str, error: BaseException) -> None:
        """Note it, and the others go on. Raises what ends the run: an outage, a lost lease, a fault of ours."""
        if not isinstance(error, StoreError) or isinstance(error, Unavailable):
            raise error
        logger.warning("%r was not shared: %s", key, error)
        failures = self.report.failures
        failures.add(key, error)
        if failures.by_kind == {"Refused": _REFUSED_ALL} and not self.report.converted.blobs:
            raise Refused(
                f"The object store refused to share all of the first {_REFUSED_ALL} blobs; allow s3:GetObject,"
                " s3:PutObject and s3:DeleteObject on blobs/* and objects/* to these credentials."
            )


class _Sought:
    """Rows of sizes, the largest first, and of what else they have, asked for in their order."""

    def __init__(self, rows: Iterator[tuple[Any, ...]]) -> None:
        self._rows = ((-size, *more) for size, *more in rows)
        self._next = next(self._rows, None)

    def has(self, wanted: tuple[Any, ...]) -> bool:
        """Whether a row begins so."""
        length = len(wanted)
        while self._next is not None and self._next[:length] < wanted:
            self._next = next(self._rows, None)
        return self._next is not None and self._next[:length] == wanted


def _several(
    rows: Iterator[tuple[Any, ...]], exists: bool, alone: Callable[[tuple[Any, ...]], None]
) -> Iterator[tuple[Any, ...]]:
    """The rows, where there are two at least, or something like them ``exists``; else ``alone`` is told."""
    first = next(rows, None)
    if first is None:
        return
    second = next(rows, None)
    if second is None and not exists:
        alone(first)
        return
    yield first
    if second is not None:
        yield second
    yield from rows
