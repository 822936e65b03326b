"""Ctrl-C in the middle of transfers: those that are under way end, what was done stays."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TypeVar

from . import output

INTERRUPTED = 130  # as shells count: 128 and the number of SIGINT

T = TypeVar("T")


def until_interrupted(work: Callable[[threading.Event], T], what: str) -> T:
    """``work(stop)`` in a thread; the first Ctrl-C asks it to stop, a second one ends the process. The main thread's.

    ``what`` is under way when it is stopped: ``downloads``. Returns, or raises, what ``work`` did.
    """
    stop, done = threading.Event(), threading.Event()
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work(stop))
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    threading.Thread(target=run, name="s3blobs-work", daemon=True).start()
    try:
        # Not join: interrupted, it takes the thread for ended from then on.
        while not done.wait(0.2):
            pass
    except KeyboardInterrupt:
        stop.set()
        output.complain(f"stopping after the {what} that are under way; Ctrl-C again to end at once")
        try:
            done.wait()
        except KeyboardInterrupt:
            # Python would wait for the pool's threads. What they leave is in this process's own folder, which the next
            # process sweeps, or an object that is whole or not there.
            os._exit(INTERRUPTED)
    if errors:
        raise errors[0]
    return results[0]
