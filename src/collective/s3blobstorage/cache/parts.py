"""One blob's parts in this process: bringing them, checking them, and making a file of them when all are here."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import Corrupt, PreconditionFailed, Unavailable
from .downloads import DiskFailure
from .flights import Flights
from .interfaces import IBlobSource
from .partfile import PartFile

if TYPE_CHECKING:
    from .partstore import PartStore

logger = logging.getLogger(__name__)


def read_range(
    source: IBlobSource, start: int, end: int, write: Callable[[memoryview, int], None], validator: str | None
) -> str:
    """Pass the bytes from ``start`` to ``end`` to ``write(octets, offset)``, checked to be that many; the validator.

    What ``write`` raises is raised, whatever the source makes of it: it may take it for an error of the network.
    """
    position = start
    failure: BaseException | None = None

    def take(data: bytes | memoryview) -> None:
        nonlocal position, failure
        with memoryview(data) as view, view.cast("B") as octets:
            if position + len(octets) > end:
                raise Corrupt("The store delivered more bytes than were asked for.")
            try:
                write(octets, position)
            except BaseException as error:
                failure = error
                raise
            position += len(octets)

    try:
        found = source.read(start, end - start, take, validator)
    except Exception as error:
        if failure is None or failure is error:
            raise
        raise failure from error
    finally:
        raised, failure = failure, None  # an error refers to this frame
    if raised is not None:
        raise raised
    if position != end:
        raise Corrupt("The store delivered fewer bytes than were asked for.")
    return found


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
            self._flights.run(part, lambda: self._bring(part, source), lambda: self._store.count("waits"))

    def _bring(self, part: int, source: IBlobSource) -> None:
        here = self.is_here(part)
        if not here:
            with self._store.lock(self.oid, self.tid, str(part)):
                # Another process may have brought it while we waited for the lock.
                here = self.is_here(part)
                if not here:
                    self._download(part, source)
                    self._checked[part] = 1
        # Who downloaded the last part publishes; the others only keep up, for `verify`.
        if not here and self.file.is_full():
            self._store.submit(lambda: self.publish(source))
        elif self.file.sha256 is not None:
            self._store.submit(self._hash_on)

    def _download(self, part: int, source: IBlobSource) -> None:
        crc = 0

        def write(octets: memoryview, offset: int) -> None:
            nonlocal crc
            self._store.check_open()
            self.file.write(octets, offset)
            crc = zlib.crc32(octets, crc)

        self._store.count("parts")
        start, end = self.file.span(part)
        validator = read_range(source, start, end, write, self.file.validator)
        # The first parts are asked for before anybody knows a version, several at a time. The first that arrives says
        # which it is.
        if validator != self.file.validator:
            with self._store.lock(self.oid, self.tid, "map"):
                settled = self.file.settle(validator)
            if not settled:
                raise PreconditionFailed("The blob was rewritten while it was read.")
        self.file.enter(part, crc)
        self._store.written(end - start)

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
