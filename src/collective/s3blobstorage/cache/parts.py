"""One blob's parts in this process: bringing them, checking them, and making a file of them when all are here."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import Corrupt, Unavailable
from .downloads import DiskFailure
from .flights import Flight, Flights
from .interfaces import IBlobSource
from .partfile import PartFile
from .runs import Run

if TYPE_CHECKING:
    from .partstore import PartStore

logger = logging.getLogger(__name__)


class BlobParts:
    """All readers of a revision in this process share one, and the cache keeps it only as long as they do.

    It belongs to one pair of files. Where those are given up (cut, rewritten in the store, wrong as a whole), so is the
    object: Lost, PreconditionFailed or Corrupt, and whoever goes on gets a new one from ``PartStore.attach``.
    """

    def __init__(self, store: PartStore, oid: bytes, tid: bytes, file: PartFile) -> None:
        self.oid = oid
        self.tid = tid
        self.file = file
        self.process = os.getpid()
        self._store = store
        self._flights: Flights[None] = Flights()
        # One byte per part: whether this process downloaded it or compared its CRC-32. Set, never unset.
        self._checked = bytearray(file.count)
        # Over the parts below _hashed. Whoever hashes holds _hashing.
        self._hash = hashlib.sha256()
        self._hashed = 0
        self._hashing = threading.Lock()
        self._whole = False
        self._corrupt = False
        self._publishing = threading.Lock()

    def is_usable(self) -> bool:
        """Whether somebody who opens the blob now may join."""
        return not self._corrupt and self.file.is_named()

    def is_here(self, part: int) -> bool:
        """Whether the part needs no download. Reads it, where this process did not yet."""
        if not self._checked[part] and self.file.check(part):
            self._checked[part] = 1
        return bool(self._checked[part])

    def bring(self, part: int, source: IBlobSource) -> None:
        """Return when the part is in the file, downloaded or checked by this process.

        One thread of the machine downloads it; those that come meanwhile wait, and get its error where they are in the
        same process. In another process one of them tries for itself.
        """
        if self._corrupt:
            raise self._wrong()
        if not self._checked[part]:
            self._flights.run(part, lambda: self._run([part], source), lambda: self._store.count("waits"))

    def claim(self, numbers: Iterable[int]) -> list[Flight[None]]:
        """Those of the parts that are missing and that no thread of this process brings: from now on the caller does.

        Whoever needs one waits until ``bring_all`` comes to it, or it is freed.
        """
        flights: list[Flight[None]] = []
        try:
            for part in numbers:
                flight = None if self._checked[part] else self._flights.begin(part)
                if flight is not None:
                    flights.append(flight)
        except BaseException:
            self.free(flights)
            raise
        return flights

    def free(self, flights: Iterable[Flight[None]]) -> None:
        for flight in flights:
            self._flights.free(flight)

    def bring_all(self, flights: list[Flight[None]], source: IBlobSource, wanted: Callable[[], bool]) -> None:
        """Bring the claimed parts, in order; those who wait for one go on as soon as it is here.

        Where a request breaks they get its error who wait for the part that it was at. What is behind it is free for
        others, and so is the rest at the first border where it is not ``wanted`` and nobody waits for any of it.
        """
        left = deque(flights)

        def arrived() -> None:
            self._flights.land(left.popleft(), None)

        def is_wanted() -> bool:
            # Who comes to wait after this was asked is freed, and brings the part.
            return wanted() or any(flight.awaited for flight in left)

        try:
            self._run([flight.key for flight in flights], source, arrived, is_wanted)
        except BaseException as error:
            if left:
                self._flights.fail(left.popleft(), error)
            raise
        finally:
            self.free(left)

    def _run(
        self,
        numbers: list[int],
        source: IBlobSource,
        arrived: Callable[[], None] = lambda: None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        Run(self._store, self, numbers, source, arrived, wanted).bring()

    def note(self, part: int, source: IBlobSource, *, downloaded: bool) -> None:
        """The part is in the file, brought by this process or by another one."""
        self._checked[part] = 1
        # Who downloaded the last part publishes; the others only keep up, for `verify`.
        if downloaded and self.file.is_full():
            self._store.submit(lambda: self.publish(source))
        elif self.file.sha256 is not None:
            self._store.submit(self._hash_on)

    def _hash_on(self) -> None:
        """In the background: hash what is here in order."""
        # Where another thread hashes, it comes to this part, or `verify` does.
        if self._hashing.acquire(blocking=False):
            try:
                while self._hashed < self.file.count and self._checked[self._hashed] and not self._store.closed:
                    self._hash_next()
            finally:
                self._hashing.release()

    def _hash_next(self) -> None:
        digest = self._hash.copy()  # so that a failure in the middle leaves what was before
        for block in self.file.blocks(self._hashed):
            digest.update(block)
        self._hash = digest
        self._hashed += 1

    def verify(self, source: IBlobSource) -> None:
        """Return when every part is here and the whole has its SHA-256, where that is known. Corrupt.

        Reads only what was not hashed while it arrived.
        """
        if self._whole:
            return
        with self._hashing:
            if self._corrupt:
                raise self._wrong()
            if self.file.is_sealed():
                self._whole = True  # another process did this
                return
            for part in range(self.file.count):
                self.bring(part, source)
                if self.file.sha256 is not None and part == self._hashed:
                    self._hash_next()
            if self.file.sha256 is not None and self._hash.digest() != self.file.sha256:
                logger.error(
                    "oid 0x%s tid 0x%s: the parts that the store delivered do not have the blob's SHA-256",
                    self.oid.hex(),
                    self.tid.hex(),
                )
                # First the files, then the readers: whoever gets the error and opens the blob again begins anew.
                with contextlib.suppress(DiskFailure, Unavailable):
                    self._store.discard(self)
                self._corrupt = True
                raise self._wrong()
            self._whole = True

    def _wrong(self) -> Corrupt:
        return Corrupt("The blob's bytes are not those that were stored.")

    def publish(self, source: IBlobSource) -> Path:
        """The complete file in its place, made of these parts where no other thread or process made it."""
        with self._publishing:
            path = self._store.find(self.oid, self.tid)
            if path is not None:
                return path
            self.verify(source)
            return self._store.publish(self)
