"""Many tasks, a few at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_parallel(
    tasks: Iterable[T], work: Callable[[T], R], *, concurrency: int, stop: threading.Event, name: str
) -> Iterator[tuple[T, Future[R]]]:
    """Yield each task with its future, which is done, as ``work(task)`` ends in a thread of a pool.

    Tasks are taken one by one, in the thread of the caller, and no more than run at a time. After ``stop``, or when the
    caller closes the iterator, none is taken any more, and those that run end.
    """
    waiting = iter(tasks)
    running: dict[Future[R], T] = {}
    with ThreadPoolExecutor(concurrency, thread_name_prefix=name) as pool:
        while True:
            while not stop.is_set() and len(running) < concurrency:
                try:
                    task = next(waiting)
                except StopIteration:
                    break
                running[pool.submit(work, task)] = task
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future
