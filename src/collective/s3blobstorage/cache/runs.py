"""Bringing adjacent parts by one request, each of them of use as soon as its own bytes are here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import Corrupt, PreconditionFailed
from .downloads import DiskFailure
from .form import PartWriter
from .interfaces import IBlobSource
from .locks import FileLock

if TYPE_CHECKING:
    from .parts import BlobParts
    from .partstore import PartStore


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
        if failure is not None:
            raise failure  # a source that goes on nevertheless: what comes now belongs elsewhere
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


class _Enough(Exception):
    """Raised into a request at the border of a part: its rest is not needed, or not now. Never leaves this module."""


class Run:
    """One thread's way through parts in ascending order, of which no other thread of this process brings any.

    By one request for all, where they are adjacent and nobody else is at one of them. While no version of the blob is
    known a request is for one part: which version the bytes are of is known when the request ends, and until then no
    part can be entered.

    Locks between processes. A part is downloaded under its lock. Were the locks of all parts held for the whole length
    of the run, a process that needs the last part at once would wait for all of them; so a run takes each when it comes
    to the part. It never waits for one while its request is open, since the server would wait with it: where another
    process holds the next lock the request is given up at the border, and what is missing behind that part is asked for
    when the part is here. The next lock is taken before the part is entered, and so before its own is let go. So a
    process that comes behind, and waits for this part, finds the next one taken too when it goes on: it follows to the
    end of the run, and does not overtake it. It is not in the way either, since it has no request open. Two processes
    that read the blob side by side so make about one request per run, and one more for each run that one of them began
    within another's. No deadlock: who waits for a lock has none.

    ``arrived()`` is called after each part, when it is here; ``wanted()`` before each part: False ends the run.
    """

    def __init__(
        self,
        store: PartStore,
        parts: BlobParts,
        numbers: list[int],
        source: IBlobSource,
        arrived: Callable[[], None],
        wanted: Callable[[], bool],
    ) -> None:
        self._store = store
        self._parts = parts
        self._file = parts.file
        self._source = source
        self._numbers = numbers
        self._index = 0
        self._arrived = arrived
        self._wanted = wanted
        self._lock: FileLock | None = None  # of the part that it is at
        self._until = 0  # the first part that the request does not cover
        self._writer: PartWriter | None = None  # of the part that it is at, where some of it has arrived

    def bring(self) -> None:
        """Return when all parts are in the file, or nobody wants the rest.

        Raises what the source raises, and DiskFailure. The parts that arrived before that stay.
        """
        try:
            while self._index < len(self._numbers) and self._wanted():
                if self._parts.is_here(self._numbers[self._index]):
                    self._go_on(downloaded=False)
                elif self._lock is None:
                    # Looked for once more after this: another process may have brought it while we waited.
                    self._lock = self._store.take_part(self._parts.oid, self._parts.tid, self._numbers[self._index])
                else:
                    self._request()
        finally:
            self._let_go()

    def _request(self) -> None:
        part = self._numbers[self._index]
        self._until = self._reach()
        self._writer = None
        start, end = self._file.span(part)[0], self._file.span(self._until - 1)[1]
        try:
            validator = read_range(self._source, start, end, self._write, self._file.validator)
        except _Enough:
            return
        # The first parts are asked for before anybody knows a version, several at a time. The first that arrives says
        # which it is.
        if validator != self._file.validator:
            with self._store.lock(self._parts.oid, self._parts.tid, "map"):
                settled = self._file.settle(validator)
            if not settled:
                raise PreconditionFailed("The blob was rewritten while it was read.")
        self._go_on(downloaded=True)

    def _reach(self) -> int:
        """How far one request goes: to the first part that is not of this run, or is here already."""
        until = self._numbers[self._index] + 1
        if self._file.knows_version:
            for part in self._numbers[self._index + 1 :]:
                if part != until or self._parts.is_here(part):
                    break
                until += 1
        return until

    def _write(self, octets: memoryview, offset: int) -> None:
        self._store.check_open()
        while octets:
            part = self._numbers[self._index]
            end = self._file.span(part)[1]
            piece = octets[: end - offset]
            if self._writer is None:
                self._writer = self._file.writer(part)
            self._writer.write(piece)
            octets, offset = octets[len(piece) :], offset + len(piece)
            # The last part is entered when the request ended well.
            if offset == end and part + 1 < self._until:
                self._go_on(downloaded=True)
                if self._lock is None or not self._wanted() or self._parts.is_here(part + 1):
                    raise _Enough

    def _go_on(self, *, downloaded: bool) -> None:
        """The part is here: wake those who wait for it, and turn to the next one."""
        part = self._numbers[self._index]
        following = None
        if self._lock is not None and self._numbers[self._index + 1 : self._index + 2] == [part + 1]:
            with contextlib.suppress(DiskFailure):
                # Before the entry: who finds that the part is here goes on to the next one.
                following = self._store.take_part(self._parts.oid, self._parts.tid, part + 1, wait=False)
        try:
            if downloaded:
                self._enter(part)
            self._parts.note(part, self._source, downloaded=downloaded)
            self._index += 1
            self._arrived()
        finally:
            self._let_go()
            self._lock = following

    def _enter(self, part: int) -> None:
        start, end = self._file.span(part)
        assert self._writer is not None  # a part has a byte at least
        self._file.enter(part, self._writer.crc)
        self._writer = None
        self._store.count("parts")
        self._store.written(end - start)

    def _let_go(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            with contextlib.suppress(OSError):
                lock.release(remove=True)
