"""A job that runs in this process: what its work reports, and what is written of it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from zope.interface import implementer

from ...errors import StoreError
from ...objectstore.redaction import redact
from .interfaces import IRunning, Job, LogLine, Progress

LINES = 100  # of the log: what a person reads; the process's own log has all
_LONGEST = 500  # characters of a line


@implementer(IRunning)
class Running:
    """See ``IRunning``. ``now`` tells the time of a line; ``keep`` writes findings, None: nobody knows the job."""

    def __init__(
        self,
        now: Callable[[], datetime],
        stop: threading.Event | None = None,
        keep: Callable[[bytes], None] | None = None,
    ) -> None:
        self.stop = stop or threading.Event()
        self._now = now
        self._keep = keep
        self._lock = threading.Lock()
        self._progress = Progress()
        self._lines: deque[LogLine] = deque(maxlen=LINES)

    def phase(self, name: str, total: int | None = None, total_bytes: int | None = None) -> Callable[..., None]:
        """Begin a phase; what counts its progress, which may be called from any thread, also when it has ended."""
        begun = Progress(name, 0, total, 0, total_bytes)
        with self._lock:
            self._progress = begun
        self.log(name)

        def advance(count: int, size: int = 0) -> None:
            with self._lock:
                current = self._progress
                if (current.phase, current.total, current.total_bytes) != (name, total, total_bytes):
                    return  # a thread that is late: another phase is counted by now
                self._progress = replace(current, done=current.done + count, done_bytes=current.done_bytes + size)

        return advance

    def log(self, message: str, level: str = "info") -> None:
        line = LogLine(self._now(), level, redact(message)[:_LONGEST])
        with self._lock:
            self._lines.append(line)

    def keep(self, findings: bytes) -> bool:
        if self._keep is None:
            return False
        try:
            self._keep(findings)
        except StoreError as error:
            self.log(f"not all that was found could be kept: {error}", "warning")
            return False
        return True

    def told(self, job: Job) -> Job:
        """The job with what was reported by now."""
        with self._lock:
            return replace(job, progress=self._progress, log=tuple(self._lines))


def begun_later(running: IRunning, name: str) -> Callable[..., None]:
    """What counts the progress of a phase that begins with the first call: of work that goes from one to the next by
    itself. One thread's."""
    advance: Callable[..., None] | None = None

    def first(count: int, size: int = 0) -> None:
        nonlocal advance
        if advance is None:
            advance = running.phase(name)
        advance(count, size)

    return first
