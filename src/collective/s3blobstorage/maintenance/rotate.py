"""Bringing every object of a prefix to the encryption and the key that are written with now: ``s3blobs keys rotate``.

Plan → execute → report, beside a running site. The plan is a listing on the local disk; each object of it is looked at
once, and copied onto itself by the store where that is enough (``IObjectStore.protect``). Where it stands is written to
``keys/.rotation`` every few seconds, so that a run that was killed goes on there; what was done behind that is found
done, by one HEAD each. Nothing is deleted, and an object is whole under its key at any instant.

It holds gc's lease from before the listing until the end: one rotation or gc at a time for each prefix.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from ..encryption.register import RETIRED, SUPERSEDED, mode_of, read
from ..errors import (
    ConfigurationError,
    EncryptionKeyMissing,
    ObjectMissing,
    PreconditionFailed,
    Refused,
    StoreError,
    Unavailable,
    UnsafeError,
)
from ..keys import ROTATION
from ..objectstore.clock import Clock
from ..objectstore.interfaces import IObjectStore, Protected
from .findings import Count, Stopped
from .gc.control import read_control
from .gc.lease import Lease, kept_alive, leased
from .gc.margins import Margins
from .pace import Pace
from .parallel import in_parallel
from .usage import Failures, Line, Listing, Usage, keep_figures, listed

logger = logging.getLogger(__name__)

FORMAT = 1

# Objects after which all that are under way are waited for: of so many, what came of each is in memory at most.
_BATCH = 10_000
# Where so many were refused and none was rewritten, a policy is in the way and will be of all others.
_REFUSED_ALL = 100
# Keys that failed, of which a run that goes on tries each again. Where there are more it goes on before those.
_FAILED_KEPT = 1000


@dataclass
class Report:
    """What a rotation did, with what the run before it did where this one goes on.

    ``done``: by ``Protected.what`` (current, rewrapped, converted, left, gone), and their stored bytes. ``usage``:
    which modes and keys the objects need now. ``resumed``: behind which key this run began; "" where it did so at the
    beginning.
    """

    done: dict[str, Count] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    failures: Failures = field(default_factory=Failures)
    resumed: str = ""
    stopped: bool = False

    def count(self, what: str) -> Count:
        return self.done.get(what, Count())

    def note(self, line: Line, result: Protected) -> None:
        self.done.setdefault(result.what, Count()).add(result.before.size if result.before else 0)
        if result.after is not None:
            self.usage.add(line, result.after)


@dataclass
class Position:
    """Where a rotation stands: everything up to ``after`` is done but for ``failed``. ``target``: to what it brings."""

    target: str
    convert: bool
    after: str = ""
    failed: list[str] = field(default_factory=list)
    done: dict[str, Count] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)

    def to_json(self, at: datetime) -> bytes:
        told = {
            "format": FORMAT,
            "at": at.astimezone(UTC).replace(microsecond=0).isoformat(),
            "target": self.target,
            "convert": self.convert,
            "after": self.after,
            "failed": self.failed,
            "done": {what: [count.blobs, count.bytes] for what, count in self.done.items()},
            "usage": self.usage.to_json(),
        }
        return json.dumps(told, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Position | None:
        """None where it is of another format, or damaged: then a rotation begins at the beginning, and costs a HEAD
        more for each object that is done."""
        try:
            told = json.loads(data)
            if told["format"] != FORMAT:
                return None
            return cls(
                str(told["target"]),
                bool(told["convert"]),
                str(told["after"]),
                [str(key) for key in told["failed"]],
                {str(what): Count(int(blobs), int(size)) for what, (blobs, size) in told["done"].items()},
                Usage.from_json(told["usage"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


@dataclass
class Plan:
    """``position``: where an earlier run was broken off; ``listing``: what comes behind that. The caller closes it."""

    position: Position
    listing: Listing

    @property
    def objects(self) -> int:
        return self.listing.found.blobs + len(self.position.failed)

    @property
    def bytes(self) -> int:
        return self.listing.found.bytes

    def __enter__(self) -> Plan:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.listing.close()


@dataclass
class Rotation:
    """A rotation of one prefix to what ``store`` writes with. In the thread of the caller, but for the copies.

    ``convert``: also objects of another mode, or none. ``folder``: for files of objects that have to come here; None:
    the machine's temporary one. ``pace``: bytes a second, of what is copied or sent. ``save_every``: seconds between
    two writes of where it stands.
    """

    store: IObjectStore
    convert: bool = False
    concurrency: int = 8
    stop: threading.Event = field(default_factory=threading.Event)
    pace: Pace = field(default_factory=lambda: Pace(None))
    folder: Path | None = None
    clock: Clock = field(default_factory=Clock)
    margins: Margins = field(default_factory=Margins)
    save_every: float = 10.0

    @property
    def register(self) -> IObjectStore:
        return self.store.unencrypted()  # type: ignore[attr-defined]

    @property
    def target(self) -> str:
        """Mode and key that objects are brought to, as one text."""
        encryption = self.store.encryption
        name = encryption.name
        return f"{name} {encryption.ring.active.name}" if _writes_with_key(self.store) else name

    @contextmanager
    def leased(self) -> Iterator[Lease]:
        """Hold gc's lease. Raises Taken where a gc or another rotation runs, and UnsafeError or ConfigurationError
        where the key is not one to bring objects to."""
        refuse_former_key(self.store)
        with held(self.store, self.margins, self.clock) as lease:
            yield lease

    def plan(self, advance: Callable[[int], None] = lambda count: None) -> Plan:
        """List what is to be looked at, from where an earlier run was broken off. Raises Stopped.

        Under the lease: what runs now may be about to say that it has ended.
        """
        position = self._position()
        return Plan(position, listed(self.store, self.stop, after=position.after, advance=advance))

    def execute(
        self, plan: Plan, lease: Lease, advance: Callable[[int, int], None] = lambda blobs, size: None
    ) -> Report:
        """Look at each, and bring it to what is written with now. Under the lease that is held.

        ``advance(objects, bytes)`` after each, in the thread of the caller. After ``stop`` what is under way ends.
        Raises Unavailable where the store is out for longer than it is waited for, Taken where the lease is lost, and
        what reading a key raises: then, too, the next run goes on.
        """
        return _Execution(self, plan, lease, advance).run()

    def _position(self) -> Position:
        fresh = Position(self.target, self.convert)
        try:
            kept = Position.from_json(self.register.get_bytes(ROTATION, limit=1 << 24))
        except ObjectMissing:
            return fresh
        if kept is None or (kept.target, kept.convert) != (fresh.target, fresh.convert):
            return fresh
        return kept if kept.after or kept.failed else fresh


@contextmanager
def held(store: IObjectStore, margins: Margins, clock: Clock) -> Iterator[Lease]:
    """Hold gc's lease, however long it takes. Raises Taken."""
    with leased(store, margins, clock, read_control(store)) as lease, kept_alive(lease, margins):
        yield lease


def looked_at(
    store: IObjectStore,
    lines: Iterable[Line],
    stop: threading.Event,
    *,
    convert: bool,
    concurrency: int = 8,
    advance: Callable[[int, int], None] = lambda blobs, size: None,
) -> Report:
    """What a rotation from the beginning would do, by a HEAD of each. Writes nothing, and needs no lease."""
    report = Report()

    def look(line: Line) -> Protected:
        return store.protect(line.key, convert=convert, dry_run=True)

    with closing(in_parallel(lines, look, concurrency=concurrency, stop=stop, name="s3blobs-rotate")) as running:
        for line, future in running:
            result = _result(future)
            if isinstance(result, Exception):
                report.failures.add(line.key, result)
            else:
                report.note(line, result)
            advance(1, line.size)
    report.stopped = stop.is_set()
    return report


def rotate(store: IObjectStore, convert: bool, concurrency: int, limit_rate: int | None, running: Any) -> Report:
    """One rotation, from where an earlier one was broken off. ``running``: ``jobs/interfaces.py``. In the thread of the
    caller. ``limit_rate``: bytes a second. Raises as ``Rotation.execute``."""
    rotation = Rotation(store, convert, concurrency, running.stop, Pace(limit_rate))
    with rotation.leased() as lease:
        try:
            plan = rotation.plan(running.phase("listing the bucket"))
        except Stopped:
            return Report(stopped=True)
        with plan:
            return rotation.execute(plan, lease, running.phase("rotating", plan.objects))


def look(store: IObjectStore, convert: bool, concurrency: int, running: Any) -> Report:
    """What ``rotate`` from the beginning would do."""
    try:
        listing = listed(store, running.stop, advance=running.phase("listing the bucket"))
    except Stopped:
        return Report(stopped=True)
    with listing:
        advance = running.phase("looking", listing.found.blobs)
        return looked_at(store, listing, running.stop, convert=convert, concurrency=concurrency, advance=advance)


def _result(future: Future[Protected]) -> Protected | Exception:
    """What came of one object, where others go on whatever it is. Raises what ends the run."""
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, ObjectMissing):
        return Protected("gone")
    if isinstance(error, StoreError) and not isinstance(error, Unavailable):
        return error
    raise error


def refuse_former_key(store: IObjectStore) -> None:
    """Raise where the key that this configuration writes with was superseded or retired: it would turn the others'
    work back. One request, none where no key writes."""
    if not _writes_with_key(store):
        return
    id = store.encryption.ring.active_id
    entry = read(store.unencrypted(), id)  # type: ignore[attr-defined]
    if entry is None:
        raise ConfigurationError(
            f"active-key {id}: the bucket does not know this key, so nobody can tell whether others can read what is"
            f" encrypted with it: run `s3blobs keys add {id}` first"
        )
    if entry.state in (SUPERSEDED, RETIRED):
        raise UnsafeError(
            f"active-key {id}: this key is {entry.state} since {entry.since[entry.state]:%Y-%m-%d}; name the key that"
            f" is active now, or go back to this one with `s3blobs keys activate {id}`"
        )


def _writes_with_key(store: IObjectStore) -> bool:
    encryption = store.encryption
    ring = encryption.ring
    return ring is not None and mode_of(ring, ring.active_id, encryption.name) == encryption.name


class _Execution:
    def __init__(self, rotation: Rotation, plan: Plan, lease: Lease, advance: Callable[[int, int], None]) -> None:
        self._rotation = rotation
        self._lease = lease
        self._advance = advance
        self._plan = plan
        position = plan.position
        self._position = position
        self._report = Report(position.done, position.usage, resumed=position.after)
        self._saved = rotation.clock.monotonic()
        self._stands = False  # whether the position that is saved stays where it is

    def run(self) -> Report:
        report, rotation = self._report, self._rotation
        self._batch([Line(key, 0) for key in self._position.failed], moves=False)
        lines = iter(self._plan.listing)
        while not rotation.stop.is_set() and (batch := list(islice(lines, _BATCH))):
            self._batch(batch, moves=True)
        report.stopped = rotation.stop.is_set()
        if report.stopped:
            self._save()
        else:
            self._finish()
        return report

    def _batch(self, batch: list[Line], *, moves: bool) -> None:
        """What came of each is noted in the order of the listing: so the position has no gap behind it."""
        results: dict[int, Protected | Exception] = {}
        noted = 0
        rotation = self._rotation
        running = in_parallel(
            enumerate(batch),
            lambda task: self._protect(task[1]),
            concurrency=rotation.concurrency,
            stop=rotation.stop,
            name="s3blobs-rotate",
        )
        with closing(running):
            for (number, line), future in running:
                results[number] = _result(future)
                self._advance(1, line.size)
                while noted in results:
                    self._note(batch[noted], results.pop(noted), moves=moves)
                    noted += 1
                self._save_where_due()

    def _protect(self, line: Line) -> Protected:
        rotation = self._rotation

        def protect() -> Protected:
            self._lease.check()
            return rotation.store.protect(
                line.key, convert=rotation.convert, folder=rotation.folder, progress=rotation.pace.take
            )

        try:
            return protect()
        except PreconditionFailed:
            return protect()  # another one since it was looked at: an undo made its object, or another rotation did

    def _note(self, line: Line, result: Protected | Exception, *, moves: bool) -> None:
        report, failed = self._report, self._position.failed
        if isinstance(result, Exception):
            logger.warning("%r was not rotated: %s", line.key, result)
            report.failures.add(line.key, result)
            self._refuse_all(result)
            if moves and len(failed) < _FAILED_KEPT:
                failed.append(line.key)
            elif moves:
                self._stands = True
        else:
            report.note(line, result)
            if not moves:
                failed.remove(line.key)
        if moves:
            self._position.after = line.key

    def _refuse_all(self, error: Exception) -> None:
        if not isinstance(error, Refused) or isinstance(error, EncryptionKeyMissing):
            return
        report = self._report
        changed = report.count("rewrapped").blobs + report.count("converted").blobs
        if report.failures.by_kind == {"Refused": _REFUSED_ALL} and not changed:
            raise Refused(
                f"The object store refused to rewrite all of the first {_REFUSED_ALL} objects; allow s3:GetObject and"
                " s3:PutObject to these credentials, and give every key that objects were encrypted with a section in"
                " zope.conf."
            )

    def _save_where_due(self) -> None:
        now = self._rotation.clock.monotonic()
        if now - self._saved >= self._rotation.save_every:
            self._saved = now
            self._save()

    def _save(self) -> None:
        if self._stands:
            return
        self._lease.check()
        register = self._rotation.register
        register.put_bytes(ROTATION, self._position.to_json(register.now()))

    def _finish(self) -> None:
        """The next run begins at the beginning; what was found out of every object is kept for ``keys list``."""
        self._position, self._stands = Position(self._position.target, self._position.convert), False
        self._save()
        if not self._report.failures.count:
            keep_figures(self._rotation.register, self._report.usage)


def as_json(report: Report) -> dict[str, Any]:
    """The part of a document that every surface shows."""
    return {
        **{
            what: {"objects": report.count(what).blobs, "bytes": report.count(what).bytes}
            for what in ("rewrapped", "converted", "current", "left", "gone")
        },
        "failed": report.failures.by_kind,
        "failures": report.failures.first,
        "resumed_after": report.resumed or None,
        "usage": report.usage.to_json(),
        "stopped": report.stopped,
    }
