"""One gc, or one rotation of keys, at a time for each prefix.

A lease is the object ``gc/lease/{number}``, made with ``If-None-Match: *``. The one with the highest number counts. It
is held while it has content and was written less than ``lease_life`` ago, and released by emptying it. Whoever wants it
makes the next number: of several that do, the store lets one. Numbers go up and the newest is never deleted, so a
process that slept since it looked cannot make one that is valid.

So a lease is also a condition: one that is taken with the number after the one that a plan saw proves that no other gc
has written the ledger since.

What rotates keys holds it too: it writes every object anew, so that a gc beside it would find other ETags and ages than
those that it planned with. So does fsck while it brings objects back.

Where the store does not keep the condition, each writes a claim ``gc/claim/{id}``, waits ``claim_wait``, and lists all:
of those that live the oldest goes on, the others go away. A claim is never written again, since its age decides;
``gc/claim/{id}.alive`` tells that its holder lives. This needs a listing that has what was written before it.

What neither can: stop a holder that was stopped (SIGSTOP, a frozen machine) between its last look at the clock and its
next request. Two that delete at one time still delete only what each has found unused just before.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta

from ...errors import PreconditionFailed, StoreError, UnsafeError
from ...keys import CLAIM
from ...objectstore.clock import Clock
from ...objectstore.interfaces import IObjectStore, Listed
from .control import Control, lease_key, read_control
from .margins import Margins

logger = logging.getLogger(__name__)

_ALIVE = ".alive"
_OTHER = "another gc of this prefix, or a rotation of its keys,"
_RUNS = f"{_OTHER} is running: run it again when that has ended"
_FASTER = f"{_OTHER} began meanwhile: run it again when that has ended"
# Numbers of other days are deleted (``execute.swept``): who looked longer ago than this looks again, so that it never
# makes one of those. Seconds.
_STALE = 3600.0
_RENEW = 0.25  # of lease_life: often enough that one failed renewal is no loss


class Taken(UnsafeError):
    """Another gc, or a rotation of keys, holds the lease, or was faster."""


class Lease:
    """Held by the one thread that has it. ``hold`` is called before everything that changes the bucket."""

    def __init__(self, store: IObjectStore, margins: Margins, clock: Clock, key: str, claim: bool) -> None:
        self._store = store
        self._margins = margins
        self._clock = clock
        self._key = key
        self._claim = claim
        self._renewed = clock.monotonic()

    def hold(self) -> None:
        """Renew it where that is due. Raises Taken where it may be somebody else's by now."""
        self.check()
        if self._clock.monotonic() - self._renewed > self._margins.lease_life * _RENEW:
            before = self._clock.monotonic()
            self._store.put_bytes(self._key + _ALIVE if self._claim else self._key, _who())
            self._renewed = before

    def check(self) -> None:
        """Raise Taken where it may be somebody else's by now. Any thread; makes no request."""
        if self._clock.monotonic() - self._renewed > self._margins.lease_life - self._margins.lease_margin:
            raise Taken("the lease was held for too long without a sign of life, and another may run: run it again")

    def release(self) -> None:
        """Let the next one in. A failure is logged: the lease ends by itself."""
        try:
            for key in (self._key, self._key + _ALIVE) if self._claim else (self._key,):
                self._store.put_bytes(key, b"")
        except StoreError as error:
            logger.warning("the lease of this prefix ends in %.0f s only: %s", self._margins.lease_life, error)


@contextmanager
def leased(store: IObjectStore, margins: Margins, clock: Clock, control: Control) -> Iterator[Lease]:
    """Hold the lease. ``control`` is what was read of the bucket: where another gc began since, Taken is raised."""
    lease = take(store, margins, clock, control)
    try:
        yield lease
    finally:
        lease.release()


@contextmanager
def kept_alive(lease: Lease, margins: Margins) -> Iterator[None]:
    """Hold the lease in a thread of its own, for work whose pieces may take longer than it lives: call its ``check``
    before each change. Joined at the end."""
    done = threading.Event()

    def keep() -> None:
        while not done.wait(margins.lease_life * _RENEW / 5):
            try:
                lease.hold()
            except Taken:
                return  # for good; ``check`` says so to everybody
            except StoreError as error:
                logger.warning("the lease of this prefix was not renewed, tried again: %s", error)

    keeper = threading.Thread(target=keep, name="s3blobs-lease", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        done.set()
        keeper.join()


def refuse_held(store: IObjectStore, margins: Margins) -> None:
    """Raise Taken where another holds it now. Takes nothing: for who needs it after hours of looking. Two requests."""
    control = read_control(store)
    if not store.conditional_put:  # type: ignore[attr-defined]
        if _living(control, margins):
            raise Taken(_RUNS)
        return
    newest = control.leases.get(control.generation)
    if newest is not None and _lives(newest, control, margins):
        raise Taken(_busy(newest, margins))


def take(store: IObjectStore, margins: Margins, clock: Clock, control: Control) -> Lease:
    if store.conditional_put:  # type: ignore[attr-defined]
        return _by_condition(store, margins, clock, control)
    return _by_claim(store, margins, clock)


def _by_condition(store: IObjectStore, margins: Margins, clock: Clock, control: Control) -> Lease:
    if (store.now() - control.now).total_seconds() > _STALE:
        fresh = read_control(store)
        if fresh.generation != control.generation:
            raise Taken(_FASTER)
        control = fresh
    newest = control.leases.get(control.generation)
    if newest is not None and _lives(newest, control, margins):
        raise Taken(_busy(newest, margins))
    lease = Lease(store, margins, clock, lease_key(control.generation + 1), claim=False)
    try:
        store.put_bytes(lease._key, _who(), if_absent=True)
    except PreconditionFailed:
        raise Taken(_FASTER) from None
    return lease


def _by_claim(store: IObjectStore, margins: Margins, clock: Clock) -> Lease:
    name = secrets.token_hex(16)
    lease = Lease(store, margins, clock, CLAIM + name, claim=True)
    try:
        store.put_bytes(lease._key, _who())
        clock.sleep(margins.claim_wait)
        control = read_control(store)
        lives = _living(control, margins)
        if not lives or min(lives)[1] != name:
            raise Taken(_RUNS)
    except BaseException:
        with suppress(StoreError):
            store.put_bytes(lease._key, b"")
        raise
    return lease


def _living(control: Control, margins: Margins) -> list[tuple[datetime, str]]:
    """Claims whose holder lives: when they were made, and their names."""
    claims = {key: line for key, line in control.claims.items() if not key.endswith(_ALIVE) and line.size}
    return [
        (line.last_modified, key)
        for key, line in claims.items()
        if _lives(line, control, margins)
        or (beat := control.claims.get(key + _ALIVE)) is not None
        and _lives(beat, control, margins)
    ]


def _lives(line: Listed, control: Control, margins: Margins) -> bool:
    return line.size > 0 and control.now - line.last_modified < timedelta(seconds=margins.lease_life)


def _busy(line: Listed, margins: Margins) -> str:
    ends = line.last_modified + timedelta(seconds=margins.lease_life)
    return f"{_OTHER} is running, or was killed: run it again when that has ended, or after {ends:%H:%M:%S} UTC"


def _who() -> bytes:
    """For people who look at the bucket: the machine's name and the process."""
    return json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode()
