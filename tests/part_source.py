"""A source of one blob in memory, for tests of reading by parts: it counts, and fails, stands still or lies as told."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import Any

from zope.interface import implementer

from collective.s3blobstorage.cache.interfaces import IBlobSource
from collective.s3blobstorage.errors import PreconditionFailed

BLOCK = 4096


@implementer(IBlobSource)
class MemorySource:
    """``reads`` are the ranges that were asked for, ``moved`` the bytes that were passed on.

    ``before(start, length)`` and ``after(start, length)`` are called in each read, in the thread that reads; they may
    wait or raise. ``between``: the same, after each block.
    """

    def __init__(self, data: bytes, *, known: bool = True, version: str | None = "v1") -> None:
        self.data = data
        self.sha256 = hashlib.sha256(data).digest() if known else None
        self.version = version
        self.reads: list[tuple[int, int]] = []
        self.validators: list[str | None] = []
        self.downloads = self.descriptions = self.moved = 0
        self.before: Callable[[int, int], Any] = lambda start, length: None
        self.between = self.after = self.before
        self._lock = threading.Lock()

    @property
    def requests(self) -> int:
        return self.downloads + len(self.reads)

    def describe(self) -> tuple[int, bytes | None]:
        with self._lock:
            self.descriptions += 1
        return len(self.data), self.sha256

    def download(self, file) -> None:
        with self._lock:
            self.downloads += 1
            self.moved += len(self.data)
        file.write(self.data)

    def read(self, start, length, write, validator):
        assert 0 <= start and 0 < length and start + length <= len(self.data), "a range that is not of the blob"
        with self._lock:
            self.reads.append((start, length))
            self.validators.append(validator)
        self.before(start, length)
        if validator is not None and validator != self.version:
            raise PreconditionFailed("412")
        version, data = self.version, self.data
        for block in range(start, start + length, BLOCK):
            piece = data[block : min(block + BLOCK, start + length)]
            write(piece)
            with self._lock:
                self.moved += len(piece)
            self.between(start, length)
        self.after(start, length)
        return version
