"""One piece of work per key at a time among the threads of a process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Flight(Generic[Result]):
    """The work for one key, from ``Flights.begin`` to the first of ``land``, ``fail`` and ``free``."""

    __slots__ = ("awaited", "key", "outcome")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.outcome: Future[tuple[bool, Result | None]] = Future()
        self.awaited = 0  # threads that wait for it


class Flights(Generic[Result]):
    """The first thread that asks for a key does the work; those that come meanwhile get its result or its error."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[Hashable, Flight[Result]] = {}

    def run(self, key: Hashable, work: Callable[[], Result], waiting: Callable[[], None]) -> Result:
        """``work()``, or what another thread's work for the same key returns or raises.

        ``waiting`` is called before the calling thread waits for another one.
        """
        while True:
            with self._lock:
                flight = self._flights.get(key)
                first = flight is None
                if first:
                    flight = self._flights[key] = Flight(key)
                else:
                    flight.awaited += 1
            try:
                if first:
                    return self._lead(flight, work)
                try:
                    waiting()
                    landed, result = flight.outcome.result()
                finally:
                    with self._lock:
                        flight.awaited -= 1
                if landed:
                    return result
            finally:
                del flight  # an error refers to this frame, and the flight to the error

    def _lead(self, flight: Flight[Result], work: Callable[[], Result]) -> Result:
        try:
            result = work()
        except BaseException as error:
            self.fail(flight, error)
            raise
        self.land(flight, result)
        return result

    # For work on several keys: whoever begins a flight ends it, whatever happens.

    def begin(self, key: Hashable) -> Flight[Result] | None:
        """The calling thread does the work for that key; None where another one does."""
        with self._lock:
            if key in self._flights:
                return None
            flight = self._flights[key] = Flight(key)
            return flight

    def land(self, flight: Flight[Result], result: Result) -> None:
        self._end(flight)
        flight.outcome.set_result((True, result))

    def fail(self, flight: Flight[Result], error: BaseException) -> None:
        """All who wait get the error. An interrupted thread (KeyboardInterrupt, SystemExit) says nothing about the
        work: then the others do it."""
        if not isinstance(error, Exception):
            self.free(flight)
            return
        self._end(flight)
        flight.outcome.set_exception(error)

    def free(self, flight: Flight[Result]) -> None:
        """It is not done, and nothing is wrong with it: one of those who wait does it."""
        self._end(flight)
        flight.outcome.set_result((False, None))

    def _end(self, flight: Flight[Result]) -> None:
        # Taken off before its outcome is known: whoever comes from now on tries again, and gets no old error.
        with self._lock:
            del self._flights[flight.key]
