"""The phases: compare, read where asked for, look again at what seems wrong, name its content, mend where asked for."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, groupby, islice, takewhile
from typing import Any

from ...cache.interfaces import IBlobCache
from ...errors import Corrupt, ObjectMissing, Refused, StoreError, Unavailable
from ...keys import (
    BLOBS,
    OBJECTS,
    is_addon_key,
    is_bookkeeping,
    is_upload_key,
    read_condemned_key,
    read_foreign_key,
    read_object_key,
    reference_key,
)
from ...objectstore.clock import Clock
from ...objectstore.interfaces import Listed
from ...overlay.interfaces import IOverlay, Revision
from ..bucket import BlobObject, Sharing
from ..compare import Extra
from ..comparing import Comparison
from ..content import Content, content_of
from ..findings import REST, REVISION, Stopped, revision_of, revision_row
from ..gc.candidate import name_of
from ..gc.lease import Lease, Taken, refuse_held
from ..gc.margins import MINUTE, Margins
from ..gc.references import View
from ..kept import KeptRevision, kept_revision, record_of
from ..pace import Pace
from ..parallel import in_parallel
from ..rotate import held
from ..sought import sought
from .finding import (
    DAMAGED,
    LISTED,
    MISSING,
    NO_REFERENCE,
    WRONG_ENCRYPTION,
    Finding,
    Reading,
    Report,
    Shared,
    as_json,
    finding_table,
)
from .judge import RIGHT, Wanted
from .look import BY_METADATA, BY_RECORD, Looked, look, read
from .mend import ANOTHER, CHANGED, NOT, Mended, Mender

_PAGE = 1000  # oids that the base is told of at a time
# Who has read for hours waits so long for a gc that is about to end. Seconds.
_PATIENCE = 5 * MINUTE
_PAUSE = 2.0
_NAMED = 10_000  # blobs whose content is looked for: they, and what is found, are in memory


@dataclass(frozen=True)
class Wish:
    """``deep``: read the objects too, of which ``sample`` percent at random, behind the key ``after``. ``repair``, with
    ``dry_run`` only said. ``limit_rate``: bytes a second."""

    deep: bool = False
    sample: float = 100.0
    after: str = ""
    repair: bool = False
    dry_run: bool = False
    concurrency: int = 8
    limit_rate: int | None = None


Opened = Callable[[Any], AbstractContextManager[IOverlay]]


def fsck(
    run: Comparison,
    wish: Wish,
    running: Any,
    overlay: Opened,
    cache: Callable[[IOverlay], AbstractContextManager[IBlobCache]],
) -> Report:
    """Everything, in the thread of the caller. ``running``: ``jobs/interfaces.py``.

    ``overlay`` opens the sources, given the base, and ``cache`` this machine's, only where something is to be mended.
    ``run.spool`` has the findings afterwards. Raises Unavailable and Refused where the bucket cannot be listed: then
    nothing is said of any blob; Taken where another has the lease that mending needs when it begins.
    """
    work = _Fsck(run, wish, running)
    if work.mends:
        refuse_held(run.store, Margins())
    try:
        work.compare()
    except Stopped:
        return Report(stopped=True)
    report = work.report
    if wish.deep:
        work.read()
    if report.outage:
        return report
    with run.base() as base, overlay(base) as sources:
        work.look_again(base, sources)
        work.judge_orphans(base)
        work.tell(base, sources, cache)
    return report


@dataclass
class _Task:
    """One object to be read, with the revisions that need it. ``before``: the key of the one before it."""

    number: int
    key: str
    revisions: list[KeptRevision]
    before: str


class _Fsck:
    def __init__(self, run: Comparison, wish: Wish, running: Any) -> None:
        self._run = run
        self._wish = wish
        self._running = running
        self._store = run.store
        self._stop: threading.Event = running.stop
        self._pace = Pace(wish.limit_rate)
        spool = run.spool
        self._doubtful = finding_table(spool)
        self._refused = finding_table(spool)
        self._findings = finding_table(spool)
        self._extra = spool.table("oid BLOB", "key TEXT", "bytes INTEGER")
        self._loose = spool.table("key TEXT", "bytes INTEGER")  # shared objects that no reference names
        self._there = spool.table(*REVISION, "key TEXT", "bytes INTEGER") if wish.deep else None
        self._contents: dict[bytes, Content] = {}  # by oid, of findings
        self._bytes = 0  # of what is in ``_there``
        self._right = ""  # the key of an object that could be read
        self.report = Report()
        self.report.told = spool.table("oid BLOB", "tid BLOB", "text TEXT")
        self.report.orphan_rows = spool.table("oid BLOB", "key TEXT", "bytes INTEGER")

    @property
    def mends(self) -> bool:
        """Whether it may change something."""
        return self._wish.repair and not self._wish.dry_run

    # Two streams

    def compare(self) -> None:
        run, report, wanted = self._run, self.report, Wanted.of(self._store.encryption)
        doubtful, extra, there = self._doubtful, self._extra, self._there
        with run.base() as base:
            advance = self._running.phase("comparing")
            for item in run.streams(base, advance, self._stop, self._passed, self._sharing()):
                if isinstance(item, Extra):
                    found = item.found
                    assert isinstance(found, BlobObject)
                    extra.add(found.oid, found.own_key, item.size)
                    continue
                revision = item.revision
                report.revisions += 1
                kind = wanted.judge(item)
                if kind is not RIGHT:
                    key = "" if revision.damaged else item.key
                    doubtful.add(*Finding(kind, revision, key, item.object_size, "", revision.damaged).row)
                    continue
                if revision.inline:
                    report.inline += 1
                    continue
                if item.object_size is not None:
                    report.there.add(item.object_size)
                    if wanted.seals and item.stored == revision.size:
                        report.waiting.add(item.stored)
                else:
                    report.old.add(item.old_size)
                if there is not None:
                    size = item.object_size if item.object_size is not None else item.old_size
                    there.add(*revision_row(revision), item.key, size)
                    self._bytes += 0 if item.shared else size or 0
        if run.scope.whole:
            self._outside()

    def _sharing(self) -> Sharing | None:
        if not self._run.marker.deduplicated:
            return None
        shared = self.report.shared = Shared()
        began, whole = self._store.now(), self._run.scope.whole and self._run.inventory is None

        def found(name: str, line: Listed, references: int) -> None:
            shared.objects += 1
            shared.bytes += line.size
            shared.references += references
            if references:
                self._bytes += line.size if self._there is not None else 0
            elif whole and line.last_modified < began:  # of a new one the reference came after its page of the listing
                self._loose.add(line.key, line.size)

        def broken(oid: bytes, name: str, object: str) -> None:
            shared.broken += 1
            self._extra.add(oid, reference_key(oid, name, object), 0)

        return Sharing(found, broken)

    def _outside(self) -> None:
        """What lies before and behind the keys that were compared, and unfinished uploads."""
        store, listing, scope = self._store, self._run.listing, self._run.scope
        first, last = f"{BLOBS}{scope.first.hex()}/", f"{BLOBS}{scope.last.hex()}/~"
        for line in takewhile(lambda line: line.key <= first, listing.list()):
            self._passed(line)
        if self.report.shared is None:
            behind = listing.list(start_after=last)
        else:  # shared objects were listed
            between = takewhile(lambda line: line.key < OBJECTS, listing.list(start_after=last))
            behind = chain(between, listing.list(start_after=f"{OBJECTS}\U0010ffff"))
        for line in behind:
            self._passed(line)
        try:
            self.report.uploads = sum(1 for _ in store.list_uploads())
        except Refused:
            self.report.uploads = None

    def _passed(self, line: Listed) -> None:
        key, report = line.key, self.report
        if is_bookkeeping(key) or is_addon_key(key) or is_upload_key(key):
            return
        if report.shared is not None and read_condemned_key(key) is not None:
            return
        if read_foreign_key(key) is not None:
            if not self._run.marker.foreign_keys:
                report.not_adopted.add(line.size)
            return
        report.foreign.add(line.size)
        if len(report.foreign_keys) < LISTED:
            report.foreign_keys.append(key)

    # Reading them

    def read(self) -> None:
        """Each object once, however many revisions need it. After ``stop`` those under way end."""
        assert self._there is not None
        report, wish = self.report, self._wish
        reading = report.reading = Reading(sample=wish.sample, begun_after=wish.after)
        report.waiting = type(report.waiting)()
        advance = self._running.phase("reading", len(self._there), self._bytes)

        def moved(count: int) -> None:
            self._pace.take(count)
            advance(0, count)

        def work(task: _Task) -> Looked:
            return read(self._store, task.revisions[0], (task.key,), moved)

        position, first_wrong = _Position(wish.after), None
        running = in_parallel(self._tasks(), work, concurrency=wish.concurrency, stop=self._stop, name="s3blobs-fsck")
        with closing(running):
            for task, future in running:
                error = future.exception()
                if isinstance(error, Unavailable):
                    report.outage = str(error)
                    break
                advance(len(task.revisions), 0)
                if error is None:
                    is_right = self._note(task, future.result(), reading)
                else:
                    is_right = False
                    self._not_read(task, error)
                if not is_right and (first_wrong is None or task.number < first_wrong.number):
                    first_wrong = task
                position.done(task)
        if report.outage:
            # Nothing is said of what was found wrong until now, since nobody can look again: it is read once more.
            report.after = min(position.key, first_wrong.before) if first_wrong is not None else position.key
        elif self._stop.is_set():
            report.stopped, report.after = True, position.key
        for row in self._refused.rows():
            finding = Finding.from_row(row)
            if reading.by_record + reading.by_metadata + reading.by_size:
                self._doubtful.add(*finding.row)  # others could be read: it is this one, and no policy
            else:
                report.cannot_tell(finding.revision, finding.detail)

    def _tasks(self) -> Iterator[_Task]:
        assert self._there is not None
        chance, share = random.Random(), self._wish.sample / 100
        number, before = 0, self._wish.after
        for key, rows in groupby(self._there.rows("key", "tid"), key=lambda row: row[REST]):
            if key <= self._wish.after or (share < 1 and chance.random() >= share):
                continue
            # Of those with one object, the record that says most of it first.
            revisions = sorted(map(revision_of, rows), key=lambda revision: revision.sha256 is None)
            yield _Task(number, key, revisions, before)
            number, before = number + 1, key

    def _note(self, task: _Task, looked: Looked, reading: Reading) -> bool:
        reading.objects.add(looked.size)
        if looked.waits:
            self.report.waiting.add(looked.size)
        if looked.kind is not RIGHT:
            for revision in task.revisions:
                self._doubtful.add(*_found(looked, revision).row)
            return False
        self._right = looked.key
        if looked.proof == BY_RECORD:
            reading.by_record += 1
        elif looked.proof == BY_METADATA:
            reading.by_metadata += 1
        else:
            reading.by_size += 1
        return True

    def _not_read(self, task: _Task, error: BaseException) -> None:
        if not isinstance(error, StoreError):
            raise error
        if not isinstance(error, Refused):
            for revision in task.revisions:
                self.report.cannot_tell(revision, str(error))
            return
        detail = f"the store refuses it; it may need a key that zope.conf does not have: {error}"
        for revision in task.revisions:
            self._refused.add(*Finding(WRONG_ENCRYPTION, revision, task.key, None, _REFUSED, detail).row)

    def _keys(self, revision: KeptRevision) -> Iterator[str]:
        marker = self._run.marker
        return sought(self._store, revision, deduplicated=marker.deduplicated, with_foreign_keys=marker.foreign_keys)

    # Again

    def look_again(self, base: Any, overlay: IOverlay) -> None:
        """What seemed wrong, in the database and the bucket as they are now."""
        report = self.report
        if not len(self._doubtful):
            return
        # What was found until somebody stopped is worth a HEAD of each.
        stop = threading.Event() if report.stopped else self._stop
        advance = self._running.phase("looking again", len(self._doubtful))
        running = in_parallel(
            self._still_kept(base),
            partial(self._again, overlay),
            concurrency=self._wish.concurrency,
            stop=stop,
            name="s3blobs-fsck",
        )
        with closing(running):
            for finding, future in running:
                advance(1)
                self._settle(finding, future)
        report.stopped = report.stopped or stop.is_set()

    def _still_kept(self, base: Any) -> Iterator[Finding]:
        """In the thread that has the base."""
        for row in self._doubtful.rows():
            finding = Finding.from_row(row)
            oid, tid = finding.revision.oid, finding.revision.tid
            record = record_of(base, oid, tid)
            if not record:
                self.report.gone += 1
                continue
            revision = kept_revision(oid, tid, record)
            if revision.damaged:
                self._findings.add(*replace(finding, kind=DAMAGED, revision=revision, detail=revision.damaged).row)
            elif not revision.inline:
                yield replace(finding, revision=revision)

    def _again(self, overlay: IOverlay, finding: Finding, *, mending: bool = False) -> Finding | str:
        """A finding that holds, or where the blob is: ``there`` or ``elsewhere``. ``mending``: a source that went away
        since somebody looked is no outage of the bucket; another place may have the bytes."""
        revision = finding.revision
        try:
            looked = look(self._store, revision, self._keys(revision))
        except Refused:
            if finding.etag == _REFUSED and self._may_read():
                return replace(finding, etag="")
            raise
        if looked.kind is RIGHT and finding.etag:
            if looked.etag == finding.etag and finding.kind != WRONG_ENCRYPTION:
                return finding  # what reading it told holds as long as it is the same object
            # Another key may open it by now: a rotation leaves its bytes, and so its ETag.
            looked = read(self._store, revision, self._keys(revision), self._pace.take)
        if looked.kind is RIGHT and self._lacks_reference(revision, looked.key):
            detail = "it shares an object that gc deletes after some time, since its reference is missing"
            return Finding(NO_REFERENCE, revision, looked.key, looked.size, detail=detail)
        if looked.kind is RIGHT:
            return "there"
        found = _found(looked, revision)
        if looked.kind == MISSING:
            try:
                if overlay.has(Revision(revision.oid, revision.tid, revision.state)):
                    return "elsewhere"
            except Corrupt as error:
                return replace(found, detail=f"{found.detail} as it must be ({error})")
            except (Unavailable, Refused):
                if not mending:
                    raise
        return found

    def _lacks_reference(self, revision: KeptRevision, key: str) -> bool:
        """Whether a record names the shared object there, and no reference does."""
        if revision.object is None or read_object_key(key) is None:
            return False
        reference = reference_key(revision.oid, revision.object_name, revision.object)
        return next(iter(self._store.list(reference, page_size=1)), None) is None

    def _may_read(self) -> bool:
        """Whether the store does not refuse everything by now, as where credentials ended meanwhile: what could be read
        before is asked for once more. Raises Refused where it does."""
        self._store.stored(self._right)
        return True

    def _settle(self, finding: Finding, future: Future[Finding | str]) -> None:
        report, error = self.report, future.exception()
        if isinstance(error, Unavailable | Refused):
            report.cannot_tell(finding.revision, str(error))
        elif error is not None and not isinstance(error, ObjectMissing):
            raise error
        elif error is not None:
            self._findings.add(*replace(finding, kind=MISSING, etag="", object_size=None).row)
        elif isinstance(result := future.result(), Finding):
            self._findings.add(*result.row)
        elif result == "there":
            report.there.add(finding.revision.size)
        else:
            report.elsewhere.add(finding.revision.size)

    def judge_orphans(self, base: Any) -> None:
        """Of objects that no revision needed when the records were read: one may have come since."""
        orphans = self.report.orphan_rows
        assert orphans is not None
        self._judge_loose()
        if not len(self._extra):
            return
        view = View(base, live=True)  # also of a ZEO client that is in use
        folders = groupby(self._extra.rows("oid"), key=lambda row: row[0])
        advance = self._running.phase("looking at objects that nothing needs", len(self._extra))
        pages = iter(lambda: [(oid, list(rows)) for oid, rows in islice(folders, _PAGE)], [])
        for page in pages:
            if self._stop.is_set() and not self.report.stopped:
                self.report.stopped = True
                return
            view.prefetch([oid for oid, _ in page])
            for oid, rows in page:
                used = view.used(oid, {name_of(key) for _, key, _ in rows})
                for _, key, size in rows:
                    if name_of(key) not in used:
                        orphans.add(oid, key, size)
                        self.report.orphaned.add(size)
            advance(sum(len(rows) for _, rows in page))

    def _judge_loose(self) -> None:
        """Shared objects that nothing refers to, but for those that a record names all the same."""
        orphans = self.report.orphan_rows
        assert orphans is not None
        named = (row[REST + 1] for row in self._findings.rows("key") if row[REST] == NO_REFERENCE)
        key = next(named, None)
        for loose, size in self._loose.rows("key"):
            while key is not None and key < loose:
                key = next(named, None)
            if key != loose:
                orphans.add(b"", loose, size)
                self.report.orphaned.add(size)

    # What is told

    def tell(
        self, base: Any, overlay: IOverlay, cache: Callable[[IOverlay], AbstractContextManager[IBlobCache]]
    ) -> None:
        self._contents = self._content_of_findings(base)
        if not self._wish.repair or self.report.stopped or not len(self._findings):
            self._tell_all(None)
            return
        self.report.repaired = {}
        with cache(overlay) as through:
            if self._wish.dry_run:
                mender = Mender(self._store, overlay, through, lambda: None, self._pace.take, dry_run=True)
                self._mend_each(self._by_object(), mender.mend)
            else:
                self._mend(overlay, through)
        self.report.stopped = self._stop.is_set()

    def _mend(self, overlay: IOverlay, cache: IBlobCache) -> None:
        """Under the lease. It is taken now, and not for the hours of reading, so gc, a rotation or another repair may
        have been here since the findings were looked at. From now on none changes the bucket: each record and object
        is looked at once more, and mended only where it is wrong in the same way. What a pack gives up after that look
        is an orphan as any other, which gc finds.
        """
        with ExitStack() as stack:
            try:
                lease = self._leased(stack)
            except Taken as error:
                self._tell_all(Mended(NOT, detail=str(error)))
                return
            except Refused as error:
                self._tell_all(Mended(NOT, detail=f"the store refuses the lease below gc/: {error}"))
                return
            except Unavailable as error:
                self.report.outage = str(error)
                self._tell_all(None)
                return
            base = stack.enter_context(self._run.base())  # as the database is by now
            mender = Mender(self._store, overlay, cache, lease.check, self._pace.take)
            self._mend_each(self._needed(base), partial(self._mend_if_same, mender, overlay))

    def _tell_all(self, mended: Mended | None) -> None:
        for finding in map(Finding.from_row, self._findings.rows("oid", "tid")):
            self._tell(finding, mended)

    def _leased(self, stack: ExitStack) -> Lease:
        clock = Clock()
        until = clock.monotonic() + _PATIENCE
        while True:
            try:
                return stack.enter_context(held(self._store, Margins(), clock))
            except Taken:
                if clock.monotonic() > until or self._stop.is_set():
                    raise
                self._pause()

    def _pause(self) -> None:
        self._stop.wait(_PAUSE)

    def _mend_if_same(self, mender: Mender, overlay: IOverlay, findings: list[Finding]) -> Mended:
        finding = findings[0]
        if finding.kind == DAMAGED or (finding.kind == WRONG_ENCRYPTION and not finding.etag):
            return mender.mend(findings)  # which only says what to do
        try:
            now = self._again(overlay, finding, mending=True)
        except ObjectMissing:
            return Mended(CHANGED, detail=ANOTHER)
        except Refused as error:
            return Mended(NOT, detail=f"the store refuses it: {error}")
        if not isinstance(now, Finding):
            return Mended(CHANGED, detail="it is right by now")
        if (now.kind, now.etag) != (finding.kind, finding.etag):
            return Mended(CHANGED, detail=ANOTHER)
        return mender.mend(findings)

    def _mend_each(self, objects: Iterator[list[Finding]], work: Callable[[list[Finding]], Mended]) -> None:
        """And tell what became of them. What comes after an outage, or a lost lease, is not tried."""
        advance = self._running.phase("repairing", len(self._findings))
        stop, rest = _Either(self._stop), None
        running = in_parallel(objects, work, concurrency=self._wish.concurrency, stop=stop, name="s3blobs-fsck")
        with closing(running):
            for findings, future in running:
                error, mended = future.exception(), None
                if isinstance(error, Unavailable):
                    self.report.outage = str(error)
                    stop.here.set()
                elif isinstance(error, Taken):
                    mended = rest = Mended(NOT, detail=str(error))
                    stop.here.set()
                else:
                    mended = future.result()
                for finding in findings:
                    self._tell(finding, mended)
                advance(len(findings))
        for findings in objects:
            for finding in findings:
                self._tell(finding, rest)

    def _needed(self, base: Any) -> Iterator[list[Finding]]:
        """Those of ``_by_object`` whose revisions are still kept. In the thread that has the base."""
        for findings in self._by_object():
            kept = []
            for finding in findings:
                if record_of(base, finding.revision.oid, finding.revision.tid):
                    kept.append(finding)
                else:
                    self.report.gone += 1
            if kept:
                yield kept

    def _by_object(self) -> Iterator[list[Finding]]:
        """Those of one object are mended once, and never at the same time: of the record that says most of it."""
        rows = self._findings.rows("key", "oid", "tid")
        for key, same in groupby(rows, key=lambda row: row[REST + 1]):
            findings = list(map(Finding.from_row, same))
            if key:
                yield sorted(findings, key=lambda finding: finding.revision.sha256 is None)
            else:  # of damaged records nobody knows the object
                yield from ([finding] for finding in findings)

    def _content_of_findings(self, base: Any) -> dict[bytes, Content]:
        """One pass over the database, where there are findings. Who stopped does not wait for it."""
        if self.report.stopped:
            return {}
        oids = [oid for oid, _ in islice(groupby(self._findings.rows("oid"), key=lambda row: row[0]), _NAMED)]
        advance = self._running.phase("finding their content") if oids else None

        def counted(count: int) -> None:
            if self._stop.is_set():
                raise Stopped
            if advance is not None:
                advance(count)

        try:
            return content_of(base, oids, self._run.spool, counted)
        except Stopped:
            self.report.stopped = True
            return {}

    def _tell(self, finding: Finding, mended: Mended | None) -> None:
        report, told = self.report, self.report.told
        assert told is not None
        report.found[finding.kind] = report.found.get(finding.kind, 0) + 1
        if mended is not None and report.repaired is not None:
            report.repaired[mended.what] = report.repaired.get(mended.what, 0) + 1
        revision = finding.revision
        told.add(
            revision.oid,
            revision.tid,
            json.dumps(as_json(finding, self._contents.get(revision.oid), mended), ensure_ascii=False),
        )


_REFUSED = "refused"  # in the place of the ETag of an object that nobody could look at


def _found(looked: Looked, revision: KeptRevision) -> Finding:
    return Finding(looked.kind, revision, looked.key, looked.size, looked.etag, looked.detail)


class _Either(threading.Event):
    """Set where the one or the other is."""

    def __init__(self, other: threading.Event) -> None:
        super().__init__()
        self._other = other
        self.here = threading.Event()

    def is_set(self) -> bool:
        return self._other.is_set() or self.here.is_set()


@dataclass
class _Position:
    """``key``: up to that one all are read. What ended out of order waits, by number."""

    key: str
    _next: int = 0
    _ended: dict[int, str] = field(default_factory=dict)

    def done(self, task: _Task) -> None:
        self._ended[task.number] = task.key
        while self._next in self._ended:
            self.key = self._ended.pop(self._next)
            self._next += 1
