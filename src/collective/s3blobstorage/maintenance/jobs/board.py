"""The jobs of a prefix, as the bucket has them: ``jobs/{kind}/{number}``, ``….cancel`` of one that is to stop, and
``….findings`` of an fsck that found more than the job's own object names.

A job is begun by writing the next number of its kind with ``If-None-Match: *``: of several that try, the store lets
one. The newest number of a kind counts. An older one that says it runs was taken over, whatever it writes from then on;
who runs it sees the newer number at its next sign of life, and stops.

Where the store does not keep the condition, whoever wrote the number waits ``WAIT`` and looks again: of several that
wrote it the last one finds its own document there, and goes on. One that writes still later takes the job from one that
runs, which looks before each sign of life, and stops.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from ...errors import Corrupt, JobRuns, ObjectMissing, PreconditionFailed, RecordError, StoreError
from ...keys import JOBS
from ...objectstore.clock import Clock
from ...objectstore.interfaces import IObjectStore, Listed
from .interfaces import INTERRUPTED, INTERRUPTED_AFTER, KINDS, RUNNING, Job
from .job import CANCEL, FINDINGS, from_json, job_document, job_id, job_key, read_job_id, read_job_key, seen, to_json
from .kept_findings import LIMIT, unpacked
from .process import is_dead

logger = logging.getLogger(__name__)

KEPT = timedelta(days=90)  # a quarter's reports; the last of each kind stays
# Seconds, as gc's ``claim_wait``: longer than between a store's answer to a listing and the end of a small PUT.
WAIT = 3.0
_AT_ONCE = 8  # a page of 25 jobs: four round trips in place of 25
_LIMIT = 1 << 22  # bytes of a job: a hundred lines and a bounded result have far less


@dataclass
class Listing:
    """What lies below ``jobs/``: by kind, the objects of jobs by number, the numbers of those that are to stop, and of
    those whose findings are kept."""

    now: datetime
    jobs: dict[str, dict[int, Listed]] = field(default_factory=lambda: defaultdict(dict))
    cancelled: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    findings: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))

    def newest(self, kind: str) -> int:
        """The newest number of that kind; 0 where there never was one."""
        return max(self.jobs.get(kind, ()), default=0)


class Board:
    """Reads and writes them. Any thread; each method makes requests. ``after``: see ``INTERRUPTED_AFTER``. ``clock``:
    for the pause of ``begin``."""

    def __init__(self, store: IObjectStore, after: float = INTERRUPTED_AFTER, clock: Clock | None = None) -> None:
        self._store = store
        self._clock = clock or Clock()
        self._after = timedelta(seconds=after)

    def listing(self, kind: str = "", *, since: int = 1) -> Listing:
        """One request for less than a thousand objects. ``since``: only from that number of the kind on."""
        start = job_key(kind, since - 1) + CANCEL if since > 1 else ""
        lines = list(self._store.list(f"{JOBS}{kind}/" if kind else JOBS, start_after=start))
        found = Listing(self._store.now())
        for line in lines:
            read = read_job_key(line.key)
            if read is None:
                continue  # somebody else's, which stays
            of, number, what = read
            if what == CANCEL:
                found.cancelled[of].add(number)
            elif what == FINDINGS:
                found.findings[of].add(number)
            else:
                found.jobs[of][number] = line
        return found

    def read(self, listing: Listing, kind: str, number: int) -> Job:
        """Raises KeyError where it is gone, RecordError where it is damaged."""
        line = listing.jobs.get(kind, {}).get(number)
        if line is None:
            raise KeyError(job_id(kind, number))
        try:
            job = from_json(self._store.get_bytes(line.key, limit=_LIMIT))
        except ObjectMissing:
            raise KeyError(job_id(kind, number)) from None
        job = seen(job, line.last_modified, cancelling=number in listing.cancelled[kind])
        if job.state == RUNNING and (
            number < listing.newest(kind) or listing.now - job.beat > self._after or is_dead(job.process)
        ):
            return replace(job, state=INTERRUPTED, ended=job.beat)
        return job

    def get(self, id: str) -> Job:
        """Raises KeyError."""
        kind, number = read_job_id(id)
        return self.read(self.listing(kind, since=number), kind, number)

    @property
    def is_certain(self) -> bool:
        """Whether the store lets one of several begin."""
        return bool(self._store.conditional_put)  # type: ignore[attr-defined]

    def begin(self, kind: str, job: Job) -> tuple[Job, int, bytes]:
        """Write ``job`` as the next one of its kind: it with its id, and what it goes on with; its number; and what was
        written.

        Raises JobRuns where one of its kind runs, or was faster. Takes ``WAIT`` where the store does not keep the
        condition.
        """
        listing = self.listing(kind)
        newest = listing.newest(kind)
        resumed = None
        if newest:
            last = self.read(listing, kind, newest)
            if last.state == RUNNING:
                raise JobRuns(
                    f"the job {last.id} runs on {last.host or 'another machine'} since {last.started:%Y-%m-%d %H:%M}"
                    " UTC: wait until it has ended, or cancel it",
                    last.id,
                )
            if last.state == INTERRUPTED:
                resumed = last.id
                self.write(last, newest)  # as everybody sees it already, for good
        number = newest + 1
        job = replace(job, id=job_id(kind, number), resumed=resumed)
        written = to_json(job)
        faster = JobRuns(f"another job of this kind ({kind}) began just now", job_id(kind, number))
        try:
            self._store.put_bytes(job_key(kind, number), written, if_absent=True)
        except PreconditionFailed:
            raise faster from None
        if not self.is_certain:
            self._clock.sleep(WAIT)
            if not self.is_still(kind, number, [written]):
                raise faster
        self._sweep(kind, listing)
        return job, number, written

    def is_still(self, kind: str, number: int, written: Collection[bytes]) -> bool:
        """Whether the job's object is one of these, and nobody else's."""
        try:
            return self._store.get_bytes(job_key(kind, number), limit=_LIMIT) in written
        except ObjectMissing:
            return False

    def write(self, job: Job, number: int) -> None:
        self.write_document(to_json(job), job.kind, number)

    def write_document(self, document: bytes, kind: str, number: int) -> None:
        """``document``: as ``to_json`` made it."""
        self._store.put_bytes(job_key(kind, number), document)

    def write_findings(self, data: bytes, kind: str, number: int) -> None:
        """``data``: as ``kept_findings.packed`` made it."""
        self._store.put_bytes(job_key(kind, number) + FINDINGS, data)

    def findings(self, job: Job) -> list[Mapping[str, Any]]:
        """What an fsck found, as many as are kept: one request where its report does not have them all."""
        told = job.result or {}
        listed: list[Mapping[str, Any]] = list(told.get("findings") or ())
        if int(told.get("findings_kept") or 0) <= len(listed):
            return listed
        kind, number = read_job_id(job.id)
        try:
            return unpacked(self._store.get_bytes(job_key(kind, number) + FINDINGS, limit=LIMIT))
        except (ObjectMissing, RecordError, Corrupt) as error:
            logger.warning("of what %s found only the first %s are known: %s", job.id, len(listed), error)
            return listed

    def ask_to_stop(self, id: str) -> None:
        """Raises KeyError."""
        job = self.get(id)
        if job.state == RUNNING:
            kind, number = read_job_id(id)
            self._store.put_bytes(job_key(kind, number) + CANCEL, b"")

    def ended(self, kind: str, number: int) -> None:
        """Nobody needs to be asked to stop any more. A failure is no matter."""
        try:
            self._store.delete([job_key(kind, number) + CANCEL])
        except StoreError as error:
            logger.info("the wish to cancel %s stays: %s", job_id(kind, number), error)

    def _sweep(self, kind: str, listing: Listing) -> None:
        """Delete what is older than ``KEPT``; credentials that may not delete leave it."""
        newest = listing.newest(kind)
        old = {
            number
            for number, line in listing.jobs.get(kind, {}).items()
            if number < newest and listing.now - line.last_modified > KEPT
        }
        stay = listing.jobs.get(kind, {}).keys() - old
        doomed = [job_key(kind, number) for number in old]
        doomed += [job_key(kind, number) + CANCEL for number in listing.cancelled[kind] if number <= newest]
        doomed += [job_key(kind, number) + FINDINGS for number in listing.findings[kind] - stay if number <= newest]
        try:
            if doomed:
                self._store.delete(doomed)
        except StoreError as error:
            logger.info("old jobs stay below %s: %s", JOBS, error)

    def page(self, kind: str | None, start: int, size: int) -> tuple[list[Job], int]:
        """Jobs of a kind, or of all, the newest first, and how many there are."""
        listing = self.listing(kind or "")
        places = [
            (line.last_modified, number, of)
            for of in (KINDS if kind is None else (kind,))
            for number, line in listing.jobs.get(of, {}).items()
        ]
        places.sort(reverse=True)
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="s3blobs-jobs") as pool:
            read = pool.map(
                lambda place: self._read_if_there(listing, place[2], place[1]), places[start : start + size]
            )
            return [job for job in read if job is not None], len(places)

    def _read_if_there(self, listing: Listing, kind: str, number: int) -> Job | None:
        """None where it was swept since, or is damaged, or of a newer release: the others are there to be seen."""
        try:
            return self.read(listing, kind, number)
        except KeyError:
            return None
        except (RecordError, Corrupt) as error:
            logger.warning("%s is passed over: %s", job_key(kind, number), error)
            return None

    def newest_first(self, kind: str, most: int) -> Iterator[Job]:
        """The last ``most`` jobs of a kind at most: one request, and one for each that is taken."""
        listing = self.listing(kind)
        for number in sorted(listing.jobs.get(kind, ()), reverse=True)[:most]:
            job = self._read_if_there(listing, kind, number)
            if job is not None:
                yield job

    def latest(self) -> dict[str, tuple[Job | None, Job | None]]:
        """Of each kind the newest that ended, and the one that runs. One request, and one or two for each kind."""
        listing = self.listing()
        with ThreadPoolExecutor(len(KINDS), thread_name_prefix="s3blobs-jobs") as pool:
            return dict(zip(KINDS, pool.map(lambda kind: self._latest(listing, kind), KINDS), strict=True))

    def _latest(self, listing: Listing, kind: str) -> tuple[Job | None, Job | None]:
        running = None
        for number in sorted(listing.jobs.get(kind, ()), reverse=True):
            job = self._read_if_there(listing, kind, number)
            if job is not None and job.state != RUNNING:
                return job, running
            running = job or running
        return None, running


def latest_documents(store: IObjectStore) -> dict[str, dict[str, Any]]:
    """The last job of each kind and the running one, as JSON has them. Requests as ``Board.latest``."""
    return {
        kind: {"last": ended and job_document(ended), "running": running and job_document(running)}
        for kind, (ended, running) in Board(store).latest().items()
    }
