"""Jobs of one database's storage, started in this process or seen in the bucket."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from zope.interface import implementer

from ...errors import ConfigurationError, Refused, S3BlobStorageError, StoreError, UnsafeError
from ...objectstore.clock import Clock
from ...objectstore.interfaces import IObjectStore
from ...objectstore.redaction import redact
from ..findings import Stopped
from ..gc.control import read_control
from ..gc.margins import Margins
from ..gc.publish import NoPlan, read_plan
from .board import Board
from .interfaces import (
    CANCELLED,
    DONE,
    FAILED,
    INTERRUPTED,
    INTERRUPTED_AFTER,
    KINDS,
    RUNNING,
    IJobs,
    Job,
    Kind,
)
from .job import read_job_id, to_json
from .process import this_process
from .running import Running

logger = logging.getLogger(__name__)

# Seconds between two signs of life, each a listing and a PUT: often at first, when somebody looks at the bar, later a
# hundredth of the time that it runs, so that the bar still moves as long as it is looked at. A day's job at AWS costs
# three cents for that.
FIRST_BEAT = 2.0
LAST_BEAT = 30.0
_SHARE = 0.01

# A job that could not say that it lives stops itself before another may take it over. Seconds.
_MARGIN = 60.0

# What closing waits for jobs to end: as long as a supervisor waits before it kills.
_CLOSING = 5.0

_WITHOUT_CONDITION = (
    "the object store has no atomic conditional write, so that two processes could start it at once: use the command"
    " line, `s3blobs {command}`"
)
_COMMANDS = {
    "gc": "gc",
    "fsck": "fsck",
    "mirror": "mirror",
    "migrate": "migrate",
    "rotate": "keys rotate",
    "count": "status",
    "report": "report",
}


@implementer(IJobs)
class Jobs:
    """See ``IJobs``. ``works``: an ``IWork`` for each kind, and ``operated``: what they are done on; without them only
    ``run`` starts anything. ``writable``: False where nothing may be started that writes. ``when_ended`` is called when
    a job of this process has ended and its report is written, in the job's thread."""

    def __init__(
        self,
        store: IObjectStore,
        works: Mapping[str, Any] | None = None,
        operated: Any = None,
        *,
        writable: bool = True,
        clock: Clock | None = None,
        interrupted_after: float = INTERRUPTED_AFTER,
        when_ended: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._works = works or {}
        self._operated = operated
        self._writable = writable
        self._clock = clock or Clock()
        self._after = interrupted_after
        self._when_ended = when_ended
        self._board = Board(store, interrupted_after, self._clock)
        self._lock = threading.Lock()
        self._here: dict[str, _Attended] = {}  # by id
        self._closed = False

    def kinds(self) -> list[Kind]:
        return [Kind(name, self._why_not(name), dict(self._works[name].defaults)) for name in KINDS]

    def _why_not(self, kind: str) -> str:
        if not self._writable:
            return "this process may not write to the bucket: set read-only off, and put no DemoStorage around it"
        if not self._store.conditional_put:  # type: ignore[attr-defined]
            return _WITHOUT_CONDITION.format(command=_COMMANDS[kind])
        return str(self._works[kind].why_not(self._operated))

    def start(self, kind: str, options: Mapping[str, Any], by: str = "") -> Job:
        if kind not in self._works:
            raise ValueError(f"kind is one of {', '.join(KINDS)}")
        work = self._works[kind]
        given = _options(work.defaults, options)
        work.check(self._operated, given)
        why_not = self._why_not(kind)
        if why_not:
            raise ConfigurationError(f"{kind} cannot be started here: {why_not}")
        attended = self._begin(kind, given, by, threading.Event())
        thread = threading.Thread(
            target=attended.do_in_background,
            args=(lambda running: work(self._operated, given, running),),
            name=f"s3blobs-job-{kind}",
            daemon=True,  # nobody waits for it when the process ends; what it leaves is resumed
        )
        attended.thread = thread
        thread.start()
        return attended.job

    def run(
        self,
        kind: str,
        options: Mapping[str, Any],
        work: Callable[[Any], Mapping[str, Any]],
        *,
        stop: threading.Event | None = None,
        complain: Callable[[str], Any] = logger.warning,
    ) -> Mapping[str, Any]:
        stop = stop or threading.Event()
        try:
            attended = self._begin(kind, options, "", stop)
        except Refused:
            complain("others do not see this job: the credentials may not write below jobs/ (s3:PutObject)")
            return work(Running(self._now, stop))
        return attended.do(work)

    def _begin(self, kind: str, options: Mapping[str, Any], by: str, stop: threading.Event) -> _Attended:
        if self._closed:
            raise ConfigurationError("the storage is closed")
        now = self._store.now()
        who = {"host": socket.gethostname(), "pid": os.getpid(), "process": this_process(), "by": by}
        fresh = Job("", kind, RUNNING, dict(options), now, now, **who)
        job, number, written = self._board.begin(kind, fresh)

        def keep(findings: bytes) -> None:
            self._board.write_findings(findings, kind, number)

        attended = _Attended(self, job, number, written, Running(self._now, stop, keep))
        with self._lock:
            self._here[job.id] = attended
            closed = self._closed  # meanwhile: whoever closed did not see it
        if closed:
            attended.close()
        return attended

    def _now(self) -> datetime:
        return datetime.now(UTC)

    def get(self, id: str) -> Job:
        with self._lock:
            here = self._here.get(id)
        # Its own process knows more than the bucket does, and needs no request.
        return self._board.get(id) if here is None else here.told()

    def list(self, kind: str | None = None, *, start: int = 0, size: int = 25) -> tuple[list[Job], int]:
        if kind is not None and kind not in KINDS:
            raise ValueError(f"kind is one of {', '.join(KINDS)}")
        return self._board.page(kind, start, size)

    def latest(self) -> dict[str, tuple[Job | None, Job | None]]:
        return self._board.latest()

    def cancel(self, id: str) -> None:
        read_job_id(id)
        with self._lock:
            here = self._here.get(id)
        if here is not None:
            here.cancel()
        else:
            self._board.ask_to_stop(id)

    def findings(self, job: Job, *, start: int = 0, size: int = 25) -> tuple[list[Mapping[str, Any]], int]:
        found = self._board.findings(job)
        return found[start : start + size], len(found)

    def candidates(self, plan: str, *, start: int = 0, size: int = 25) -> tuple[list[dict[str, Any]], int]:
        try:
            found = read_plan(self._store, read_control(self._store), plan, Margins())
        except (NoPlan, UnsafeError):
            raise KeyError(plan) from None
        with found.lines:
            lines = islice(found.candidates(), start, start + size)
            return [candidate.document() for candidate in lines], len(found.lines)

    def ended(self, id: str) -> None:
        with self._lock:
            self._here.pop(id, None)
        self._when_ended()

    @property
    def running_here(self) -> tuple[str, ...]:
        """Ids of the jobs that this process runs."""
        with self._lock:
            return tuple(self._here)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            here = list(self._here.values())
        for attended in here:
            attended.close()
        until = self._clock.monotonic() + _CLOSING
        for attended in here:
            if attended.thread is not None:
                attended.thread.join(max(0.0, until - self._clock.monotonic()))


class _Attended:
    """One job that this process runs, and the thread that says so. ``do`` belongs to the thread that works."""

    def __init__(self, jobs: Jobs, job: Job, number: int, written: bytes, running: Running) -> None:
        self.job = job
        self.thread: threading.Thread | None = None
        self._jobs = jobs
        self._board = jobs._board
        self._clock = jobs._clock
        self._number = number
        self._written = [written]  # what may be there: the last document, and one of which no answer came
        self._running = running
        self._ended = threading.Event()
        self._lost = False  # another took it over, or may have
        self._closing = False
        self._cancelling = False
        self._begun = self._alive = self._clock.monotonic()

    def told(self) -> Job:
        return self._running.told(replace(self.job, beat=self._jobs._now(), cancelling=self._cancelling))

    def cancel(self) -> None:
        self._cancelling = True
        self._running.stop.set()

    def close(self) -> None:
        self._closing = True
        self._running.stop.set()

    def do_in_background(self, work: Callable[[Any], Mapping[str, Any]]) -> None:
        try:
            self.do(work)
        except S3BlobStorageError as error:
            logger.warning("the job %s failed: %s", self.job.id, error)
        except Stopped:
            pass
        except BaseException:
            logger.exception("the job %s failed", self.job.id)

    def do(self, work: Callable[[Any], Mapping[str, Any]]) -> Mapping[str, Any]:
        """Work, and tell the bucket how it goes and how it ended. Returns and raises as ``work`` does."""
        beating = threading.Thread(target=self._beat, name=f"s3blobs-beat-{self.job.kind}", daemon=True)
        beating.start()
        result: Mapping[str, Any] | None = None
        state, error = FAILED, ""
        try:
            result = work(self._running)
            state = self._stopped_as() if self._running.stop.is_set() else DONE
            return result
        except Stopped:
            state = self._stopped_as()
            raise
        except S3BlobStorageError as failure:
            state, error = (self._stopped_as(), "") if self._running.stop.is_set() else (FAILED, redact(str(failure)))
            raise
        except KeyboardInterrupt:
            state = CANCELLED
            raise
        except BaseException as failure:
            error = f"an error of this program, {type(failure).__name__}: the log of the process has it"
            raise
        finally:
            self._ended.set()
            beating.join()
            self._end(state, result, error)

    def _stopped_as(self) -> str:
        return INTERRUPTED if self._lost or self._closing else CANCELLED

    def _end(self, state: str, result: Mapping[str, Any] | None, error: str) -> None:
        try:
            if not self._lost:
                now = self._jobs._store.now()
                ended = replace(self.told(), state=state, result=result, error=error, ended=now, beat=now)
                self._write(ended)
                if self._cancelling:  # a wish that comes later is swept by the next of its kind
                    self._board.ended(self.job.kind, self._number)
        except StoreError as failure:
            logger.warning("how the job %s ended could not be written: %s", self.job.id, failure)
        finally:
            self._jobs.ended(self.job.id)

    def _beat(self) -> None:
        """Say every few seconds that the job lives, and see whether it shall stop. In a thread of its own."""
        while not self._ended.wait(self._pause()):
            try:
                self._look()
                if self._lost:
                    return
                self._write(self.told())
                self._alive = self._clock.monotonic()
            except StoreError as error:
                logger.info("the job %s could not say that it lives: %s", self.job.id, error)
                self._stop_if_silent()

    def _write(self, job: Job) -> None:
        document = to_json(job)
        self._written.append(document)
        self._board.write_document(document, job.kind, self._number)
        self._written = [document]

    def _pause(self) -> float:
        runs = self._clock.monotonic() - self._begun
        # Never so seldom that one that fails is the last one before others take it for interrupted.
        return min(max(FIRST_BEAT, runs * _SHARE), LAST_BEAT, self._jobs._after / 10)

    def _look(self) -> None:
        self._stop_if_silent()
        kind = self.job.kind
        listing = self._board.listing(kind, since=self._number)
        if listing.newest(kind) > self._number or not (
            self._board.is_certain or self._board.is_still(kind, self._number, self._written)
        ):
            self._lose("another process took it over")
        if self._number in listing.cancelled[kind] and not self._cancelling:
            self._running.log("asked to stop")
            self.cancel()

    def _stop_if_silent(self) -> None:
        silent = self._clock.monotonic() - self._alive
        if silent > self._jobs._after - min(_MARGIN, self._jobs._after / 5):
            self._lose("it could not say that it lives for so long that another may have taken it over")

    def _lose(self, why: str) -> None:
        if not self._lost:
            logger.warning("the job %s stops here: %s", self.job.id, why)
        self._lost = True
        self._running.stop.set()


def _options(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """All options, those that are not given by default. Raises ValueError, which names one that is wrong."""
    unknown = sorted(set(given) - set(defaults))
    if unknown:
        known = ", ".join(defaults) or "none"
        raise ValueError(f"there is no option {unknown[0]!r}; there are: {known}")
    options = dict(defaults)
    for name, value in given.items():
        default = defaults[name]
        wanted: tuple[type, ...] = (int, float) if isinstance(default, float) else (type(default),)
        if default is None:
            wanted = (str, type(None))
        if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
            raise ValueError(f"{name} is {_named(default)}, and not {value!r}")
        options[name] = value
    return options


def _named(default: Any) -> str:
    if isinstance(default, bool):
        return "true or false"
    return "a number" if isinstance(default, int | float) else "a text"
