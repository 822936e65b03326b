"""What a process that may write tells of its database: ``gc/witness/{id}`` in the bucket.

For a configuration that was copied whole, owner included: two databases then believe that one prefix is theirs, and the
garbage of one is what the other needs. Garbage collection compares what the witnesses tell with the database that it is
given, and refuses where they cannot be of one (``maintenance/gc/witnesses.py``).

A witness is written by a thread of its own, off the path of commits: a minute after the storage was opened, within
seconds after the first blob was committed, and then hourly, also where nothing was committed: that a process which
lives does *not* know a transaction tells as much. JSON: ``format``; ``tid``, the last transaction that the process
knows; ``changed``, (tid, oid) of objects that its last transactions with blobs changed, the newest last. A database
that ever had such a transaction has those objects with that tid or a later one, or not any more; a copy has some with
an older one.
"""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..errors import RecordError, Refused, StoreError
from ..keys import WITNESS
from ..objectstore.interfaces import IObjectStore

logger = logging.getLogger(__name__)

FORMAT = 1
# So many changed objects are told of a transaction, and so many in all: of a copy that has changes of its own some are
# newer, which proves nothing.
EACH = 4
CHANGED = 20

# Seconds. The first: a script that ends within it and commits no blob leaves nothing. The second bounds how long a
# database that was copied stays unknown to the other; a PUT an hour costs half a cent a year.
FIRST = 60.0
EVERY = 3600.0
# What closing waits for a store that does not answer.
GRACE = 2.0

_DAMAGED = f"an object below {WITNESS} is damaged: `s3blobs adopt` shows which one, and deletes it"


class DamagedWitness(RecordError):
    """It is none, whatever else it is."""


@dataclass(frozen=True, slots=True)
class Witness:
    """``void``: its process copies transactions from elsewhere, whose tids tell nothing of when."""

    tid: bytes
    changed: tuple[tuple[bytes, bytes], ...] = ()
    void: bool = False

    def to_json(self) -> bytes:
        told = {
            "format": FORMAT,
            "tid": self.tid.hex(),
            "changed": [[tid.hex(), oid.hex()] for tid, oid in self.changed],
        }
        return json.dumps({**told, "void": True} if self.void else told).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Witness:
        """Raises RecordError where it is damaged or of a newer format."""
        try:
            told = json.loads(data)
            version = int(told["format"])
        except (ValueError, KeyError, TypeError):
            raise DamagedWitness(_DAMAGED) from None
        if version > FORMAT:
            raise RecordError(
                f"an object below {WITNESS} was written by a newer release of collective.s3blobstorage: upgrade this"
            )
        try:
            tid = bytes.fromhex(told["tid"])
            changed = tuple((bytes.fromhex(one), bytes.fromhex(oid)) for one, oid in told["changed"])
            void = bool(told.get("void"))
        except (ValueError, KeyError, TypeError):
            raise DamagedWitness(_DAMAGED) from None
        if any(len(value) != 8 for value in (tid, *(value for pair in changed for value in pair))):
            raise DamagedWitness(_DAMAGED)
        return cls(tid, changed, void)


class WitnessWriter:
    """Of one root storage that may write: its ``close`` calls ``finish`` and ``join``.

    ``last`` tells the last transaction that the database has for this process now; None where it cannot tell.
    """

    def __init__(self, store: IObjectStore, last: Callable[[], bytes | None]) -> None:
        self._store = store
        self._last = last
        self.id = uuid.uuid4().hex  # of the process, as far as others know it
        self._key = WITNESS + self.id
        self._lock = threading.Lock()
        self._changed: deque[tuple[bytes, bytes]] = deque(maxlen=CHANGED)
        self._committed = False
        self._void = False
        self._wanted = threading.Event()  # set where the thread shall look what to do before its time
        self._closing = False
        self._written = False
        self._refusal_told = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="s3blobs-witness", daemon=True)
        self._thread.start()

    def committed(self, tid: bytes, changed: Iterable[bytes]) -> None:
        """A blob was committed, and those objects were changed with it. Waits for nothing."""
        with self._lock:
            self._changed.extend((tid, oid) for oid in changed)
            self._committed = True
        if not self._written:
            self._wanted.set()

    def void(self) -> None:
        """Transactions are copied into the base: what this process could tell would mislead. Once and for ever."""
        if not self._void:
            self._void = True
            self._wanted.set()

    def finish(self) -> None:
        """Write what has to be known, if there is time for it. Then close the store, then ``join``."""
        self._closing = True
        self._wanted.set()
        if self._thread is not None:
            self._thread.join(GRACE)

    def join(self) -> None:
        """After the store was closed, which ends what the thread still tries to write; but for a request that hangs,
        whose time-out is minutes: a daemon's, so that nobody waits for it."""
        if self._thread is not None:
            self._thread.join(GRACE)

    def _run(self) -> None:
        pause = FIRST
        while True:
            self._wanted.wait(pause)
            self._wanted.clear()
            if self._closing and (self._written or not self._committed):
                return
            if self._void and not self._written:
                return
            self.write()
            if self._closing or self._void:
                return
            pause = EVERY

    def write(self) -> None:
        """One PUT. A failure is logged: the next one is tried in an hour."""
        try:
            # Before the transaction is asked for, so that it is not older than what is told of changes.
            with self._lock:
                changed = tuple(self._changed)
            tid = self._last()
            if tid is None:
                return
            self._store.put_bytes(self._key, Witness(tid, changed, self._void).to_json())
            self._written = True
        except Refused as error:
            level = logging.DEBUG if self._refusal_told else logging.WARNING
            self._refusal_told = True
            logger.log(
                level,
                "the store refuses to write below %s (s3:PutObject), so gc cannot tell a copy of this site by it: %s;"
                " said once per process and storage",
                WITNESS,
                error,
            )
        except StoreError as error:
            logger.info("what gc needs to know of this process (%s) was not written: %s", self._key, error)
        except Exception:
            logger.warning("what gc needs to know of this process (%s) was not written", self._key, exc_info=True)
