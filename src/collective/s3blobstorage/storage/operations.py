"""What a transaction will tell the base once it is voted on, in order.

A connection's writes are queued, so that the base's ``tpc_begin``, which on FileStorage takes the commit lock, waits
until every byte is uploaded. A large transaction spills to a temporary file.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import StagingError

# A transaction below this stays in memory; the same order of size as ZEO's client buffer holds. Plone's edits are
# some kilobytes, its imports and catalog rebuilds hundreds of megabytes.
MEMORY_BYTES = 8 * 1024 * 1024

# What an operation takes beside its record, for the sum that ``MEMORY_BYTES`` bounds.
_OVERHEAD = 100


class Operations:
    """An ordered list of (method name, arguments), in memory up to ``MEMORY_BYTES``, then in a temporary file.

    Used by the one thread that runs the transaction. Raises StagingError where the temporary file cannot be written:
    the commit fails before the base has begun.
    """

    __slots__ = ("_bytes", "_folder", "_recent", "_spilled")

    def __init__(self, folder: Callable[[], Path]):
        self._folder = folder  # asked for when it is needed: making sure of it costs more than a small transaction
        self._recent: list[tuple[str, tuple[Any, ...]]] = []
        self._bytes = 0
        self._spilled: Any = None

    def append(self, method: str, arguments: tuple[Any, ...], size: int = 0) -> None:
        """``size``: bytes of the record among the arguments."""
        self._recent.append((method, arguments))
        self._bytes += size + _OVERHEAD
        if self._bytes > MEMORY_BYTES:
            self._spill()

    def _spill(self) -> None:
        try:
            if self._spilled is None:
                self._spilled = tempfile.TemporaryFile(dir=self._folder())  # unnamed: nothing to sweep
            self._spilled.seek(0, os.SEEK_END)
            pickle.dump(self._recent, self._spilled, pickle.HIGHEST_PROTOCOL)
            self._spilled.flush()
        except OSError as error:
            raise StagingError(f"a large transaction could not be kept in staging-dir: {error.strerror}") from None
        self._recent = []
        self._bytes = 0

    def __iter__(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        return iter(self._recent) if self._spilled is None else self._all()

    def _all(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        end = self._spilled.seek(0, os.SEEK_END)
        self._spilled.seek(0)
        while self._spilled.tell() < end:
            yield from pickle.load(self._spilled)
        yield from self._recent

    def close(self) -> None:
        self._recent = []
        if self._spilled is not None:
            with contextlib.suppress(OSError):  # closing tries once more to write what the disk did not take
                self._spilled.close()
            self._spilled = None
