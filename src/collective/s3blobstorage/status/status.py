"""The status of one storage that is open: what its bucket keeps, what processes counted, what the last check found."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from ..cache import history
from ..cache.counters import counted_since_made, of_cache
from ..errors import RecordError, StoreError, Unavailable
from ..maintenance.fsck.told import RUNS, Told, told_by
from ..maintenance.jobs.board import Board, latest_documents
from ..maintenance.key_states import told as told_keys
from ..objectstore import open_store, traffic
from ..objectstore.clock import Clock
from ..objectstore.trial import STEPS, Step, trial
from ..overlay.interfaces import ISourceSettings
from ..overlay.settings import S3Settings
from ..settings import StoreSettings
from ..storage.mirrored import read_mirrored
from ..storage.owner import read_marker
from . import checked, figures, requests
from .checking import Base, findings
from .dates import iso
from .interfaces import PATIENCE, IStatus
from .local_checks import Result
from .remembered import Remembered
from .use import CacheUse, MachineUse, both_uses

if TYPE_CHECKING:
    from ..storage.root import S3BlobStorage

# A check that people wait for: a store that does not answer by then is away for them. Seconds.
_CONNECT, _READ = 3.0, 5.0

# After so many seconds no check is begun: what one may still take then (two requests that hang), and deleting what was
# written (one more), ends within the half minute that is promised. So does keeping the result (two), begun by then.
_ENOUGH, _KEEP_BY = 12.0, 20.0

# How long the sum of a cache's files is good: it reads every folder of the cache. Seconds.
_USE_FRESH = 60.0

# For how long what an fsck found is good: reading it is a listing and a GET or two, of each process with editors.
_BROKEN_FRESH = 60.0  # seconds

_BASES = {"clientstorage": "zeoclient"}  # by the name of the class, where zope.conf has another one


@dataclass
class Kept:
    """What the bucket has, part by part; None: not known, or not there."""

    figures: dict[str, Any] | None = None
    outside: dict[str, Any] | None = None
    check: dict[str, Any] | None = None
    mirrored: dict[str, Any] | None = None
    keys: dict[str, Any] | None = None
    keys_error: str | None = None
    jobs: dict[str, Any] | None = None
    fsck: Mapping[str, Any] | None = None


class Known:
    """What is remembered of one storage, for all who look. Made once for each; any thread."""

    def __init__(self, storage: S3BlobStorage, clock: Clock | None = None) -> None:
        self.clock = clock = clock or Clock()
        self._storage = storage
        self._checks = Checks(storage.store_)

        def ended() -> bool:
            return storage.closed

        self.kept: Remembered[Kept] = Remembered(self._read, clock, ended=ended)
        self.use: Remembered[tuple[CacheUse | None, MachineUse]] = Remembered(
            lambda known: both_uses(storage.cache.layout, storage.settings.cache_size),
            clock,
            fresh=_USE_FRESH,
            ended=ended,
        )
        self.broken: Remembered[Told] = Remembered(
            lambda known: self._checks.told(), clock, fresh=_BROKEN_FRESH, ended=ended
        )
        self.checking = threading.Lock()  # one check at a time: they write to the same cache-dir and prefix
        self.check: dict[str, Any] | None = None  # the last one of this process, also where it could not be kept

    def join(self) -> None:
        """The storage is closed: nothing is read any more, see ``Remembered.join``."""
        self.kept.join()
        self.use.join()
        self.broken.join()

    def forget(self) -> None:
        """What the bucket keeps has changed: the next look reads it again."""
        self.kept.forget()
        self.broken.forget()

    @property
    def away(self) -> bool:
        """Whether the store did not answer when it was read last, or does not now."""
        return isinstance(self.kept.trouble, Unavailable) or self.kept.silent

    def _read(self, known: Kept | None) -> Kept:
        """Some ten requests, none of which lists blobs. What these credentials may not read, what is too large and what
        another release wrote stays as it was known, and hides nothing else. Raises Unavailable, and what was raised
        last where not one part could be read."""
        storage = self._storage
        store = storage.store_
        parts: dict[str, Callable[[], Any]] = {
            "figures": lambda: figures.read(store),
            "outside": lambda: figures.read_outside(store),
            "check": lambda: checked.read(store),
            "mirrored": lambda: _mirrored(store),
            "jobs": lambda: latest_documents(store),
            "fsck": lambda: self._checks.told().last,
            "keys": lambda: told_keys(store),
        }
        read: dict[str, Any] = {}
        failed: list[Exception] = []
        for name, ask in parts.items():
            try:
                read[name] = ask()
            except Unavailable:
                raise
            except (RecordError, StoreError) as error:  # damaged, a policy without keys/, …
                failed.append(error)
                if name == "keys":
                    read |= {"keys": None, "keys_error": str(error)}
            self.kept.heard()
        if len(failed) == len(parts):
            raise failed[-1]
        return replace(known or Kept(), **({"keys_error": None} | read))


@implementer(IStatus)
class Status:
    """See ``IStatus``. ``name``: of the database. ``writable``: False below a DemoStorage."""

    def __init__(self, storage: S3BlobStorage, known: Known, name: str, *, writable: bool) -> None:
        self._storage = storage
        self._known = known
        self._name = name
        self._writable = writable and not storage.isReadOnly()

    def document(self) -> dict[str, Any]:
        storage, known = self._storage, self._known
        began = known.clock.monotonic()
        known.use.begin()
        kept, read = known.kept.look()
        uses, _ = known.use.look(PATIENCE - (known.clock.monotonic() - began))
        kept = kept or Kept()
        settings, store = storage.settings, storage.store_
        check = max((one for one in (known.check, kept.check) if one), key=lambda one: one["at"], default=None)
        return {
            "database": self._name,
            "base": _base_name(storage),
            "at": _now(),
            "store": {
                "bucket": settings.store.bucket,
                "prefix": settings.store.prefix,
                "endpoint": settings.store.endpoint_url,
                "region": store.region,
                "provider": store.provider.title,
                "owner": settings.owner,
                "read_only": storage.isReadOnly(),
            },
            "reachable": store.reachable and not known.away,
            "read": iso(read),
            "encryption": self._encryption(kept),
            "sources": storage.sources().sources(),
            "mirrored": kept.mirrored,
            "check": check,
            "figures": kept.figures,
            "outside": kept.outside,
            **self._counted(uses),
            "jobs": kept.jobs,
            "fsck": kept.fsck and dict(kept.fsck),
            "covers": {"host": socket.gethostname(), "processes": storage.cache.processes()},
        }

    def broken(self) -> Mapping[tuple[str, str], Mapping[str, Any]]:
        told, _ = self._known.broken.look(0.0)
        return (told or Told()).findings

    def _encryption(self, kept: Kept) -> dict[str, Any]:
        encryption = self._storage.store_.encryption
        keys = kept.keys or {"keys": [], "counted": None, "usage": None}
        ring = encryption.ring
        active = next((key["id"] for key in keys["keys"] if key["writes"]), None)
        return {
            "mode": encryption.name,
            "required": encryption.required,
            "active_key": active or (None if ring is None else ring.active_id),
            **keys,
            "error": kept.keys_error,
            "key_max_age": self._storage.settings.key_max_age,
        }

    def _counted(self, uses: tuple[CacheUse | None, MachineUse] | None) -> dict[str, Any]:
        """``cache`` and ``requests``, of all processes of the machine; of this one where the disk is broken."""
        cache = self._storage.cache
        cache.counters.save()
        try:
            counters, since = counted_since_made(cache.layout)
        except OSError:
            return {"cache": None, "requests": self._of_this_process()}
        own, machine = uses or (None, None)
        told = {
            "folder": str(cache.layout.root),
            "files": None if own is None else own.files,
            "used": None if machine is None else machine.bytes,
            "bound": self._storage.settings.cache_size,
            "since": iso(datetime.fromtimestamp(since, UTC)),
            "counters": of_cache(counters),
            **history.told(history.read(cache.layout), counters, since),
        }
        return {"cache": told, "requests": requests.told(counters, since)}

    def _of_this_process(self) -> dict[str, Any]:
        counted = self._storage.store_.traffic
        return requests.told(counted.snapshot(), counted.began)

    def counters(self) -> dict[str, Any]:
        storage, store = self._storage, self._storage.store_
        return {
            "cache": storage.cache.counters.snapshot(),
            "used": storage.cache.estimate(),
            "bound": storage.settings.cache_size,
            "requests": traffic.read(store.traffic.snapshot()),
            "reachable": store.reachable,
            "circuit_open": store.circuit_open,
            "uploads": storage.uploads.running,
            "jobs": storage.running_jobs(),
        }

    def check(self) -> dict[str, Any]:
        storage = self._storage
        settings = replace(storage.settings, sources=tuple(map(_quick_source, storage.settings.sources)))
        base = Base(
            f"<s3blobstorage> around <{_base_name(storage)}>, database {self._name}",
            self._look,
            lambda: nullcontext(storage.base),
        )
        with self._known.checking, self._own_store() as store:
            began = time.monotonic()
            coming = findings(settings, store, base, writable=self._writable, started=began, until=began + _ENOUGH)
            with closing(coming):
                found = list(coming)
            took = time.monotonic() - began
            told = checked.document(found, took)
            # By the store's clock, as what is kept: the later one of two checks is shown.
            at = store.connection.time.now() or datetime.now(UTC)
            self._known.check = {"at": iso(at), **told}
            wrote = any(finding.name == "write" and finding.ok for finding in found)
            if self._writable and wrote and took < _KEEP_BY:
                try:
                    checked.keep(store, told, settings.owner)
                except (StoreError, RecordError):
                    pass  # this process shows it all the same
        self._known.kept.forget()
        return self._known.check

    def _look(self) -> tuple[Result, bytes | None]:
        kind = _base_name(self._storage)
        last = self._storage.last_known()
        if last is None:
            return (False, f"<{kind}> does not answer, or has no transaction", "start the database's server"), None
        return (True, f"<{kind}> answers", ""), last

    def trial(self) -> list[dict[str, Any]]:
        with self._known.checking, self._own_store() as store:
            try:
                marker = read_marker(store)
            except (StoreError, RecordError) as error:
                failed = Step(STEPS[0], False, 0.0, str(error))
                return [asdict(failed), *(asdict(Step(name, None, 0.0, "not tried")) for name in STEPS[1:])]
            ours = marker is not None and marker.owner == self._storage.settings.owner
            return [asdict(step) for step in trial(store, writable=self._writable and ours)]

    @contextmanager
    def _own_store(self) -> Iterator[Any]:
        """A store with connections of its own that does not wait long: what is measured corrects it, and nobody else's
        requests meet its time-outs."""
        with closing(open_store(_quick(self._storage.settings.store), read_only=not self._writable)) as store:
            yield store


def _quick(settings: StoreSettings) -> StoreSettings:
    """With time-outs that people wait for, and no patience."""
    connect, read = min(_CONNECT, settings.download_connect_timeout), min(_READ, settings.download_read_timeout)
    return replace(
        settings,
        outage_patience=0.0,
        connect_timeout=connect,
        read_timeout=read,
        download_connect_timeout=connect,
        download_read_timeout=read,
        download_max_attempts=1,
        download_deadline=min(4 * _READ, settings.download_deadline),
    )


def _quick_source(settings: ISourceSettings) -> ISourceSettings:
    return replace(settings, store=_quick(settings.store)) if isinstance(settings, S3Settings) else settings


class Checks:
    """What the last checks found. One request where none began or ended since it was told; any thread.

    Of a kind at most one runs, so the newest one is the only one that can be another than before.
    """

    def __init__(self, store: Any) -> None:
        self._board = Board(store)
        self._told: tuple[Any, Told] | None = None

    def told(self) -> Told:
        jobs = self._board.newest_first("fsck", RUNS)
        newest = next(jobs, None)
        known, at = self._told, newest and (newest.id, newest.state, newest.ended)
        if known is not None and known[0] == at:
            return known[1]
        told = told_by([] if newest is None else chain([newest], jobs), self._board.findings)
        self._told = at, told
        return told


def _mirrored(store: Any) -> dict[str, Any] | None:
    found = read_mirrored(store)
    return None if found is None else {"complete_up_to": found.tid.hex(), "sources": list(found.sources)}


def _base_name(storage: S3BlobStorage) -> str:
    """As zope.conf calls the storage inside."""
    name = type(storage.base).__name__.lower()
    return _BASES.get(name, name)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
