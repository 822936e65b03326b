"""Which blobs were read, as each process notes it (``note-reads``): ``reads/{yyyymmdd}/{id of the process}``.

For ``s3blobs archive --unread-for``, which moves what nobody read. A blob counts as read by whoever asks for its bytes:
from the cache, from the bucket, or to be sent to them by address. Noting costs a set's ``add``; a thread of its own
writes at most hourly, and no request waits for it. What a killed process noted since it wrote last is lost.

A note is filed under the day on which it is written, never before the read. It may say that more was read than was, and
never less: where one process reads more than ``MOST`` blobs a day, oids lose their last digits, and their neighbours
count as read too. So neither memory nor the object grows.

The object: a line of JSON (``format``, ``shift``, ``count``), then, compressed by zlib, the oids without their last
``shift`` bits, sorted, as differences in LEB128 (seven bits a byte, the lowest first, the eighth says that more come).
"""

from __future__ import annotations

import json
import logging
import threading
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta

from ZODB.utils import u64

from ..errors import RecordError, StoreError
from ..keys import READS, read_note_key, reads_key
from ..objectstore.interfaces import IObjectStore

logger = logging.getLogger(__name__)

FORMAT = 1
# Of a day and process. In memory some 8 MB, and in the bucket at most 300 KB.
MOST = 100_000
LIMIT = 4 * 1024 * 1024  # bytes of an object that are read at most
# Seconds. The first note comes before the process's first witness, so that nobody finds a witness without notes.
FIRST = 30.0
EVERY = 3600.0
GRACE = 2.0  # what closing waits for a store that does not answer
# The longest time that is asked for, and a month.
LONGEST = 730
KEPT = LONGEST + 30  # days


class Oids:
    """A set of oids, of at most ``MOST`` members, which become ranges of oids where they would be more."""

    def __init__(self, shift: int = 0, members: Iterable[int] = ()) -> None:
        self.shift = shift
        self.members = set(members)

    def add(self, oid: int) -> None:
        self.members.add(oid >> self.shift)
        if len(self.members) > MOST:
            self._widen(self.shift + 4)

    def update(self, other: Oids) -> None:
        if other.shift > self.shift:
            self._widen(other.shift)
        more = self.shift - other.shift
        self.members |= other.members if not more else {member >> more for member in other.members}
        while len(self.members) > MOST:
            self._widen(self.shift + 4)

    def _widen(self, shift: int) -> None:
        more = shift - self.shift
        self.members = {member >> more for member in self.members}
        self.shift = shift

    def __contains__(self, oid: int) -> bool:
        return oid >> self.shift in self.members

    def __len__(self) -> int:
        return len(self.members)

    def to_bytes(self) -> bytes:
        told = {"format": FORMAT, "shift": self.shift, "count": len(self.members)}
        return json.dumps(told).encode() + b"\n" + zlib.compress(bytes(_differences(sorted(self.members))))

    @classmethod
    def from_bytes(cls, data: bytes) -> Oids:
        """Raises RecordError where it is damaged or of a newer format."""
        head, _, packed = data.partition(b"\n")
        try:
            told = json.loads(head)
            version, shift, count = int(told["format"]), int(told["shift"]), int(told["count"])
        except (ValueError, KeyError, TypeError):
            raise _damaged() from None
        if version > FORMAT:
            raise RecordError(
                f"an object below {READS} was written by a newer release of collective.s3blobstorage: upgrade this one"
            )
        try:
            # No more than what so many members can be, whatever the object claims.
            unpacker = zlib.decompressobj()
            found = cls(shift, _sums(unpacker.decompress(packed, 10 * MOST)))
        except (zlib.error, ValueError):
            raise _damaged() from None
        if len(found) != count or unpacker.unconsumed_tail or not 0 <= shift <= 64:
            raise _damaged()
        return found


def _differences(ordered: list[int]) -> Iterator[int]:
    last = 0
    for member in ordered:
        left, last = member - last, member
        while left > 127:
            yield left & 127 | 128
            left >>= 7
        yield left


def _sums(data: bytes) -> Iterator[int]:
    total = value = place = 0
    for byte in data:
        value |= (byte & 127) << place
        if byte & 128:
            place += 7
            if place > 63:
                raise ValueError("too long")
        else:
            total += value
            yield total
            value = place = 0
    if place:
        raise ValueError("cut off")


def _damaged() -> RecordError:
    return RecordError(f"an object below {READS} is damaged: delete it, and what was read that day is not known")


class ReadNotes:
    """Of one root storage that may write. ``note`` is called by any thread, all else as of ``WitnessWriter``.

    ``id``: of this process. ``now``: None is the machine's clock.
    """

    def __init__(self, store: IObjectStore, id: str = "", now: Callable[[], datetime] | None = None) -> None:
        self._store = store
        self._id = id or uuid.uuid4().hex
        self._now = now or (lambda: datetime.now(UTC))
        self._lock = threading.Lock()
        self._fresh = Oids()  # read since it was written last
        self._day = ""
        self._written = Oids()  # what the day's object has
        self._wanted = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="s3blobs-reads", daemon=True)
        self._thread.start()

    def note(self, oid: bytes) -> None:
        """Somebody reads that blob."""
        number = u64(oid)
        with self._lock:
            self._fresh.add(number)

    def finish(self) -> None:
        """Write what was noted, if there is time for it. Then close the store, then ``join``."""
        self._closing = True
        self._wanted.set()
        self.join()

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join(GRACE)

    def _run(self) -> None:
        pause = FIRST
        while not self._closing:
            self._wanted.wait(pause)
            # A process that ends has told of itself by then, also where it read nothing.
            if not self._closing or len(self._fresh) or not self._day:
                self.write()
            pause = EVERY

    def write(self) -> None:
        """One PUT, also where nothing was read: a day without notes proves nothing. On a new day what is too old goes.

        A failure is logged, and what was noted is written later.
        """
        with self._lock:
            fresh, self._fresh = self._fresh, Oids()
        today = f"{self._now():%Y%m%d}"
        is_new = today != self._day
        told = Oids() if is_new else Oids(self._written.shift, self._written.members)
        told.update(fresh)
        try:
            self._store.put_bytes(reads_key(today, self._id), told.to_bytes())
            self._day, self._written = today, told
            if is_new:
                self._sweep()
        except StoreError as error:
            logger.warning("which blobs were read (note-reads) was not written below %s: %s", READS, error)
            if self._written is not told:
                with self._lock:
                    self._fresh.update(fresh)

    def _sweep(self) -> None:
        oldest = f"{self._now() - timedelta(days=KEPT):%Y%m%d}"
        gone = []
        for line in self._store.list(READS):
            named = read_note_key(line.key)
            if named is not None and named[0] >= oldest:
                break  # they are sorted by day
            if named is not None:
                gone.append(line.key)
        if gone:
            self._store.delete(gone)


class NoNotes:
    """``note-reads off``."""

    def note(self, oid: bytes) -> None:
        pass

    def finish(self) -> None:
        pass

    def join(self) -> None:
        pass
