"""Sources of one blob, for tests of reading by parts: they count, and fail, stand still or lie as told."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zope.interface import implementer

from collective.s3blobstorage.cache.interfaces import IBlobSource
from collective.s3blobstorage.errors import PreconditionFailed

BLOCK = 4096


def parts_of(reads: list[tuple[int, int]], size: int) -> list[int]:
    return sorted(part for start, length in reads for part in range(start // size, -(-(start + length) // size)))


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

    def parts(self, size: int) -> list[int]:
        """The parts of that size that the requests were for, in order."""
        return parts_of(self.reads, size)

    described = None  # a request tells

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


@implementer(IBlobSource)
class FileSource:
    """A source for several processes: the blob is a file, and each read is a line in another one, ``log``.

    A line is ``start length pid``. What is delivered is a line in ``pieces``, of 64 KB at most. ``pause``: seconds
    before each piece.
    """

    def __init__(self, path: Path, log: Path, *, known: bool = True, pause: float = 0.0) -> None:
        self.path = path
        self.log = log
        self.pieces = log.with_suffix(".pieces")
        self.pause = pause
        with path.open("rb") as file:
            self.sha256 = hashlib.file_digest(file, "sha256").digest() if known else None

    described = None

    def describe(self) -> tuple[int, bytes | None]:
        return self.path.stat().st_size, self.sha256

    def download(self, file) -> None:
        self._note(self.log, "whole")
        with self.path.open("rb") as source:
            shutil.copyfileobj(source, file)

    def read(self, start, length, write, validator):
        self._note(self.log, f"{start} {length}")
        with self.path.open("rb") as file:
            file.seek(start)
            while length:
                time.sleep(self.pause)
                piece = file.read(min(length, 64 * 1024))
                self._note(self.pieces, f"{start} {len(piece)}")
                start, length = start + len(piece), length - len(piece)
                write(piece)
        return "v1"

    def _note(self, path: Path, line: str) -> None:
        with path.open("a") as log:  # one write at the end of the file: whole lines, whoever else writes
            log.write(f"{line} {os.getpid()}\n")

    def reads(self) -> list[tuple[int, int]]:
        return self._ranges(self.log)

    def delivered(self) -> list[tuple[int, int]]:
        return self._ranges(self.pieces)

    def _ranges(self, path: Path) -> list[tuple[int, int]]:
        lines = path.read_text().splitlines() if path.exists() else []
        return [(int(start), int(length)) for start, length, _ in map(str.split, lines)]

    def readers(self) -> set[str]:
        return {line.split()[2] for line in self.log.read_text().splitlines()}
