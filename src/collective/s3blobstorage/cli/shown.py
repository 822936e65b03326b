"""What the work of a command reports: a bar on standard error for each phase, and, where it is a job, the job's own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from . import output


class Shown:
    """An ``IRunning`` (``maintenance/jobs/interfaces.py``). A context manager: the last bar goes when it is left.

    ``job``: the ``IRunning`` of the job that the command is, or None.
    """

    def __init__(self, stop: threading.Event, job: Any = None) -> None:
        self.stop = stop
        self._job = job
        self._stack = ExitStack()

    def __enter__(self) -> Shown:
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._stack.close()

    def phase(self, name: str, total: int | None = None, total_bytes: int | None = None) -> Callable[..., None]:
        self._stack.close()
        shown: AbstractContextManager[Any]
        if total is None:
            shown = output.counting(name)
        elif total_bytes is None:
            shown = output.advancing(name, total)
        else:
            shown = output.transferring(name, total, total_bytes)
        on_terminal = self._stack.enter_context(shown)
        told = None if self._job is None else self._job.phase(name, total, total_bytes)

        def advance(count: int, size: int = 0) -> None:
            if total is None:
                on_terminal(count)
            else:
                on_terminal(count, size)
            if told is not None:
                told(count, size)

        return advance

    def keep(self, findings: bytes) -> bool:
        return self._job is not None and self._job.keep(findings)

    def log(self, message: str, level: str = "info") -> None:
        if self._job is not None:
            self._job.log(message, level)
