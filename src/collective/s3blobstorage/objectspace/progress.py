"""A callback that several threads call."""

from __future__ import annotations

import threading

from .interfaces import ProgressCallback


class Progress:
    """Calls ``callback`` for whichever threads send, one call at a time.

    Once it has raised it is called no more. Every thread that still sends gets the same exception, and so ends; what
    then takes back its count must not be stopped by a second one.
    """

    def __init__(self, callback: ProgressCallback) -> None:
        self._callback = callback
        self._lock = threading.Lock()
        self._raised: BaseException | None = None

    def __call__(self, count: int) -> None:
        with self._lock:
            if self._raised is not None:
                if count < 0:
                    return
                raise self._raised
            try:
                self._callback(count)
            except BaseException as error:
                self._raised = error
                raise


def guarded(callback: ProgressCallback | None) -> Progress | None:
    return None if callback is None else Progress(callback)
