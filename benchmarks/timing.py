"""What is timed, and what is not."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence


def in_threads(works: Sequence[Callable[[], object]]) -> float:
    """Seconds from a common start to the end of the last one. An error of any of them is raised."""
    failures: list[BaseException] = []
    start = threading.Barrier(len(works) + 1)

    def run(work: Callable[[], object]) -> None:
        start.wait()
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    started = time.perf_counter()  # before the barrier opens: the workers may run before this thread does
    start.wait()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - started
    if failures:
        raise failures[0]
    return elapsed


def settle_disk() -> None:
    """Before what is timed: what was written before is not, so nothing that syncs need wait for it."""
    os.sync()
