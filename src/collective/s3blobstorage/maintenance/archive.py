"""Moving blobs that are old, large or not read to a cheaper storage class, or into a source: ``s3blobs archive``.

Plan → execute → report, beside a running site, under gc's lease from before the listing until the end. The plan is on
the local disk. A blob can be read at any instant:

- To a class: the store copies the object onto itself (``IObjectStore.reclass``).
- Into a source: the object is copied there under the same key; the copy is read whole as the site reads it, with the
  source's own credentials, and its SHA-256 compared with what the record or the object's metadata say; only then the
  object is deleted, by the ETag that it was read with. Who looks into the bucket afterwards is answered 404, and asks
  the source. Before the first deletion it is told in the bucket that what was known of any object being there may not
  hold any more, and waited until every process has asked.

A kill at any point leaves every blob readable, and the next run goes on: what is in the class already is counted as
there, and what lies in both places is compared again and deleted.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from persistent.TimeStamp import TimeStamp
from ZODB.utils import u64

from ..datatypes import ARCHIVES
from ..errors import Corrupt, ObjectMissing, PreconditionFailed, Refused, StoreError, Unavailable, UnsafeError
from ..keys import BLOBS, read_key
from ..objectstore.clock import Clock
from ..objectstore.connection import recorded_sha256
from ..objectstore.interfaces import Doomed, IObjectStore, Listed
from ..storage.address import ASK_AGAIN
from ..storage.mirrored import note_moving
from .findings import Count, Stopped
from .gc.lease import Lease
from .gc.lines import Lines
from .kept import KeptRevision
from .pace import Pace
from .parallel import in_parallel
from .read_since import Read
from .scope import LAST_OID, Scope
from .usage import Failures

logger = logging.getLogger(__name__)

_STEP = 1000  # lines of the listing between two calls of ``advance``
# Every process asks again within ``ASK_AGAIN`` seconds, and a request may be late.
_TOLD = ASK_AGAIN + 15.0
# The class of an object of which a listing names none.
_USUAL = "STANDARD"


@dataclass(frozen=True)
class Wish:
    """Which blobs: all that hold. ``older_than``: seconds since the newest revision that has the object;
    ``larger_than``: bytes as stored; ``unread``: what was read, of which nothing goes."""

    older_than: float | None = None
    larger_than: int | None = None
    unread: Read | None = None
    storage_class: str | None = None  # None: into a source
    scope: Scope = Scope()


@dataclass
class Plan:
    """``wanted``: what goes. Of the rest: ``there`` is in that class already, ``young``, ``small`` and ``read``,
    ``archived``: in an archive, so that it has to be restored first; ``unused``: no kept revision refers to it, which
    is gc's; ``other``: under keys of zodb-s3blobs, or a reference."""

    wanted: Count = field(default_factory=Count)
    there: Count = field(default_factory=Count)
    young: Count = field(default_factory=Count)
    small: Count = field(default_factory=Count)
    read: Count = field(default_factory=Count)
    archived: Count = field(default_factory=Count)
    unused: Count = field(default_factory=Count)
    other: Count = field(default_factory=Count)
    lines: Lines = field(default_factory=Lines)

    def rows(self) -> Iterator[Row]:
        for line in self.lines:
            key, size, etag, sha256 = line.split("\t")
            yield Row(key, int(size), etag, bytes.fromhex(sha256) or None)

    def as_json(self) -> dict[str, Any]:
        names = ("wanted", "there", "young", "small", "read", "archived", "unused", "other")
        return {name: asdict(getattr(self, name)) for name in names}

    def close(self) -> None:
        self.lines.close()

    def __enter__(self) -> Plan:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Row:
    """``sha256``: by the record, None where it says none."""

    key: str
    size: int
    etag: str
    sha256: bytes | None


@dataclass
class Report:
    """``moved``, and ``gone``: deleted or written anew since the plan. ``markers``: of what was moved into a source,
    how many are only hidden, since the bucket keeps versions."""

    moved: Count = field(default_factory=Count)
    gone: Count = field(default_factory=Count)
    markers: int = 0
    failures: Failures = field(default_factory=Failures)
    stopped: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            "moved": asdict(self.moved),
            "gone": asdict(self.gone),
            "markers": self.markers,
            "failed": self.failures.by_kind,
            "failures": self.failures.first,
            "stopped": self.stopped,
        }


def make_plan(
    store: IObjectStore,
    revisions: Iterator[KeptRevision],
    wish: Wish,
    stop: threading.Event,
    advance: Callable[[int], None] = lambda count: None,
) -> Plan:
    """List the bucket beside the kept revisions, which are sorted by oid. Writes nothing; the caller closes it.

    In the thread of the caller. Raises Stopped.
    """
    now = store.now().timestamp()
    plan = Plan()
    try:
        waiting = groupby(revisions, key=lambda revision: revision.oid)
        current: tuple[bytes, Any] | None = next(waiting, None)
        for oid, lines in _by_oid(store, wish.scope, plan, stop, advance):
            while current is not None and current[0] < oid:
                current = next(waiting, None)
            used = _names(current[1]) if current is not None and current[0] == oid else {}
            for name, line in lines:
                _judge(plan, wish, now, oid, used.get(name), line)
    except BaseException:
        plan.close()
        raise
    return plan


def _by_oid(
    store: IObjectStore, scope: Scope, plan: Plan, stop: threading.Event, advance: Callable[[int], None]
) -> Iterator[tuple[bytes, list[tuple[str, Listed]]]]:
    end = f"{BLOBS}{scope.last.hex()}/~"

    def ours() -> Iterator[tuple[bytes, str, Listed]]:
        start = f"{BLOBS}{scope.first.hex()}" if any(scope.first) else ""
        for number, line in enumerate(store.list(BLOBS, start_after=start), 1):
            if number % _STEP == 0:
                advance(_STEP)
                if stop.is_set():
                    raise Stopped
            if scope.last != LAST_OID and line.key > end:
                return
            named = read_key(line.key)
            if named is None:
                plan.other.add(line.size)
            else:
                yield *named, line

    for oid, found in groupby(ours(), key=lambda each: each[0]):
        yield oid, [(name, line) for _, name, line in found]


def _names(revisions: Iterator[KeptRevision]) -> dict[str, KeptRevision]:
    """The newest revision of each object of one blob."""
    return {revision.object_name: revision for revision in revisions if not (revision.inline or revision.damaged)}


def _judge(plan: Plan, wish: Wish, now: float, oid: bytes, revision: KeptRevision | None, line: Listed) -> None:
    if revision is None:
        plan.unused.add(line.size)
    elif line.storage_class in ARCHIVES:
        (plan.there if line.storage_class == wish.storage_class else plan.archived).add(line.size)
    elif wish.storage_class is not None and (line.storage_class or _USUAL) == wish.storage_class:
        plan.there.add(line.size)
    elif wish.older_than is not None and max(0.0, now - TimeStamp(revision.tid).timeTime()) < wish.older_than:
        plan.young.add(line.size)
    elif wish.larger_than is not None and line.size <= wish.larger_than:
        plan.small.add(line.size)
    elif wish.unread is not None and u64(oid) in wish.unread:
        plan.read.add(line.size)
    else:
        plan.wanted.add(line.size)
        plan.lines.add(f"{line.key}\t{line.size}\t{line.etag}\t{(revision.sha256 or b'').hex()}")


def to_class(
    store: IObjectStore,
    plan: Plan,
    storage_class: str,
    lease: Lease,
    running: Any,
    *,
    concurrency: int,
    limit_rate: int | None = None,
) -> Report:
    """Have the store keep each in that class. Under the lease; in the thread of the caller but for the copies.

    Raises Refused where the store refuses the class, or takes and does not keep it, Unavailable, and Taken.
    """
    pace = Pace(limit_rate)

    def move(row: Row) -> Any:
        lease.check()
        store.reclass(row.key, storage_class, if_match=row.etag, progress=pace.take)
        return 0

    report = Report()
    advance = running.phase("moving", plan.wanted.blobs, plan.wanted.bytes)
    rows = plan.rows()
    first = next(rows, None)
    if first is None:
        return report
    # One object alone, before all others: a store that forgets the class would copy each for nothing.
    result = _tried(move, first)
    if type(result) is Refused:
        raise Refused(
            f"--class {storage_class}: the object store refuses it: it has no such class (Ceph has those of its"
            " placement), or s3-access-key may not s3:PutObject on blobs/*"
        )
    _noted(report, first, result, advance)
    if report.moved.blobs:
        told = store.head(first.key)
        kept = told.storage_class if told is not None else ""
        if (kept or _USUAL) != storage_class:
            raise Refused(
                f"--class {storage_class}: the object store took it, and keeps the object as {kept or _USUAL}: it has"
                " no such class"
            )
    return _moved(rows, move, report, advance, running.stop, concurrency)


@dataclass
class Places:
    """Where blobs go. ``target``: the source's bucket and prefix, opened for writing; ``reader``: the same as the site
    opens it, with the source's own credentials."""

    store: IObjectStore
    target: IObjectStore
    reader: IObjectStore


def to_source(
    places: Places,
    plan: Plan,
    lease: Lease,
    running: Any,
    *,
    concurrency: int,
    limit_rate: int | None = None,
    clock: Clock | None = None,
    told: float = _TOLD,
) -> Report:
    """Copy each to the source, compare, and delete it from the bucket. As ``to_class``.

    ``told``: how long it is waited, before the first deletion, for every process to hear of it.
    """
    report = Report()
    if not plan.wanted.blobs:
        return report
    pace = Pace(limit_rate)
    _wait(places.store, clock or Clock(), running, told)
    if running.stop.is_set():
        report.stopped = True
        return report

    locks = places.store.locks_objects() is not False  # None: nobody may ask, so it may

    def move(row: Row) -> int:
        lease.check()
        if locks:
            _refuse_locked(places.store, row.key)
        _copied(places, row, pace)
        lease.check()
        deleted = places.store.delete_each([Doomed(row.key, row.etag)])
        for code in deleted.failed.values():
            raise Refused(f"It is in both places: the object store refuses to delete it from the bucket ({code}).")
        return deleted.markers

    advance = running.phase("moving", plan.wanted.blobs, plan.wanted.bytes)
    return _moved(plan.rows(), move, report, advance, running.stop, concurrency)


def _refuse_locked(store: IObjectStore, key: str) -> None:
    """What Object Lock keeps would be hidden here and take its room, and what is read then would not be kept."""
    lock = store.lock_of(key)
    if lock.legal_hold:
        raise Refused("It has a legal hold, which is of the object in this bucket: it stays there.")
    if lock.keeps_at(store.now()):
        raise Refused(f"It is kept in this bucket until {lock.until:%Y-%m-%d} (Object Lock): it stays there.")


def _wait(store: IObjectStore, clock: Clock, running: Any, seconds: float) -> None:
    note_moving(store, f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ} ")
    advance = running.phase("telling all processes", int(seconds))
    until = clock.monotonic() + seconds
    while (left := until - clock.monotonic()) > 0 and not running.stop.is_set():
        clock.sleep(min(1.0, left))
        advance(1)


def _copied(places: Places, row: Row, pace: Pace) -> None:
    """Have it in the source, whole and as the site will read it."""
    info = places.store.head(row.key)
    if info is None:
        raise ObjectMissing("The object is gone.")
    sha256 = row.sha256 or recorded_sha256(info.metadata)
    copied = places.target.head(row.key)  # what an earlier run copied; of copies stores ignore If-None-Match
    if copied is None and sha256 is not None:  # else nothing would prove that the copy has the right bytes
        metadata = {**info.metadata, "size": str(info.size), "sha256": sha256.hex()}
        copied = places.target.copy_from(places.store, info, row.key, metadata=metadata)
    if copied is None or sha256 is None:
        sha256 = _carried(places, row, sha256, pace)
    else:
        pace.take(info.size)
    compared = _Compared()
    places.reader.get_file(row.key, compared, size=info.size, sha256=sha256)  # type: ignore[arg-type]
    if compared.digest() != sha256:
        raise Corrupt("The source has other bytes under that key.")


def _carried(places: Places, row: Row, sha256: bytes | None, pace: Pace) -> bytes:
    """Through this machine's disk; the SHA-256 of what was read."""
    with tempfile.TemporaryFile(prefix="s3blobs-archive-") as file:
        info = places.store.get_file(row.key, file, sha256=sha256)
        if info.etag != row.etag:
            raise PreconditionFailed("The object was changed.")
        file.flush()
        if sha256 is None:
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").digest()
        metadata = {name: text for name, text in info.metadata.items() if name in ("oid", "tid")}
        path = Path(f"/dev/fd/{file.fileno()}")
        try:
            places.target.put_file(row.key, path, metadata=metadata, sha256=sha256, if_absent=True, progress=pace.take)
        except PreconditionFailed:
            pass  # an earlier run was killed behind that; what is there is read by the caller
        return sha256


class _Compared:
    """A file that keeps nothing but the SHA-256 of what is written."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def write(self, block: bytes | memoryview) -> int:
        self._hash.update(block)
        return len(block)

    def seek(self, offset: int) -> int:
        return offset

    def truncate(self, size: int) -> int:
        if size == 0:
            self._hash = hashlib.sha256()
        return size

    def flush(self) -> None:
        pass

    def digest(self) -> bytes:
        return self._hash.digest()


def _moved(
    rows: Iterator[Row],
    move: Callable[[Row], int],
    report: Report,
    advance: Callable[[int, int], None],
    stop: threading.Event,
    concurrency: int,
) -> Report:
    running = in_parallel(
        rows, lambda row: _tried(move, row), concurrency=concurrency, stop=stop, name="s3blobs-archive"
    )
    with closing(running) as ended:
        for row, future in ended:
            _noted(report, row, future.result(), advance)
    report.stopped = stop.is_set()
    return report


def _tried(move: Callable[[Row], int], row: Row) -> int | StoreError:
    """What the others go on after is returned: all but an outage, and a lease that was lost."""
    try:
        return move(row)
    except Unavailable:
        raise
    except StoreError as error:
        return error


def _noted(report: Report, row: Row, result: int | StoreError, advance: Callable[[int, int], None]) -> None:
    if isinstance(result, ObjectMissing | PreconditionFailed):
        report.gone.add(row.size)
    elif isinstance(result, StoreError):
        logger.warning("%r was not moved: %s", row.key, result)
        report.failures.add(row.key, result)
    else:
        report.moved.add(row.size)
        report.markers += result
    advance(1, row.size)


def refuse_kept(store: IObjectStore, settings: Any) -> None:
    """Raise UnsafeError where what is moved stays where it was, since it is kept."""
    if settings.retention is not None:
        raise UnsafeError(
            "retention is set, so that the bucket keeps what is moved from it until its date, and nothing is saved: let"
            " the store move it instead, which makes no new version: s3blobs lifecycle --move STANDARD_IA=60"
        )
