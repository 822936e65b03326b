"""One piece of work per key at a time among the threads of a process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Flights(Generic[Result]):
    """The first thread that asks for a key does the work; those that come meanwhile get its result or its error."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[Hashable, Future[tuple[bool, Result | None]]] = {}

    def run(self, key: Hashable, work: Callable[[], Result], waiting: Callable[[], None]) -> Result:
        """``work()``, or what another thread's ``work`` for the same key returns or raises.

        ``waiting`` is called before the calling thread waits for another one.
        """
        while True:
            with self._lock:
                flight = self._flights.get(key)
                first = flight is None
                if first:
                    flight = self._flights[key] = Future()
            try:
                if first:
                    return self._lead(key, flight, work)
                waiting()
                landed, result = flight.result()
                if landed:
                    return result
            finally:
                del flight  # an error refers to this frame, and the flight to the error

    def _lead(self, key: Hashable, flight: Future[tuple[bool, Result | None]], work: Callable[[], Result]) -> Result:
        try:
            result = work()
        except BaseException as error:
            # Taken off first: whoever comes from now on tries again, and does not get an old error.
            with self._lock:
                del self._flights[key]
            if isinstance(error, Exception):
                flight.set_exception(error)
            else:
                # An interrupted thread (KeyboardInterrupt, SystemExit) says nothing about the work: the others do it.
                flight.set_result((False, None))
            raise
        with self._lock:
            del self._flights[key]
        flight.set_result((True, result))
        return result
